//! A failure is seen at once: the launcher ends within a second of the worker.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tractorun_tests::{MESHES, Place};

/// From the worker's end to the launcher's, in a release build.
const LIMIT: Duration = Duration::from_secs(1);

fn failure_is_prompt(place: &Place) {
    for mesh in MESHES {
        let script = r#"cd "$SCRATCH"; echo > "up.$WORLD_SIZE.$RANK"
            if [ $RANK = $((WORLD_SIZE - 1)) ]; then
                for rank in $(seq 0 $RANK); do until [ -e "up.$WORLD_SIZE.$rank" ]; do sleep 0.02; done; done
                date +%s.%N > "end.$WORLD_SIZE"; exit 7
            fi
            exec sleep 1000"#;
        place.launcher().mesh(mesh).bash(script).run().assert_code(7);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let end = fs::read_to_string(place.scratch.path(&format!("end.{}", mesh.0 * mesh.1)))
            .expect("it was written");
        let end = Duration::from_secs_f64(end.trim().parse().expect("seconds"));
        let took = now.checked_sub(end).expect("clocks agree");
        assert!(took < LIMIT, "the launcher ended {took:?} after the worker, on mesh {mesh:?}");
    }
}

mod timed {
    use super::{Place, failure_is_prompt};

    #[test]
    fn local() {
        failure_is_prompt(&Place::local());
    }

    #[test]
    fn submitted() {
        failure_is_prompt(&Place::submitted());
    }
}
