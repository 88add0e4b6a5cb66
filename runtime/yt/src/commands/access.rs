//! Who somebody is and what they may do, and what time the cluster has.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ytsaurus_yson::YsonValue;

use crate::client::Client;
use crate::error::Error;
use crate::transport::call::Call;
use crate::value::{ValueExt, string};

/// Whether somebody may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// Yes.
    Allowed,
    /// No.
    Denied {
        /// The object whose access control list says so, as the cluster names it.
        object: Option<String>,
        /// Whom that list names.
        subject: Option<String>,
    },
}

/// Bits of a timestamp that only count within a second.
const COUNTER_BITS: u32 = 30;

impl Client {
    /// The user that the token stands for. Fails as every command does with a wrong token.
    pub async fn current_user(&self) -> Result<String, Error> {
        match self.execute_for_string(Call::read("get_current_user"), "user").await {
            // Older clusters do not have the command.
            Err(Error::Yt(_) | Error::Protocol { .. }) => self.whoami().await,
            answer => answer,
        }
    }

    /// Whether the user has the permission (`read`, `write`, `use`...) for the node at that path.
    pub async fn check_permission(
        &self,
        user: &str,
        permission: &str,
        path: &str,
    ) -> Result<Permission, Error> {
        let call = Call::read("check_permission")
            .scoped(self.scope())
            .with("user", string(user))
            .with("permission", string(permission))
            .with("path", string(path));
        let answer = self.execute(call).await?;
        let word = |name: &str| answer.get(name).and_then(YsonValue::as_str).map(str::to_owned);
        match word("action").as_deref() {
            Some("allow") => Ok(Permission::Allowed),
            Some("deny") => {
                Ok(Permission::Denied { object: word("object_name"), subject: word("subject_name") })
            }
            _ => Err(self.protocol_error("check_permission", "its answer has no `action`")),
        }
    }

    /// The cluster's own time, to the second.
    pub async fn cluster_time(&self) -> Result<SystemTime, Error> {
        let timestamp = self.execute_for(Call::read("generate_timestamp"), "timestamp").await?;
        match timestamp.as_uint() {
            Some(timestamp) => Ok(UNIX_EPOCH + Duration::from_secs(timestamp >> COUNTER_BITS)),
            None => Err(self.protocol_error("generate_timestamp", "its answer is not a number")),
        }
    }
}
