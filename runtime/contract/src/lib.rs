//! What the launcher and `tractorun-init` agree on, and nothing else.
//!
//! Everything here is a stable contract: the [`job_spec`] that travels as a file, the [`mod@env`] names read and
//! set, the [`cypress`] paths, the [`logs`] tables, the [`exit`] codes, and the [`failure`] record that a run leaves behind. The
//! crate does no IO and knows of no other crate of the project.

pub mod cypress;
pub mod env;
pub mod exit;
pub mod failure;
pub mod job_spec;
pub mod logs;
pub mod placement;
pub mod ranks;
pub mod secret;
pub mod sidecar;
pub mod topology;
