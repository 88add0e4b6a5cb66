//! Credentials for the Docker registry, from the Cypress document that the user keeps them in.

use tractorun_yt::value::{self, ValueExt};
use tractorun_yt::{YsonNode, YsonValue};

/// Credentials as the operation's secure vault wants them.
#[derive(Clone, PartialEq)]
pub struct DockerAuth {
    /// `{username; password}` or `{auth}`.
    pub vault_value: YsonValue,
    /// In which form they were found.
    pub form: Form,
}

/// How the document is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `{secrets: {<key>: {value: ..}}}`.
    Secrets,
    /// `{<key>: ..}`: works, but anything that lists the document shows it as it is.
    Plain,
}

/// The document is none of the forms. Its content is not shown: it may hold a secret.
#[derive(Debug, thiserror::Error)]
#[error(
    "docker_auth_secret: `{path}` holds no credentials\n\
     hint: it must be a document {{\"secrets\": {{\"username\": {{\"value\": \"...\"}}, \"password\": {{\"value\": \
     \"...\"}}}}}} or {{\"secrets\": {{\"auth\": {{\"value\": \"...\"}}}}}}"
)]
pub struct DockerAuthError {
    path: String,
}

/// Reads the document that lies at `path`.
pub fn parse(path: &str, document: &YsonValue) -> Result<DockerAuth, DockerAuthError> {
    let in_secrets = |key: &str| document.at(&["secrets", key, "value"]);
    let in_plain = |key: &str| document.get(key);
    if let Some(vault_value) = pick(&in_secrets) {
        return Ok(DockerAuth { vault_value, form: Form::Secrets });
    }
    match pick(&in_plain) {
        Some(vault_value) => Ok(DockerAuth { vault_value, form: Form::Plain }),
        None => Err(DockerAuthError { path: path.to_owned() }),
    }
}

fn pick<'a>(find: &dyn Fn(&str) -> Option<&'a YsonValue>) -> Option<YsonValue> {
    let text = |key: &str| find(key).filter(|value| matches!(value.node, YsonNode::String(_)));
    let entry = |key: &'static str| text(key).map(|value| (key, value.clone()));
    match (entry("username"), entry("password"), entry("auth")) {
        (Some(username), Some(password), auth) => {
            Some(value::map([username, password].into_iter().chain(auth)))
        }
        (_, _, Some(auth)) => Some(value::map([auth])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> YsonValue {
        value::map([("value", value::string(text))])
    }

    #[test]
    fn all_three_forms_are_read() {
        let pair =
            value::map([("secrets", value::map([("username", secret("me")), ("password", secret("p"))]))]);
        let auth = value::map([("secrets", value::map([("auth", secret("a"))]))]);
        let plain = value::map([("username", value::string("me")), ("password", value::string("p"))]);
        let expected = value::map([("username", value::string("me")), ("password", value::string("p"))]);
        let read = |document: &YsonValue| parse("//s", document).unwrap();
        assert!(read(&pair).vault_value == expected && read(&pair).form == Form::Secrets);
        assert!(read(&auth).vault_value == value::map([("auth", value::string("a"))]));
        assert!(read(&plain).vault_value == expected && read(&plain).form == Form::Plain);
    }

    #[test]
    fn anything_else_is_an_error_that_shows_the_form_and_not_the_content() {
        let half = value::map([("secrets", value::map([("password", secret("t0p"))]))]);
        let error = parse("//s", &half).err().unwrap().to_string();
        assert_eq!(
            error,
            "docker_auth_secret: `//s` holds no credentials\nhint: it must be a document {\"secrets\": \
             {\"username\": {\"value\": \"...\"}, \"password\": {\"value\": \"...\"}}} or {\"secrets\": {\"auth\": \
             {\"value\": \"...\"}}}"
        );
    }
}
