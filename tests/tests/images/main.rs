//! The images: built and run with podman, never pulling anything.
//!
//! Where there is no engine, or it cannot run a container here, the tests say that they were skipped and why. Those of
//! large images are ignored: `make images-test`.

// "skipped: ..." is meant for whoever reads the test's output.
#![allow(clippy::print_stdout)]

mod engine;

/// Named so that they run one at a time, and that a skip is shown.
mod heavy {
    mod images_alone;
    mod images_in_jobs;
}
