//! How large the binaries are: one travels with every job, one is downloaded to a laptop.

use tractorun_tests::bench::{Figure, Row, heading};
use tractorun_tests::binaries;

pub(crate) fn measure() {
    heading("Sizes of the binaries");
    for (name, path, goal) in [
        ("tractorun-init", binaries::init(), "6.0 MiB"),
        ("tractorun", binaries::tractorun(), ""),
        ("tractorun-minicluster", binaries::minicluster(), ""),
    ] {
        let bytes = std::fs::metadata(path).expect("the binary is there").len();
        Row::new(name, Figure::Bytes(bytes as f64)).goal(goal).print();
    }
}
