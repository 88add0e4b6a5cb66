//! What the end-to-end suites share: the built binaries, processes with deadlines, a minicluster, runs of the
//! launcher.
//!
//! The suites in `tests/tests/` run the binaries that are shipped and know nothing of their insides. They come from
//! the folder in `TRACTORUN_BIN_DIR` (`make test` names the release build), else from this build's own profile. A
//! missing binary fails the test; only the suite of the images may skip, and says why.
//!
//! Nothing here sleeps for a time and hopes: a test waits for a line, a file or an end, and every wait has a deadline
//! that fails with what was written so far.

pub mod bench;
pub mod binaries;
pub mod canary;
pub mod cluster;
pub mod conformance;
pub mod kept;
pub mod launcher;
pub mod leftovers;
pub mod log_tables;
pub mod nodes;
pub mod place;
pub mod process;
pub mod recorder;
pub mod scratch;
pub mod screen;
pub mod wire;

pub use cluster::Cluster;
pub use launcher::Launcher;
pub use nodes::Nodes;
pub use place::{MESHES, Place};
pub use process::{Finished, Running, run};
pub use scratch::Scratch;
pub use wire::Wire;
