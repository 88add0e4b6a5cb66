//! The options that are lists of things: environment variables, sidecars, binds, libraries.
//!
//! Each element may be refused on its own; the others are still looked at.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tractorun_contract::job_spec::{EnvScope, EnvSource, EnvVar, RestartPolicy, Sidecar};

use super::check::Check;
use super::file::without_number;
use super::node::{Content, Entry, Node};
use super::problem::{Problem, Subject};
use super::read::Fields;
use super::{BindAttributes, BindCypress, BindLocal, Place, library_name};

const BIND_FORM: &str =
    "`SOURCE:DESTINATION`, or JSON such as `{\"source\": \"./data\", \"destination\": \"data\"}`";
const ENV_FORM: &str = "JSON such as `{\"name\": \"A\", \"value\": \"1\"}` or `{\"name\": \"A\", \"cypress_path\": \"//tmp/a\"}`";
const SIDECAR_FORM: &str =
    "JSON such as `{\"command\": [\"python3\", \"upload.py\"], \"restart_policy\": \"on_failure\"}`";

impl Check<'_> {
    pub(super) fn variable(&mut self, subject: &Subject, node: &Node) -> Option<EnvVar> {
        let node = self.reader.structured(subject, node, ENV_FORM)?;
        let known = &["name", "value", "cypress_path", "sidecars"];
        let fields = self.reader.fields(subject, &node, known, ENV_FORM)?;
        let name = self.reader.needed(&fields, "name", "the variable's name").and_then(|name| {
            let accepted = "a name without `=`";
            self.reader.text_that(&subject.field("name"), name, accepted, |name| {
                !name.is_empty() && !name.contains('=')
            })
        });
        let source = match (fields.get("value"), fields.get("cypress_path")) {
            (Some(value), None) => self.reader.any_text(&subject.field("value"), value).map(EnvSource::Value),
            (None, Some(path)) => {
                self.reader.cypress_path(&subject.field("cypress_path"), path).map(EnvSource::CypressPath)
            }
            (value, _) => {
                let given = if value.is_some() { "both" } else { "none" };
                let text = format!(
                    "{}: expected either `value` or `cypress_path`, got {given}",
                    subject.name(&node.origin)
                );
                self.reader.note(Problem::new(&node.origin, text));
                None
            }
        };
        let scope = match fields.get("sidecars") {
            Some(sidecars) => self.reader.boolean(&subject.field("sidecars"), sidecars).map(EnvScope::from),
            None => Some(EnvScope::Everybody),
        };
        Some(EnvVar { name: name?, source: source?, scope: scope? })
    }

    pub(super) fn sidecar(&mut self, subject: &Subject, node: &Node) -> Option<Sidecar> {
        let node = self.reader.structured(subject, node, SIDECAR_FORM)?;
        let fields = self.reader.fields(subject, &node, &["command", "restart_policy"], SIDECAR_FORM)?;
        let command = self.reader.needed(&fields, "command", "a list of the program and its arguments");
        let command = command.and_then(|command| self.sidecar_command(&subject.field("command"), command));
        let policy =
            self.reader.needed(&fields, "restart_policy", "`always`, `on_failure`, `never` or `fail`");
        let restart_policy = policy.and_then(|policy| {
            self.reader.choice(&subject.field("restart_policy"), policy, &RestartPolicy::ALL)
        });
        Some(Sidecar { command: command?, restart_policy: restart_policy? })
    }

    /// Arguments may be empty, the program may not.
    fn sidecar_command(&mut self, subject: &Subject, node: &Node) -> Option<Vec<String>> {
        if matches!(&node.content, Content::List(items) if items.is_empty()) {
            let name = subject.name(&node.origin);
            let text = format!("{name}: expected a list of the program and its arguments, got an empty one");
            self.reader.note(Problem::new(&node.origin, text));
            return None;
        }
        let items = self.reader.list(subject, node).into_iter().enumerate();
        let words: Vec<_> = items
            .map(|(number, (subject, item))| match number {
                0 => self.reader.text(&subject, item),
                _ => self.reader.any_text(&subject, item),
            })
            .collect();
        // Of what is no list there are no words, and the problem is noted.
        if words.is_empty() { None } else { words.into_iter().collect() }
    }

    pub(super) fn bind_local(&mut self, subject: &Subject, node: &Node) -> Option<BindLocal> {
        let node = self.bind(subject, node)?;
        let fields = self.reader.fields(subject, &node, &["source", "destination"], BIND_FORM)?;
        let source = self.reader.needed(&fields, "source", "a local file or folder");
        let source = source.and_then(|source| {
            let text = self.reader.text(&subject.field("source"), source)?;
            self.existing(subject, source, &text).map(|_| PathBuf::from(text))
        });
        let destination = self.destination(subject, &fields);
        Some(BindLocal { source: source?, destination: destination? })
    }

    pub(super) fn bind_cypress(&mut self, subject: &Subject, node: &Node) -> Option<BindCypress> {
        let node = self.bind(subject, node)?;
        let known = &["source", "destination", "attributes"];
        let fields = self.reader.fields(subject, &node, known, BIND_FORM)?;
        let source = self.reader.needed(&fields, "source", "a path on the cluster");
        let source = source.and_then(|source| self.reader.cypress_path(&subject.field("source"), source));
        let destination = self.destination(subject, &fields);
        let attributes = match fields.get("attributes") {
            Some(attributes) => self.attributes(&subject.field("attributes"), attributes)?,
            None => BindAttributes::default(),
        };
        Some(BindCypress { source: source?, destination: destination?, attributes })
    }

    fn attributes(&mut self, subject: &Subject, node: &Node) -> Option<BindAttributes> {
        let known = &["executable", "format", "bypass_artifact_cache"];
        let form = "the keys `executable`, `format`, `bypass_artifact_cache` with their values";
        let fields = self.reader.fields(subject, node, known, form)?;
        let mut boolean = |name| {
            let node = fields.get(name)?;
            self.reader.boolean(&subject.field(name), node)
        };
        Some(BindAttributes {
            executable: boolean("executable"),
            bypass_artifact_cache: boolean("bypass_artifact_cache"),
            // The README writes `format: None`, which YAML reads as a text of four letters.
            format: fields
                .get("format")
                .map(Node::to_json)
                .filter(|format| *format != Value::String("None".to_owned())),
        })
    }

    /// A bind as a map: its simple form is taken apart at the colon.
    fn bind(&mut self, subject: &Subject, node: &Node) -> Option<Node> {
        let Content::Text(text) = &node.content else { return Some(node.clone()) };
        if text.trim_start().starts_with('{') {
            return self.reader.structured(subject, node, BIND_FORM);
        }
        if let [source, destination] = text.split(':').collect::<Vec<_>>()[..] {
            let entry = |key: &str, text: &str| Entry {
                origin: node.origin.clone(),
                key: key.to_owned(),
                value: Node { origin: node.origin.clone(), content: Content::Text(text.to_owned()) },
            };
            let entries = vec![entry("source", source), entry("destination", destination)];
            Some(Node { origin: node.origin.clone(), content: Content::Map(entries) })
        } else {
            self.reader.refuse(subject, node, BIND_FORM);
            None
        }
    }

    fn destination(&mut self, subject: &Subject, fields: &Fields<'_>) -> Option<String> {
        let node = self.reader.needed(fields, "destination", "a path in the container")?;
        let accepted = "a path in the container, without `..`";
        let subject = subject.field("destination");
        let path = self.reader.text_that(&subject, node, accepted, |path| {
            let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
            parts.peek().is_some() && parts.all(|part| part != "..")
        })?;
        if self.place == Place::Local && path.starts_with('/') {
            let name = subject.name(&node.origin);
            let text = format!("{name}: with `--local`, `{path}` would be in this machine's own root");
            let hint = "give a relative destination: it starts in the working directory of the command";
            self.reader.note(Problem::new(&node.origin, text).hint(hint));
            return None;
        }
        Some(path)
    }

    pub(super) fn bind_local_lib(&mut self) -> Vec<PathBuf> {
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        let libs = self.each("bind_local_lib", |check, subject, node| {
            let text = check.reader.text(subject, node)?;
            if !check.existing(subject, node, &text)?.is_dir() {
                let text = format!("{}: `{text}` is not a folder", subject.name(&node.origin));
                let hint =
                    "a library is the folder that `import` looks for; for a single file use `--bind-local`";
                check.reader.note(Problem::new(&node.origin, text).hint(hint));
                return None;
            }
            Some((subject.clone(), node.origin.clone(), text))
        });
        let mut paths = Vec::new();
        for (subject, origin, text) in libs {
            let subject = subject.name(&origin);
            match library_name(Path::new(&text)) {
                None => {
                    let text = format!("{subject}: `{text}` has no name that Python could import");
                    self.reader.note(Problem::new(&origin, text));
                }
                Some(name) => match names.insert(name.clone(), text.clone()) {
                    None => paths.push(PathBuf::from(text)),
                    Some(other) => {
                        let text = format!(
                            "{subject}: `{text}` and `{other}` are both called `{name}`: expected distinct names"
                        );
                        self.reader.note(Problem::new(&origin, text));
                    }
                },
            }
        }
        paths
    }

    /// Looks whether a local source is there.
    fn existing(&mut self, subject: &Subject, node: &Node, path: &str) -> Option<fs::Metadata> {
        match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(error) => {
                let name = subject.name(&node.origin);
                let text = format!("{name}: cannot read `{path}`: {}", without_number(&error));
                self.reader.note(Problem::new(&node.origin, text));
                None
            }
        }
    }
}
