//! What must travel with a job arrives: local files and folders, Python libraries, Cypress files, map nodes and links,
//! the user's config and environment.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::json;
use tractorun_tests::{Place, binaries, in_both_places};

in_both_places! {
    local_files_and_folders_arrive
    local_libraries_can_be_imported
    user_config_and_environment_arrive
}

fn local_files_and_folders_arrive(place: &Place) {
    let scratch = &place.scratch;
    scratch.file("source/one.txt", "one\n");
    let tool = scratch.file("source/folder/bin/tool", "#!/bin/sh\necho tool runs\n");
    fs::set_permissions(tool, fs::Permissions::from_mode(0o755)).expect("ours");
    scratch.file("source/folder/deep/er/two.txt", "two\n");
    fs::create_dir(scratch.path("source/folder/empty")).expect("a new folder");
    symlink("deep/er/two.txt", scratch.path("source/folder/link")).expect("a new link");

    let script = r#"{ cat placed/first.txt; cat data/deep/er/two.txt; data/bin/tool; readlink data/link
        test -d data/empty && echo empty is there; } > "$SCRATCH/said.part" 2>&1; mv "$SCRATCH/said.part" "$SCRATCH/said""#;
    let finished = place
        .launcher()
        .args(["--bind-local", "./source/one.txt:placed/first.txt"])
        .args([
            "--bind-local",
            &json!({ "source": scratch.text("source/folder"), "destination": "data" }).to_string(),
        ])
        .bash(script)
        .run();
    finished.assert_code(0);
    assert_eq!(scratch.wait_for_file("said"), "one\ntwo\ntool runs\ndeep/er/two.txt\nempty is there\n");
}

fn local_libraries_can_be_imported(place: &Place) {
    place.scratch.file("libs/greeting/__init__.py", "from .words import HELLO\n");
    place.scratch.file("libs/greeting/words.py", "HELLO = 'hello from the library'\n");
    place.scratch.file("libs/other/__init__.py", "ANSWER = 42\n");
    let code = "import os, greeting, other; \
                print(greeting.HELLO, other.ANSWER, file=open(os.environ['SCRATCH'] + '/said', 'w'))";
    place
        .launcher()
        .args(["--bind-local-lib", "libs/greeting", "--bind-local-lib", &place.scratch.text("libs/other")])
        .args([binaries::SYSTEM_PYTHON, "-c", code])
        .run()
        .assert_code(0);
    assert_eq!(place.scratch.wait_for_file("said"), "hello from the library 42\n");
}

fn user_config_and_environment_arrive(place: &Place) {
    let config = json!({ "a": "b", "nested": { "list": [1, 2.5, null, true], "text": "мир \" \\ '" } });
    place
        .launcher()
        .args(["--user-config", &config.to_string()])
        .worker_env("PLAIN", "a b=c \"d\" $HOME")
        .worker_env("RANK", "77")
        .worker_env("TWICE", "first")
        .worker_env("TWICE", "second")
        .bash(r#"printf '%s\n' "$PLAIN" "$RANK" "$TWICE" > "$SCRATCH/env"; echo "$YT_USER_CONFIG" > "$SCRATCH/config""#)
        .run()
        .assert_code(0);
    // The user's own wins over what was there, never over the rank.
    assert_eq!(place.scratch.wait_for_file("env"), "a b=c \"d\" $HOME\n0\nsecond\n");
    let arrived: serde_json::Value =
        serde_json::from_str(&place.scratch.wait_for_file("config")).expect("JSON");
    assert_eq!(arrived, config);
}

fn with_cluster() -> [Place; 2] {
    [Place::submitted(), Place::local_with_cluster()]
}

#[test]
fn environment_by_cypress_path_arrives() {
    for place in with_cluster() {
        place.cluster().create("document", "//tmp/secret", &json!({ "value": "from the document" }));
        place.cluster().create("string_node", "//tmp/text", &json!({ "value": "from the string" }));
        let finished = place
            .launcher()
            .args(["--env", r#"{"name": "DOCUMENT", "cypress_path": "//tmp/secret"}"#])
            .args(["--env", r#"{"name": "TEXT", "cypress_path": "//tmp/text"}"#])
            .bash(r#"printf '%s\n' "$DOCUMENT" "$TEXT" > "$SCRATCH/said""#)
            .run();
        finished.assert_code(0);
        assert_eq!(place.scratch.wait_for_file("said"), "from the document\nfrom the string\n");
        let finished = place
            .launcher()
            .args(["--env", r#"{"name": "A", "cypress_path": "//tmp/nowhere"}"#])
            .arg("true")
            .run();
        finished.assert_code(64).assert_stderr("//tmp/nowhere");
    }
}

#[test]
fn cypress_files_map_nodes_and_links_arrive() {
    for place in with_cluster() {
        let cluster = place.cluster();
        cluster.write_file("//tmp/data/file", b"a file\n");
        cluster.write_file("//tmp/data/folder/one", b"one\n");
        cluster.write_file("//tmp/data/folder/deep/two", b"two\n");
        cluster.create("document", "//tmp/data/folder/document", &json!({ "value": 1 }));
        cluster.write_file("//tmp/data/tool", b"#!/bin/sh\necho tool runs\n");
        cluster.create("link", "//tmp/data/link", &json!({ "target_path": "//tmp/data/file" }));
        cluster.create("link", "//tmp/data/folder_link", &json!({ "target_path": "//tmp/data/folder" }));
        let tool = json!({
            "source": "//tmp/data/tool",
            "destination": "bin/tool",
            "attributes": { "executable": true, "format": null, "bypass_artifact_cache": false },
        });
        let script = r#"{ cat file folder/one folder/deep/two by-link by-folder-link/deep/two; bin/tool
            ls folder; } > "$SCRATCH/said.part" 2>&1; mv "$SCRATCH/said.part" "$SCRATCH/said""#;
        let finished = place
            .launcher()
            .args(["--bind-cypress", "//tmp/data/file:file", "--bind-cypress", "//tmp/data/folder:folder"])
            .args(["--bind-cypress", "//tmp/data/link:by-link"])
            .args(["--bind-cypress", "//tmp/data/folder_link:by-folder-link"])
            .args(["--bind-cypress", &tool.to_string()])
            .bash(script)
            .run();
        finished.assert_code(0);
        // What is no file inside a map node is left out, and said.
        finished.assert_stderr("//tmp/data/folder/document");
        let said = place.scratch.wait_for_file("said");
        assert_eq!(said, "a file\none\ntwo\na file\ntwo\ntool runs\ndeep\none\n", "{}", finished.show());
    }
}

#[test]
fn absolute_destinations_are_absolute() {
    let place = Place::submitted();
    let destination = place.scratch.text("placed/by/path.txt");
    place.scratch.file("source.txt", "content\n");
    place
        .launcher()
        .args(["--bind-local", &format!("source.txt:{destination}")])
        .bash("exit 0")
        .run()
        .assert_code(0);
    assert_eq!(place.scratch.wait_for_file("placed/by/path.txt"), "content\n");
}

#[test]
fn a_second_run_uploads_only_what_has_changed() {
    let place = Place::submitted();
    place.scratch.file("lib/stable/__init__.py", "A = 1\n");
    let cached = || {
        let parameters = json!({ "path": "//tmp/yt_wrapper/file_storage/new_cache" });
        let tree = place.cluster().read("get", &parameters)["value"].clone();
        // Two levels of the hash's digits above each file.
        tree.as_object()
            .expect("a map")
            .values()
            .filter_map(|level| level.as_object())
            .map(serde_json::Map::len)
            .sum::<usize>()
    };
    let run = |content: &str| {
        place.scratch.file("script.sh", content);
        let launcher = place.launcher().args(["--yt-path", "//tmp/run"]);
        let launcher =
            launcher.args(["--bind-local", "script.sh:script.sh", "--bind-local-lib", "lib/stable"]);
        launcher.args(["sh", "script.sh"]).run().assert_code(0);
        cached()
    };
    let first = run("exit 0\n");
    assert!(first >= 4, "init, job spec, bind and lib: {first} files");
    assert_eq!(run("exit 0\n"), first);
    assert_eq!(run("exit 0 # changed\n"), first + 1);
}
