//! Prerequisites: what must still hold for a request to be done.

use super::{Cypress, Scope, YPath};
use crate::error::{YtError, code};
use crate::guid::Guid;

impl Cypress {
    /// Fails unless these transactions are alive.
    pub fn check_prerequisites(&self, transactions: &[Guid]) -> Result<(), YtError> {
        match transactions.iter().find(|id| !self.transactions.contains_key(id)) {
            None => Ok(()),
            Some(id) => Err(YtError::new(
                code::PREREQUISITE_CHECK_FAILED,
                format!("Prerequisite check failed: transaction {id} is missing"),
            )),
        }
    }

    /// Fails unless the node at this path has this revision.
    pub fn check_prerequisite_revision(
        &self,
        path: &str,
        scope: Scope<'_>,
        revision: u64,
    ) -> Result<(), YtError> {
        let failed = |what: String| {
            YtError::new(code::PREREQUISITE_CHECK_FAILED, format!("Prerequisite check failed: {what}"))
        };
        let id = self
            .resolve_node(&YPath::parse(path)?, scope)
            .map_err(|error| failed(format!("failed to resolve path {path}")).with_inner(error))?;
        let actual = self.state(self.existing(id)?, scope.transaction).stamps.revision();
        if actual == revision {
            Ok(())
        } else {
            Err(failed(format!("node {path} revision mismatch: expected {revision}, found {actual}")))
        }
    }
}
