//! A single-machine server of the YTsaurus HTTP API, with real jobs.

fn main() {}
