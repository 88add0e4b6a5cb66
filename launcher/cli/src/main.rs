//! Runs distributed ML jobs on YTsaurus clusters, and on one laptop.

fn main() {}
