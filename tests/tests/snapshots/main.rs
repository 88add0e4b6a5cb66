//! Everything that a person is shown, as it looks: help and errors, in a pipe and on a terminal of 80 columns.
//!
//! The texts that are expected are the files in `tests/snapshots`, one for each call. Where one differs the test shows
//! the difference; if the new text is the better one, `make snapshots` takes it.

mod help;
mod init;
mod runs;
mod seen;
mod usage;
