//! Whole configurations, from the words of the command line and a file to settings or problems.
//!
//! Tests run in the crate's folder, so `./src` and `Cargo.toml` are sources that exist.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Invocation, Settings, Surroundings};
use crate::cli::{self, Request};

mod errors;
mod merging;
mod properties;
mod readme;

/// Words of a command line as a test writes them.
fn words(line: &[&str]) -> Vec<OsString> {
    line.iter().map(OsString::from).collect()
}

/// What the words ask for, with these environment variables; problems as they are printed.
fn invoke_with(line: &[&str], environment: &[(&str, &str)]) -> Result<Invocation, String> {
    let Request::Run(command_line) = cli::parse(words(line)) else { panic!("{line:?} is no run") };
    let variable = |name: &str| {
        let found = environment.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let surroundings = Surroundings { variable: &variable, new_id: &|| "an-id".to_owned() };
    Invocation::new(command_line, &surroundings).map_err(|problems| {
        assert!(!problems.is_empty(), "a refusal says why");
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    })
}

/// Settings of a command line that is right, with an image from the environment.
fn settings(line: &[&str]) -> Settings {
    invoke_with(line, &[("YT_BASE_LAYER", "image")])
        .unwrap_or_else(|text| panic!("{line:?}: {text}"))
        .settings
}

/// What is said of a command line that is wrong.
fn problems(line: &[&str]) -> String {
    invoke_with(line, &[("YT_BASE_LAYER", "image")]).expect_err("the command line is refused")
}

/// A YAML file that is gone after the test.
struct YamlFile {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl YamlFile {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        std::fs::write(&path, text).unwrap();
        Self { _folder: folder, path }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Settings with options in front of the file's.
    fn settings(&self, line: &[&str]) -> Settings {
        settings(&[&["--run-config-path", self.path()], line].concat())
    }

    /// What is said of the file, which is called `c.yaml` there.
    fn problems(&self, line: &[&str]) -> String {
        let text = problems(&[&["--run-config-path", self.path()], line].concat());
        text.replace(self.path(), "c.yaml")
    }
}

/// What is said of a file's text when everything else is right.
fn file_problems(text: &str) -> String {
    YamlFile::new(text).problems(&["true"])
}
