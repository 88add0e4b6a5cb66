//! The Python tractorun from `PyPI`, unchanged, against the minicluster: its launcher submits, its bootstrap runs in
//! our jobs, and what it leaves is looked at through the official client.

use tractorun_tests::conformance::Script;
use tractorun_tests::{Cluster, Scratch};

mod heavy {
    use super::{Cluster, Scratch, Script};

    #[test]
    fn submits_and_trains() {
        let scratch = Scratch::new();
        let cluster = Cluster::start(&scratch);
        Script::new("python_tractorun/run.py", &cluster, &scratch).assert_passes();
    }
}
