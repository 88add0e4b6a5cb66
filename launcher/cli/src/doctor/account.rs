//! Who asks: the token, where it was found, and whom the cluster takes it for. Its value is never shown.

use tractorun_yt::{Client, ClientConfig, Error};

use super::finding::Finding;

/// Whom the cluster takes us for.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) finding: Finding,
    /// Nobody where the token is not accepted.
    pub(super) user: Option<String>,
}

/// Asks the cluster who we are.
pub(super) async fn access(config: &ClientConfig, client: &Client) -> Access {
    let place = match &config.token_place {
        Some(place) => format!("from {place}"),
        None => "there is none".to_owned(),
    };
    match client.current_user().await {
        Ok(user) if config.token.is_some() => {
            Access { finding: Finding::fine("token", format!("{place}, of user `{user}`")), user: Some(user) }
        }
        Ok(user) => Access {
            finding: Finding::fine(
                "token",
                format!("{place}; the cluster wants none and takes us for `{user}`"),
            ),
            user: Some(user),
        },
        Err(Error::Credentials { error, token_was_sent, .. }) => {
            let what = if token_was_sent { "does not accept it" } else { "wants one" };
            let text = format!("{place}, and the cluster {what}: {error}");
            let hint = "put a valid token into YT_TOKEN or into ~/.yt/token";
            Access { finding: Finding::wrong("token", text).hint(hint), user: None }
        }
        Err(error) => {
            let finding =
                Finding::wrong("token", format!("{place}; the cluster cannot say whose it is: {error}"));
            Access { finding, user: None }
        }
    }
}
