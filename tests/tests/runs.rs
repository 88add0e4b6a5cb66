//! What a run gives its workers, and how its end becomes the launcher's end, on every mesh and in both places.

use std::collections::BTreeSet;

use tractorun_tests::{MESHES, Place, in_both_places};

in_both_places! {
    every_worker_knows_its_place
    success_is_success
    exits_with_the_code_of_the_worker_that_failed
    exits_with_128_plus_n_for_a_killed_worker
    one_failure_stops_every_worker_in_order
    says_that_a_command_is_not_found
    says_that_a_command_is_not_executable
    lines_carry_their_rank
    workers_start_with_nothing_but_their_own
}

fn every_worker_knows_its_place(place: &Place) {
    for (nodes, workers) in MESHES {
        let script = r#"printf '%s\n' "$NODE_RANK $LOCAL_RANK $RANK of $WORLD_SIZE, $LOCAL_WORLD_SIZE, $GROUP_RANK of \
$GROUP_WORLD_SIZE, $ROLE_RANK of $ROLE_WORLD_SIZE, $TORCHELASTIC_RESTART_COUNT, $JAX_PROCESS_ID of $JAX_NUM_PROCESSES" \
            "$MASTER_ADDR:$MASTER_PORT $JAX_COORDINATOR_ADDRESS" > "$SCRATCH/$WORLD_SIZE.$RANK""#;
        place.launcher().mesh((nodes, workers)).bash(script).run().assert_code(0);
        let world = nodes * workers;
        let mut masters = BTreeSet::new();
        for rank in 0..world {
            let (node, local) = (rank / workers, rank % workers);
            let said = place.scratch.wait_for_file(&format!("{world}.{rank}"));
            let (own, master) = said.trim_end().split_once('\n').expect("two lines");
            assert_eq!(
                own,
                format!(
                    "{node} {local} {rank} of {world}, {workers}, {node} of {nodes}, {rank} of {world}, 0, {rank} of {world}"
                )
            );
            masters.insert(master.to_owned());
        }
        let [master] = Vec::from_iter(masters).try_into().expect("all workers have the same master");
        let port =
            master.split_once(' ').and_then(|(master, _)| master.rsplit_once(':')).expect("host:port").1;
        assert!(port.parse::<u16>().expect("a port") > 0, "{master}");
    }
}

fn success_is_success(place: &Place) {
    for mesh in MESHES {
        place.launcher().mesh(mesh).bash("exit 0").run().assert_code(0);
    }
    place.assert_nothing_left();
}

/// All workers of the mesh meet at files, then the last rank does `end`; the others wait to be stopped.
fn meet_then_last_rank(end: &str) -> String {
    format!(
        r#"cd "$SCRATCH"; trap 'echo bye > "stopped.$WORLD_SIZE.$RANK"; exit 0' TERM
        touch "up.$WORLD_SIZE.$RANK"
        if [ $RANK = $((WORLD_SIZE - 1)) ]; then
            for rank in $(seq 0 $RANK); do until [ -e "up.$WORLD_SIZE.$rank" ]; do sleep 0.02; done; done
            echo "boom of rank $RANK" >&2
            {end}
        fi
        sleep 1000 & wait $!"#
    )
}

fn exits_with_the_code_of_the_worker_that_failed(place: &Place) {
    for mesh in MESHES {
        let finished = place.launcher().mesh(mesh).bash(&meet_then_last_rank("exit 7")).run();
        let (rank, node) = (mesh.0 * mesh.1 - 1, mesh.0 - 1);
        finished.assert_code(7).assert_stderr(&format!("rank {rank} on node {node}"));
        finished.assert_stderr("exited with code 7").assert_stderr(&format!("boom of rank {rank}"));
        place.assert_nothing_left();
    }
}

fn exits_with_128_plus_n_for_a_killed_worker(place: &Place) {
    for mesh in MESHES {
        let finished = place.launcher().mesh(mesh).bash(&meet_then_last_rank("kill -9 $$")).run();
        finished.assert_code(137).assert_stderr("was killed by SIGKILL");
        place.assert_nothing_left();
    }
}

fn one_failure_stops_every_worker_in_order(place: &Place) {
    place.launcher().mesh((2, 2)).bash(&meet_then_last_rank("exit 3")).run().assert_code(3);
    for rank in 0..3 {
        // Each had the time to say so: SIGTERM came first, and SIGKILL did not come.
        assert_eq!(place.scratch.wait_for_file(&format!("stopped.4.{rank}")), "bye\n");
    }
}

fn says_that_a_command_is_not_found(place: &Place) {
    let finished = place.launcher().mesh((2, 1)).arg("no-such-trainer").run();
    finished.assert_code(127).assert_stderr("no-such-trainer").assert_stderr("not found in PATH");
    place.assert_nothing_left();
}

fn says_that_a_command_is_not_executable(place: &Place) {
    let script = place.scratch.file("not-executable", "#!/bin/sh\n");
    let finished = place.launcher().arg(script).run();
    finished.assert_code(126).assert_stderr("not-executable").assert_stderr("Permission denied");
}

fn lines_carry_their_rank(place: &Place) {
    let script = r#"echo "out $RANK"; echo "err $RANK" >&2; printf 'no newline at the end'"#;
    let launcher = place.launcher().args(["--proxy-stderr-mode", "primary"]);
    let finished = launcher.mesh((2, 2)).bash(script).run();
    finished.assert_code(0);
    for rank in 0..2 {
        finished
            .assert_output(&format!("[{rank}] out {rank}\n"))
            .assert_output(&format!("[{rank}] err {rank}\n"));
        finished.assert_output(&format!("[{rank}] no newline at the end\n"));
    }
    if place.is_submitted() {
        let operation = place.cluster().the_operation();
        let stderrs = place.cluster().job_stderrs(&operation["id"]);
        for rank in 0..4 {
            let line = format!("[{rank}] err {rank}\n");
            assert_eq!(stderrs.iter().filter(|stderr| stderr.contains(&line)).count(), 1, "{stderrs:#?}");
        }
    }
}

fn workers_start_with_nothing_but_their_own(place: &Place) {
    // `ls` itself has 3 open: the folder that it reads.
    let script = r#"{
        echo "descriptors $(ls /proc/self/fd | tr '\n' ' ')"
        echo "input <$(cat)>"
        grep -E '^Sig(Blk|Ign)' /proc/self/status
        echo "own session $(ps -o sid= -p $$ | tr -d ' ') $$"
        env | grep -c '^YT_SECURE_VAULT' || true
    } > "$SCRATCH/it.part"; mv "$SCRATCH/it.part" "$SCRATCH/it""#;
    place.launcher().bash(script).run().assert_code(0);
    let said = place.scratch.wait_for_file("it");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0] == "descriptors 0 1 2 3 ", "{said}");
    assert!(lines[1] == "input <>", "{said}");
    assert!(lines[2].ends_with("\t0000000000000000") && lines[3].ends_with("\t0000000000000000"), "{said}");
    let ids: Vec<&str> = lines[4].split(' ').skip(2).collect();
    assert_eq!(ids[0], ids[1], "{said}");
    assert_eq!(lines[5], "0", "{said}");
}
