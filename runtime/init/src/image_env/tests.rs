//! Saving and restoring as a whole.

use super::*;

const VARIABLES: [(&str, &str); 6] = [
    ("PATH", "/opt/venv/bin:/usr/bin"),
    ("LD_LIBRARY_PATH", "/usr/local/cuda/lib64"),
    ("GREETING", "it's\n\"two\" lines"),
    ("HOME", "/root"),
    ("HF_TOKEN", "hidden-TOKEN"),
    ("YT_PROXY", "somewhere"),
];

fn saved(variables: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etc/env");
    let options = Save { to: path.clone(), with: Vec::new(), without: Vec::new() };
    let told = save(&variables.iter().copied().collect(), &options).unwrap();
    (folder, path, told)
}

/// Restores from the file below `job`; name and value of each variable.
fn restored(path: &Path, job: &[(&str, &str)]) -> Restored {
    let path = path.to_str().unwrap();
    restore(&job.iter().copied().chain([(env::IMAGE_ENV, path)]).collect()).unwrap()
}

fn refusal(path: &Path) -> String {
    let variables = [(env::IMAGE_ENV, path.to_str().unwrap())];
    restore(&variables.into_iter().collect()).unwrap_err().to_string()
}

#[test]
fn saving_tells_the_names_and_no_value() {
    let (_folder, path, told) = saved(&VARIABLES);
    let expected = format!(
        "saved to {}: GREETING, LD_LIBRARY_PATH, PATH\n\
         left out, may be secret: HF_TOKEN (`--with HF_TOKEN` saves it all the same)\n",
        path.display()
    );
    assert_eq!(told, expected);
    assert!(!std::fs::read_to_string(&path).unwrap().contains("hidden"));
    let (_folder, path, told) = saved(&[]);
    assert_eq!(told, format!("saved to {}: nothing\n", path.display()));
}

#[test]
fn equal_environments_are_equal_files() {
    let backwards: Vec<_> = VARIABLES.into_iter().rev().collect();
    let files = [&VARIABLES[..], &backwards].map(|variables| {
        let (_folder, path, _) = saved(variables);
        std::fs::read(path).unwrap()
    });
    assert_eq!(files[0], files[1]);
}

#[test]
fn a_job_gets_what_it_does_not_have() {
    let (_folder, path, _) = saved(&VARIABLES);
    let job = [("GREETING", "the job's"), ("HOME", "/slot/sandbox")];
    let Restored { environment, names } = restored(&path, &job);
    assert_eq!(names, ["LD_LIBRARY_PATH", "PATH"]);
    for (name, value) in [
        ("PATH", "/opt/venv/bin:/usr/bin"),
        ("LD_LIBRARY_PATH", "/usr/local/cuda/lib64"),
        ("GREETING", "the job's"),
        ("HOME", "/slot/sandbox"),
    ] {
        assert_eq!(environment.get(name), Some(value.as_ref()), "{name}");
    }
    assert_eq!(environment.get("HF_TOKEN"), None);
}

#[test]
fn only_a_bare_path_loses_to_the_images() {
    let (_folder, path, _) = saved(&VARIABLES);
    let image = "/opt/venv/bin:/usr/bin";
    for (of_the_job, expected) in [
        ("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", image),
        ("/usr/local/bin:/usr/bin:/bin:.", image),
        ("/bin:/usr/bin", image),
        ("", image),
        ("/mine:/usr/bin", "/mine:/usr/bin"),
    ] {
        let Restored { environment, .. } = restored(&path, &[("PATH", of_the_job)]);
        assert_eq!(environment.get("PATH"), Some(expected.as_ref()), "{of_the_job}");
    }
}

#[test]
fn who_the_job_is_never_comes_from_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("env");
    std::fs::write(&path, "tractorun-env 1\0A=1\0HOME=/x\0TRACTORUN_LIFELINE=x\0YT_JOB_ID=x\0").unwrap();
    let Restored { environment, names } = restored(&path, &[]);
    assert_eq!(names, ["A"]);
    assert_eq!(environment.get("YT_JOB_ID"), None);
}

#[test]
fn an_image_without_a_file_changes_nothing() {
    for path in ["", "/nowhere/env"] {
        let Restored { environment, names } = restored(Path::new(path), &[("A", "1")]);
        assert!(names.is_empty());
        assert_eq!(environment.get("A"), Some("1".as_ref()));
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("env");
    std::fs::write(&path, "tractorun-env 2\0A=1\0").unwrap();
    assert_eq!(
        refusal(&path),
        format!(
            "the image's environment `{}` has version 2, expected 1\n\
             hint: build the image anew with `RUN tractorun-init save-env`, or set TRACTORUN_IMAGE_ENV to nothing to \
             go without",
            path.display()
        )
    );
    let text = refusal(folder.path());
    assert!(text.starts_with("cannot read the image's environment `"), "{text}");
}
