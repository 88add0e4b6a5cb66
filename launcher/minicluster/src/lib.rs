//! A single-machine server of the YTsaurus HTTP API, with real jobs.
//!
//! It owns what a cluster would: Cypress with its transactions and locks (`cypress`), the bytes behind it
//! (`storage`), operations and their jobs (`operations`), and the HTTP front in front of them (`http`,
//! `commands`). It knows nothing of tractorun, only of YT, and it refuses what it does not know.

pub mod error;
pub mod formats;
pub mod guid;
pub mod operations;
pub mod storage;
pub mod value;
