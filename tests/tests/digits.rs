//! The example trains for real: `PyTorch` on 2 nodes with 2 workers each reaches 90 % on the handwritten digits.

use tractorun_tests::{Finished, Place, binaries};

/// Share of the test images that must be recognised.
const WANTED: f64 = 0.90;

fn check(finished: &Finished) {
    finished.assert_code(0);
    let output = finished.output();
    let accuracy =
        output.lines().find_map(|line| line.split_once("test accuracy: ")).map(|(_, value)| value.trim());
    let accuracy: f64 =
        accuracy.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{}", finished.show()));
    assert!(accuracy >= WANTED, "test accuracy {accuracy} is below {WANTED}");
}

mod heavy {
    use super::{Place, binaries, check};

    #[test]
    fn local() {
        let place = Place::local();
        // As README and the quickstart say it: from the repository, by a relative path.
        let launcher = place.launcher().current_dir(binaries::repository().into());
        let launcher = launcher.args(["--proxy-stderr-mode", "primary"]).mesh((2, 2));
        check(&launcher.args([binaries::SYSTEM_PYTHON, "examples/digits_ddp.py"]).run());
        place.assert_nothing_left();
    }

    #[test]
    fn local_by_yaml() {
        let place = Place::local();
        let launcher = place.launcher().current_dir(binaries::repository().into());
        check(&launcher.args(["--run-config-path", "examples/digits_ddp.yaml"]).run());
    }

    #[test]
    fn submitted() {
        let place = Place::submitted();
        let launcher = place.launcher().current_dir(binaries::repository().into());
        check(&launcher.args(["--run-config-path", "examples/digits_ddp.yaml"]).run());
        assert_eq!(place.cluster().the_operation()["state"], "completed");
        place.assert_nothing_left();
    }
}
