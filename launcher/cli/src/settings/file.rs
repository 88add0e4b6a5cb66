//! The YAML file: which keys it gives.
//!
//! Only names are checked here; values are, once it is known which of them count.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::node::{Content, Entry, Node};
use super::options::{self, GivenIn, OPTIONS, OptionSpec};
use super::problem::{Origin, Problem, Subject};
use super::read::Reader;

/// The options that one source gives, by their key.
pub(crate) type Layer = BTreeMap<&'static str, Node>;

/// Reads the YAML file at `path`; `None` if it cannot be read. Problems go to the reader.
pub(super) fn read(path: &str, reader: &mut Reader) -> Option<(Layer, Node)> {
    let path: Arc<str> = Arc::from(path);
    let problem = match std::fs::read_to_string(&*path) {
        Ok(text) => match Node::from_yaml(&text, &path) {
            Ok(root) => return Some((layer(&root, reader), root)),
            Err(problem) => problem,
        },
        Err(error) => {
            let text = format!("`--run-config-path`: cannot read `{path}`: {}", without_number(&error));
            Problem::new(&Origin::CommandLine, text)
        }
    };
    reader.note(problem);
    None
}

/// Takes the known keys out of the file's root.
fn layer(root: &Node, reader: &mut Reader) -> Layer {
    let mut layer = Layer::new();
    match &root.content {
        Content::Null => {}
        Content::Map(entries) => {
            for entry in entries {
                take(entry, &mut layer, reader);
            }
        }
        _ => {
            let text = format!("expected keys with values, such as `yt_path: //tmp/x`, got {}", root.show());
            reader.note(Problem::new(&root.origin, text));
        }
    }
    layer
}

/// Takes one key of the root.
fn take(entry: &Entry, layer: &mut Layer, reader: &mut Reader) {
    let key = &entry.key;
    if let Some((section, inner)) = key.split_once('.')
        && options::by_key(key).is_some()
    {
        let text = format!("unknown key `{key}`, did you mean `{inner}` inside of `{section}`?");
        reader.note(Problem::new(&entry.origin, text));
    } else if is_section(key) {
        take_section(entry, layer, reader);
    } else {
        take_option(key, entry, layer, reader);
    }
}

fn take_section(section: &Entry, layer: &mut Layer, reader: &mut Reader) {
    match &section.value.content {
        Content::Null => {}
        Content::Map(entries) => {
            for entry in entries {
                take_option(&format!("{}.{}", section.key, entry.key), entry, layer, reader);
            }
        }
        _ => {
            let prefix = format!("{}.", section.key);
            let keys: Vec<_> = OPTIONS.iter().filter_map(|option| option.key.strip_prefix(&prefix)).collect();
            let text = format!(
                "`{}`: expected the keys `{}` with their values, got {}",
                section.key,
                keys.join("`, `"),
                section.value.show()
            );
            reader.note(Problem::new(&section.value.origin, text));
        }
    }
}

fn take_option(key: &str, entry: &Entry, layer: &mut Layer, reader: &mut Reader) {
    match options::by_key(key) {
        Some(option) if option.given_in == GivenIn::CommandLineOnly => {
            let text = format!("`{key}` is not for the file: give `--{}` on the command line", option.name);
            reader.note(Problem::new(&entry.origin, text));
        }
        Some(option) if layer.contains_key(option.key) => {
            reader.note_twice(&Subject::new(option).name(&entry.origin), entry);
        }
        Some(option) => {
            if entry.value.content != Content::Null {
                layer.insert(option.key, entry.value.clone());
            }
        }
        None if options::comes_later(key) => {
            reader.note(Problem::new(&entry.origin, later(&format!("`{key}`"))));
        }
        None => {
            let near = options::nearest(key, keys_of_file().map(|option| option.key));
            let near = near.map(|near| format!("`{near}`"));
            reader.note_unknown(&entry.origin, "key", &format!("`{key}`"), near.as_deref(), &[]);
        }
    }
}

fn is_section(key: &str) -> bool {
    OPTIONS.iter().any(|option| option.key.split_once('.').is_some_and(|(section, _)| section == key))
}

fn keys_of_file() -> impl Iterator<Item = &'static OptionSpec> {
    let both = OPTIONS.iter().filter(|option| option.given_in == GivenIn::Both);
    std::iter::once(&options::COMMAND).chain(both)
}

/// What is said of an option whose effect is still to come: it is refused, since ignoring it would run
/// something else than what was asked for.
pub(crate) fn later(name: &str) -> String {
    format!("{name} is not supported by tractorun {} yet", env!("CARGO_PKG_VERSION"))
}

/// The operating system's words for an error, without its number.
pub(super) fn without_number(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}
