//! The `yt` command line of the official client, as a person types it, against the minicluster.

use tractorun_tests::conformance::Script;
use tractorun_tests::{Cluster, Scratch};

#[test]
fn as_a_person_types_it() {
    let scratch = Scratch::new();
    let cluster = Cluster::start(&scratch);
    Script::new("yt_cli/cli.py", &cluster, &scratch).assert_passes();
}
