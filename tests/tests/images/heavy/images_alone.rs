//! Images without a job: what is in them, as whom they run, and that equal content is an equal image.

use tractorun_tests::Scratch;

use crate::engine::Engine;

/// Release of the images.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn commands_run_under_tractorun_init() {
    let engine = match Engine::prepare() {
        Ok(engine) => engine,
        Err(reason) => return println!("skipped: {reason}"),
    };
    engine
        .make(&["init", "base"], &[])
        .assert_code(0)
        .assert_stdout(&format!("built tractorun/init:{VERSION} with podman"))
        .assert_stdout(&format!("built tractorun/base:{VERSION} with podman"));

    // An image with nothing else in it.
    let version = engine.run("tractorun/init", &["--version"]);
    version.assert_code(0).assert_stdout("tractorun-init ");
    let nested = engine.run("tractorun/init", &["--", "/tractorun-init", "--version"]);
    nested.assert_code(0).assert_stdout("tractorun-init ");
    engine.run("tractorun/init", &["--", "/nothing"]).assert_code(127).assert_stderr("/nothing");

    // Debian with init as entrypoint: it is PID 1, codes pass, signals become 128 + n, orphans are reaped.
    let base = |script: &str| engine.run(&format!("tractorun/base:{VERSION}"), &["bash", "-c", script]);
    base("tr '\\0' ' ' < /proc/1/cmdline")
        .assert_code(0)
        .assert_stdout("/usr/local/bin/tractorun-init -- bash");
    base("exit 7").assert_code(7);
    base("kill -9 $$").assert_code(137);
    let reaped = "for i in 1 2 3 4 5; do ( true & ); done; \
                  until [ -z \"$(grep -l '^State:.*zombie' /proc/[0-9]*/status 2>/dev/null)\" ]; do :; done; echo clean";
    base(reaped).assert_code(0).assert_stdout("clean");
    engine.run("tractorun/base", &["no-such-command"]).assert_code(127).assert_stderr("no-such-command");

    // Nobody is root, and their home is theirs.
    base("id -u; id -un; pwd; touch ~/mine && ls ~; touch /etc/x 2>/dev/null || echo kept out")
        .assert_code(0)
        .assert_stdout("1000\ntractorun\n/home/tractorun\nmine\nkept out\n");
    base("tr '\\0' '\\n' < /etc/tractorun/env").assert_stdout("tractorun-env 1\nLANG=C.UTF-8\nPATH=");

    let label = |name: &str| {
        let template = format!("{{{{index .Labels \"org.opencontainers.image.{name}\"}}}}");
        engine.inspect("tractorun/base", &template)
    };
    assert_eq!(label("version"), VERSION);
    assert_eq!(label("licenses"), "Apache-2.0");
    assert_eq!(label("title"), "tractorun base");
    assert!(label("created").ends_with('Z'), "{}", label("created"));
    engine
        .make(&["bsae"], &[])
        .assert_code(2)
        .assert_stderr("error: there is no image `bsae`: expected init,");
}

#[test]
fn equal_content_is_an_equal_image() {
    let engine = match Engine::prepare() {
        Ok(engine) => engine,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let built = |prefix: &str| {
        let variables =
            [("PREFIX", prefix), ("SOURCE_DATE_EPOCH", "1700000000"), ("BUILD_OPTIONS", "--no-cache")];
        engine.make(&["base"], &variables).assert_code(0);
        let image = format!("{prefix}/base:{VERSION}");
        let known = engine.inspect(&image, "{{.RootFS.Layers}} {{.Id}} {{.Created.Unix}}");
        engine.call(&["rmi", &image, &format!("{prefix}/base:latest")]).assert_code(0);
        known
    };
    let first = built("tractorun-once");
    assert!(first.contains("sha256:") && first.ends_with(" 1700000000"), "{first}");
    // The second build is later, and its files were made later.
    assert_eq!(built("tractorun-again"), first);
}

#[test]
fn an_environment_is_saved_only_by_who_may() {
    let engine = match Engine::prepare() {
        Ok(engine) => engine,
        Err(reason) => return println!("skipped: {reason}"),
    };
    engine.make(&["base"], &[]).assert_code(0);
    let script = "tractorun-init save-env --to /etc/tractorun/env";
    engine
        .run("tractorun/base", &["bash", "-c", script])
        .assert_code(64)
        .assert_stderr("cannot write `/etc/tractorun/env`: Permission denied (os error 13)")
        .assert_stderr("hint: in a Dockerfile, run save-env before `USER`");
    // The lines of the README.
    let scratch = Scratch::new();
    engine.make(&["init"], &[]).assert_code(0);
    let own = "FROM localhost/tractorun-debian:12\nENV MODE=fast\n\
               COPY --from=tractorun/init /tractorun-init /usr/local/bin/\nRUN tractorun-init save-env\n";
    engine
        .build(&scratch, "tractorun-test/own", own)
        .assert_output("saved to /etc/tractorun/env: MODE, PATH\n");
}
