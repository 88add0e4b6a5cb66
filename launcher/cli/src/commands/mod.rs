//! What `tractorun` does once it knows what is wanted: show it, run it on the cluster, or run it here.
//!
//! One file per way. Each takes checked settings and returns an [`ExitStatus`]; data goes to stdout, talk to
//! stderr. Nothing here parses options.

use crate::report::ExitStatus;
use crate::settings::Invocation;

/// Carries out one invocation and says how the program ends.
///
/// An error's text is complete, with a hint where there is one, and for a person.
pub fn run(invocation: &Invocation) -> anyhow::Result<ExitStatus> {
    let _ = invocation;
    todo!()
}
