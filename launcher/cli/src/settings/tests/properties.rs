//! What holds for any input: nothing panics, and the command is left alone.

use proptest::prelude::*;

use super::super::node::Node;
use super::super::options::{OPTIONS, Takes};
use super::{YamlFile, invoke_with, words};
use crate::cli::{self, Request};

/// A word that may be an option, a value, or neither.
fn word() -> impl Strategy<Value = String> {
    let names: Vec<_> = OPTIONS.iter().map(|option| format!("--{}", option.name)).collect();
    prop_oneof![
        proptest::sample::select(names),
        proptest::sample::select(vec![
            "true",
            "False",
            "--",
            "-",
            "-1",
            "",
            "{'a': 1}",
            "{\"name\": 1}",
            "a:b",
            "//a"
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
    ]
}

/// An option with a value that it can take as it stands.
fn option() -> impl Strategy<Value = Vec<String>> {
    let usual = |takes| matches!(takes, Takes::One(..) | Takes::Each(..));
    let names: Vec<_> = OPTIONS
        .iter()
        .filter(|option| usual(option.takes) && option.name != "completions")
        .map(|option| option.name)
        .collect();
    (proptest::sample::select(names), "[a-z0-9:/]{1,8}", any::<bool>()).prop_map(
        |(name, value, is_one_word)| {
            if is_one_word { vec![format!("--{name}={value}")] } else { vec![format!("--{name}"), value] }
        },
    )
}

proptest! {
    #[test]
    fn any_words_are_settings_or_problems(line in proptest::collection::vec(word(), 0..8)) {
        let line: Vec<_> = line.iter().map(String::as_str).collect();
        if let Request::Run(_) = cli::parse(words(&line)) {
            // The helper panics on an empty list of problems.
            let _ = invoke_with(&line, &[("YT_BASE_LAYER", "image")]);
        }
    }

    #[test]
    fn the_command_is_left_alone(
        options in proptest::collection::vec(option(), 0..4),
        first in "[a-z./][\\PC]{0,8}",
        rest in proptest::collection::vec(word(), 0..6),
    ) {
        let command: Vec<_> = std::iter::once(first).chain(rest).collect();
        let line: Vec<_> = options.into_iter().flatten().chain(command.clone()).collect();
        let Request::Run(command_line) = cli::parse(line.into_iter().map(Into::into)) else {
            return Err(TestCaseError::fail("no run"));
        };
        prop_assert_eq!(command_line.command, command);
        prop_assert!(command_line.problems.is_empty());
    }

    #[test]
    fn any_yaml_is_read_or_refused_with_its_place(text in "[a-z:\\-\\[\\]{}'\"&*!|> #0-9.,\n]{0,60}") {
        let file = YamlFile::new(&text);
        if let Err(told) = invoke_with(&["--run-config-path", file.path(), "sh"], &[("YT_BASE_LAYER", "image")]) {
            let of_file = told.lines().filter(|line| !line.starts_with("hint: "));
            for line in of_file {
                prop_assert!(line.starts_with(&format!("{}:", file.path())), "{}", line);
            }
        }
    }

    #[test]
    fn json_means_what_it_says(text in "[a-z\"\\\\ é0-9.]{0,12}", number in any::<i64>(), truth in any::<bool>()) {
        let value = serde_json::json!({ text.clone(): [number, truth, null_or(&text)], "n": { "x": text } });
        prop_assert_eq!(Node::from_json(&value.to_string()).unwrap().to_json(), value.clone());
        // The same text is a YAML flow mapping with the same meaning.
        let file = YamlFile::new(&format!("user_config: {value}"));
        prop_assert_eq!(file.settings(&["sh"]).user_config.map(serde_json::Value::Object), Some(value));
    }
}

fn null_or(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
