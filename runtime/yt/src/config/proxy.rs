//! From what a person types as a proxy to a URL, as the official Python client does it.

use std::collections::BTreeMap;

use super::ConfigError;

/// What the text of a proxy is read with.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    /// Names that stand for another proxy.
    pub(super) aliases: &'a BTreeMap<String, String>,
    /// What a bare name is completed with.
    pub(super) suffix: &'a str,
    /// Whether a proxy without a scheme is reached by https.
    pub(super) prefer_https: bool,
}

/// The proxy's URL: scheme, host and perhaps a port, without a path.
pub(super) fn url(proxy: &str, rules: &Rules<'_>) -> Result<String, ConfigError> {
    let meant = rules.aliases.get(proxy).map_or(proxy, String::as_str);
    let bad =
        |reason: &str| ConfigError::BadProxy { proxy: without_credentials(proxy), reason: reason.to_owned() };

    let (scheme, rest) = match meant.split_once("//") {
        None => (None, meant),
        Some(("", rest)) => (None, rest),
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "http:" => (Some("http"), rest),
            "https:" => (Some("https"), rest),
            _ => return Err(bad("its scheme is neither http nor https")),
        },
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // Credentials in a URL are not how this API is entered; the Python client drops them too.
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = host_and_port(authority).map_err(bad)?;

    let is_bare_name =
        !host.contains(['.', ':']) && !host.contains("localhost") && port.is_none() && scheme.is_none();
    let suffix = if is_bare_name { rules.suffix } else { "" };
    let scheme = scheme.unwrap_or(if rules.prefer_https { "https" } else { "http" });
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let url = format!("{scheme}://{host}{suffix}{port}");
    reqwest::Url::parse(&url).map_err(|error| bad(&error.to_string()))?;
    Ok(url)
}

/// A text as it may be shown: somebody may have put a password before the `@` of a URL in it.
pub(super) fn without_credentials(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    // Behind each `//`, up to the path; a proxy may be written without it.
    while let Some(at) = rest.find('@') {
        let (before, behind) = rest.split_at(at);
        let credentials = before.rfind("//").map_or(0, |slashes| slashes + 2);
        shown += &before[..credentials];
        shown += "***";
        let end = behind.find('/').unwrap_or(behind.len());
        // A password with an `@` in it ends at the last one before the host.
        let host = behind[..end].rfind('@').unwrap_or(0);
        shown += &behind[host..end];
        rest = &behind[end..];
    }
    shown + rest
}

/// Splits `host:port` and `[v6]:port`; the brackets stay with the host.
fn host_and_port(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = if authority.starts_with('[') {
        let end = authority.find(']').ok_or("its IPv6 address has no closing bracket")?;
        let (host, rest) = authority.split_at(end + 1);
        match rest.strip_prefix(':') {
            Some(port) => (host, port),
            None if rest.is_empty() => (host, ""),
            None => return Err("there is text behind its IPv6 address"),
        }
    } else {
        match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address needs brackets"),
            Some((host, port)) => (host, port),
            None => (authority, ""),
        }
    };
    if host.is_empty() || host == "[]" {
        return Err("it names no host");
    }
    if host.contains(char::is_whitespace) {
        return Err("it has whitespace in it");
    }
    let port = if port.is_empty() {
        None
    } else {
        Some(port.parse().map_err(|_| "its port is not a number up to 65535")?)
    };
    Ok((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn credentials_are_not_shown() {
        for (text, shown) in [
            ("host:80", "host:80"),
            ("http://host/path", "http://host/path"),
            ("ftp://me:secret@host", "ftp://***@host"),
            ("me:secret@host:80", "***@host:80"),
            ("http://me:se@cret@host/x", "http://***@host/x"),
            (r#"{a="http://m:s@h/";b="//m:s@i"}"#, r#"{a="http://***@h/";b="//***@i"}"#),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }
}
