//! Start-up as far as it goes without a cluster.

use std::ffi::OsString;

use tractorun_contract::job_spec::{
    Bind, CypressBind, EnvScope, EnvSource, EnvVar, Lib, PartCount, RestartPolicy, Sidecar,
};
use tractorun_contract::topology::{Topology, WorkerAddress};

use super::config::tests::config_of;
use super::placement::Allotment;
use super::prepare::prepare_files;
use super::*;
use crate::control::Link;
use crate::driver::Clock;
use crate::metrics::Kind;

/// An archive whose `root` is a folder with one file, or a file.
fn archive(path: &Path, name: &str, content: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    std::fs::write(path, zstd::encode_all(builder.into_inner().unwrap().as_slice(), 1).unwrap()).unwrap();
}

fn config_in(sandbox: &Path) -> Config {
    let mut config = config_of(&[], |spec| {
        spec.binds = vec![Bind {
            archive: "bind-0.tar.zst".into(),
            destination: "code/train.py".into(),
            parts: PartCount::ONE,
        }];
        spec.libs = ["one", "two"]
            .map(|name| Lib { archive: format!("{name}.tar.zst"), name: name.into(), parts: PartCount::ONE })
            .to_vec();
        spec.cypress_binds =
            vec![CypressBind { file: "cypress-0".into(), destination: "code/data/weights".into() }];
    });
    sandbox.clone_into(&mut config.sandbox);
    sandbox.clone_into(&mut config.working_directory);
    archive(&sandbox.join("bind-0.tar.zst"), "root", "print()");
    archive(&sandbox.join("one.tar.zst"), "root/__init__.py", "ONE = 1");
    archive(&sandbox.join("two.tar.zst"), "root/__init__.py", "TWO = 2");
    std::fs::write(sandbox.join("cypress-0"), "weights").unwrap();
    config
}

#[tokio::test]
async fn files_are_where_they_were_asked_for_and_libraries_can_be_imported() {
    let sandbox = tempfile::tempdir().unwrap();
    let config = config_in(sandbox.path());
    let python_path = prepare_files(&config).await.unwrap();
    let read = |path: &str| std::fs::read_to_string(sandbox.path().join(path)).unwrap();
    assert_eq!(read("code/train.py"), "print()");
    assert_eq!(read("code/data/weights"), "weights");
    // `import one` looks for a folder `one` in an element of the path.
    assert_eq!(python_path.len(), 1);
    for (name, content) in [("one", "ONE = 1"), ("two", "TWO = 2")] {
        let module = python_path[0].join(name).join("__init__.py");
        assert_eq!(std::fs::read_to_string(module).unwrap(), content);
    }
}

#[tokio::test]
async fn every_worker_gets_its_own_plan() {
    let sandbox = tempfile::tempdir().unwrap();
    let config = config_in(sandbox.path());
    let workers = (0..8).map(|rank| WorkerAddress { address: format!("h:{rank}"), job_id: "j".into() });
    let topology = Topology { workers: workers.collect(), master_host: "h".into(), master_port: 1 };
    let (outbox, _) = tokio::sync::mpsc::unbounded_channel();
    let (_, inbox) = tokio::sync::mpsc::unbounded_channel();
    let link = Link { outbox, inbox };
    let membership = Membership {
        incarnation: 2,
        topology,
        metrics_targets: Vec::new(),
        link,
        hub: None,
        stop_requested: None,
        closer: rendezvous::Closer::default(),
    };
    let allotments = vec![Allotment::default(); config.mesh.process_per_node as usize];
    let plans = plan_workers(&config, &Environment::default(), &[], &[], &membership, &allotments).unwrap();
    assert_eq!(plans.iter().map(|plan| plan.rank).collect::<Vec<_>>(), [4, 5, 6, 7]);
    for (local_rank, plan) in (0..).zip(&plans) {
        assert_eq!(plan.local_rank, local_rank);
        assert_eq!(plan.working_directory, sandbox.path());
        let environment: Environment = plan.environment.iter().cloned().collect();
        let file = environment.get("TRACTO_CONFIG").unwrap();
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(json["self_index"], plan.rank);
        assert_eq!(environment.get("RANK").unwrap().to_str().unwrap(), plan.rank.to_string());
        assert_eq!(environment.get("YT_TOKEN").unwrap(), "t0ken");
        for shown in [format!("{plan:?}"), format!("{environment:?}")] {
            assert!(shown.contains("YT_TOKEN") && !shown.contains("t0ken"), "{shown}");
        }
    }
}

#[tokio::test]
async fn sidecars_get_what_is_not_for_the_workers_alone() {
    let variable = |name: &str, value: &str, scope| EnvVar {
        name: name.into(),
        source: EnvSource::Value(value.into()),
        scope,
    };
    let config = config_of(&[], |spec| {
        spec.env = vec![
            variable("MODE", "everybody's", EnvScope::Everybody),
            variable("KEY", "hidden", EnvScope::Workers),
            // The workers' own value does not hide the one that is for all.
            variable("MODE", "workers'", EnvScope::Workers),
        ];
        let sidecar =
            |name: &str, restart_policy| Sidecar { command: vec![name.into(), "-x".into()], restart_policy };
        spec.sidecars = vec![sidecar("a", RestartPolicy::Fail), sidecar("b", RestartPolicy::Never)];
    });
    let user: Vec<(OsString, OsString)> = [("MODE", "everybody's"), ("KEY", "hidden"), ("MODE", "workers'")]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
    let topology = Topology { workers: Vec::new(), master_host: "h".into(), master_port: 1 };
    let (outbox, _) = tokio::sync::mpsc::unbounded_channel();
    let (_, inbox) = tokio::sync::mpsc::unbounded_channel();
    let link = Link { outbox, inbox };
    let membership = Membership {
        incarnation: 0,
        topology,
        metrics_targets: Vec::new(),
        link,
        hub: None,
        stop_requested: None,
        closer: rendezvous::Closer::default(),
    };
    let plans = plan_sidecars(&config, &Environment::default(), &user, &[], &membership).unwrap();
    let policies: Vec<_> = plans.iter().map(|plan| plan.restart_policy).collect();
    assert_eq!(policies, [RestartPolicy::Fail, RestartPolicy::Never]);
    assert_eq!(plans[1].command, ["b", "-x"]);
    for plan in &plans {
        let environment: Environment = plan.environment.iter().cloned().collect();
        assert_eq!(environment.get("MODE").unwrap(), "everybody's");
        assert_eq!(environment.get("KEY"), None);
        let shown = format!("{plan:?}");
        assert!(shown.contains("YT_TOKEN") && !shown.contains("t0ken"), "{shown}");
    }
}

#[tokio::test]
async fn a_node_that_cannot_begin_says_so_before_it_asks_the_cluster() {
    let sandbox = tempfile::tempdir().unwrap();
    let failure = async |variables: &[(&str, &str)]| {
        let environment = variables.iter().copied().collect();
        let (monitor, _questions) = Monitor::new(Kind::Job, Clock::start());
        let (_nobody_stops, stops) = mpsc::unbounded_channel();
        let error =
            StartUpError(start_up_in(&environment, sandbox.path(), &monitor, stops).await.unwrap_err());
        (error.exit_code(), error.to_string())
    };
    let (code, text) = failure(&[]).await;
    assert_eq!(code, 64);
    assert_eq!(text, "bad configuration: TRACTORUN_JOB_SPEC: not set: expected the path of the job spec");

    let spec = include_str!("../../../contract/testdata/job_spec_1_0.json").replace("\"API_KEY\"", "\"KEY\"");
    // No secret to read, no GPUs to find, and an archive that is not there.
    let spec = spec.replace("\"gpu_per_process\": 1", "\"gpu_per_process\": 0");
    let spec = spec.replace("\"cypress_path\": \"//tmp/secret\"", "\"value\": \"v\"");
    std::fs::write(sandbox.path().join("spec"), spec).unwrap();
    let (code, text) = failure(&[
        ("TRACTORUN_JOB_SPEC", "spec"),
        ("YT_OPERATION_ID", "1-2-3-4"),
        ("YT_JOB_ID", "5-6-7-8"),
        ("YT_JOB_COOKIE", "0"),
        ("YT_PORT_0", "1"),
        ("YT_PORT_1", "2"),
        ("YT_PORT_2", "3"),
        ("YT_PORT_3", "4"),
        ("YT_PORT_4", "5"),
    ])
    .await;
    let archive = sandbox.path().join("bind-0.tar.zst");
    assert_eq!(code, 64);
    assert_eq!(
        text,
        format!("cannot unpack `{}`: No such file or directory (os error 2)", archive.display())
    );
}
