//! Expanding Cypress binds: a file is itself, a map node is every file below it, a link is what it leads to.
//!
//! Level by level, each level in two batches, whatever its width. A source that does not exist is an error
//! before anything is uploaded; what is neither file nor folder inside a map node is left out with a warning.

use tractorun_yt::value::ValueExt;
use tractorun_yt::{BatchRequest, Client, Error, YsonValue, YtError, codes, value};

use crate::operation::CypressFile;
use crate::settings::{BindAttributes, BindCypress};

/// What the binds became.
#[derive(Debug, Default, PartialEq)]
pub struct Expanded {
    /// The files, sorted by destination within each bind.
    pub files: Vec<CypressFile>,
    /// What was left out, one line each.
    pub warnings: Vec<String>,
}

/// Why the binds cannot be expanded.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The source is not there.
    #[error("bind_cypress: `{path}` does not exist")]
    Missing {
        /// The source.
        path: String,
    },
    /// The source is of a type that cannot be bound.
    #[error(
        "bind_cypress: `{path}` is a {node_type}: accepted are files, map nodes and links to them, and a table \
         with the attribute `format`"
    )]
    WrongType {
        /// The source.
        path: String,
        /// Its type.
        node_type: String,
    },
    /// A link leads to a folder that holds it.
    #[error("bind_cypress: link `{path}` leads to a map node that it lies in itself")]
    LinkLoop {
        /// The link.
        path: String,
    },
    /// The cluster refused to show a node.
    #[error("bind_cypress: cannot look at `{path}`: {error}")]
    Refused {
        /// The node.
        path: String,
        /// What the cluster says.
        error: YtError,
    },
    /// The cluster could not be asked.
    #[error(transparent)]
    Client(#[from] Error),
}

/// A node that is to be looked at.
#[derive(Debug, Clone)]
struct Place {
    /// Index of its bind.
    bind: usize,
    path: String,
    destination: String,
    /// Ids of the map nodes it was reached through.
    ancestors: Vec<String>,
    depth: Depth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// The user named it.
    Source,
    /// It was found inside a map node.
    Inside,
}

/// What a node is, links followed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    node_type: String,
    id: String,
}

/// Expands all binds. Changes nothing on the cluster.
pub async fn expand(client: &Client, binds: &[BindCypress]) -> Result<Expanded, BindError> {
    let mut expansion = Expansion { binds, found: Vec::new(), warnings: Vec::new() };
    let mut level: Vec<Place> = binds
        .iter()
        .enumerate()
        .map(|(index, bind)| Place {
            bind: index,
            path: bind.source.clone(),
            destination: bind.destination.clone(),
            ancestors: Vec::new(),
            depth: Depth::Source,
        })
        .collect();
    while !level.is_empty() {
        let folders = expansion.classify(client, level).await?;
        level = expansion.children(client, folders).await?;
    }
    let Expansion { mut found, warnings, .. } = expansion;
    found.sort_by(|left, right| (left.0, &left.1.destination).cmp(&(right.0, &right.1.destination)));
    Ok(Expanded { files: found.into_iter().map(|(_, file)| file).collect(), warnings })
}

struct Expansion<'a> {
    binds: &'a [BindCypress],
    /// Files with the index of their bind.
    found: Vec<(usize, CypressFile)>,
    warnings: Vec<String>,
}

impl Expansion<'_> {
    /// Asks what the places are, keeps the files and gives back the folders.
    async fn classify(&mut self, client: &Client, places: Vec<Place>) -> Result<Vec<Place>, BindError> {
        let requests = places.iter().flat_map(|place| {
            // Without `&` Cypress follows links itself, chains and broken ones included.
            ["type", "id"].map(|name| get(&format!("{}/@{name}", place.path)))
        });
        let answers = client.execute_batch(requests.collect()).await?;
        let mut answers = answers.into_iter();
        let mut folders = Vec::new();
        for place in places {
            let (Some(node_type), Some(id)) = (answers.next(), answers.next()) else { break };
            match node_type.and_then(|node_type| Ok(Node { node_type: text(&node_type), id: text(&id?) })) {
                Ok(node) => folders.extend(self.place(place, node)?),
                Err(error) => self.unreadable(place, error)?,
            }
        }
        Ok(folders)
    }

    /// Decides about one node; a folder comes back, to be listed.
    fn place(&mut self, place: Place, node: Node) -> Result<Option<Place>, BindError> {
        let attributes = &self.binds[place.bind].attributes;
        match node.node_type.as_str() {
            "file" => self.keep(place),
            "map_node" if place.ancestors.contains(&node.id) => {
                return Err(BindError::LinkLoop { path: place.path });
            }
            "map_node" => {
                let mut place = place;
                place.ancestors.push(node.id);
                return Ok(Some(place));
            }
            "table" if place.depth == Depth::Source && attributes.format.is_some() => self.keep(place),
            _ if place.depth == Depth::Source => {
                return Err(BindError::WrongType { path: place.path, node_type: node.node_type });
            }
            _ => self.warnings.push(format!(
                "bind_cypress: `{}` is a {}, neither file nor map node: left out",
                place.path, node.node_type
            )),
        }
        Ok(None)
    }

    fn keep(&mut self, place: Place) {
        let attributes: BindAttributes = self.binds[place.bind].attributes.clone();
        let file = CypressFile { path: place.path, destination: place.destination, attributes };
        self.found.push((place.bind, file));
    }

    fn unreadable(&mut self, place: Place, error: YtError) -> Result<(), BindError> {
        let missing = error.contains(codes::RESOLVE_ERROR);
        match place.depth {
            Depth::Source if missing => Err(BindError::Missing { path: place.path }),
            Depth::Inside if missing => {
                self.warnings.push(format!("bind_cypress: link `{}` leads nowhere: left out", place.path));
                Ok(())
            }
            Depth::Source | Depth::Inside => Err(BindError::Refused { path: place.path, error }),
        }
    }

    /// Lists the folders and gives the places inside.
    async fn children(&mut self, client: &Client, folders: Vec<Place>) -> Result<Vec<Place>, BindError> {
        if folders.is_empty() {
            return Ok(Vec::new());
        }
        let requests = folders
            .iter()
            .map(|folder| BatchRequest::new("list").parameter("path", value::string(&folder.path)))
            .collect();
        let answers = client.execute_batch(requests).await?;
        let mut children = Vec::new();
        for (folder, answer) in folders.into_iter().zip(answers) {
            let names = answer
                .map_err(|error| BindError::Refused { path: folder.path.clone(), error })?
                .as_list()
                .map(|names| names.iter().map(text).collect::<Vec<_>>())
                .unwrap_or_default();
            if names.is_empty() && folder.depth == Depth::Source {
                self.warnings.push(format!("bind_cypress: map node `{}` is empty", folder.path));
            }
            for name in names {
                if !is_file_name(&name) {
                    let path = &folder.path;
                    self.warnings.push(format!(
                        "bind_cypress: `{name}` in `{path}` cannot be the name of a file: left out"
                    ));
                    continue;
                }
                children.push(Place {
                    bind: folder.bind,
                    path: format!("{}/{}", folder.path, escape(&name)),
                    destination: format!("{}/{name}", folder.destination.trim_end_matches('/')),
                    ancestors: folder.ancestors.clone(),
                    depth: Depth::Inside,
                });
            }
        }
        Ok(children)
    }
}

fn get(path: &str) -> BatchRequest {
    BatchRequest::new("get").parameter("path", value::string(path))
}

fn text(value: &YsonValue) -> String {
    value.as_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}

/// Whether a Cypress key can be the name of a file: keys may hold anything, and `..` would leave the folder.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// A key as a Cypress path wants it.
fn escape(key: &str) -> String {
    key.chars().fold(String::with_capacity(key.len()), |mut escaped, character| {
        if matches!(character, '\\' | '/' | '@' | '&' | '*' | '[' | '{') {
            escaped.push('\\');
        }
        escaped.push(character);
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expansion(binds: &[BindCypress]) -> Expansion<'_> {
        Expansion { binds, found: Vec::new(), warnings: Vec::new() }
    }

    fn place(depth: Depth, ancestors: &[&str]) -> Place {
        Place {
            bind: 0,
            path: "//home/x".into(),
            destination: "data/x".into(),
            ancestors: ancestors.iter().map(ToString::to_string).collect(),
            depth,
        }
    }

    fn node(node_type: &str) -> Node {
        Node { node_type: node_type.into(), id: "1-2-3-4".into() }
    }

    fn bind(attributes: BindAttributes) -> [BindCypress; 1] {
        [BindCypress { source: "//home/x".into(), destination: "data".into(), attributes }]
    }

    #[test]
    fn files_keep_the_binds_attributes() {
        let binds = bind(BindAttributes { executable: Some(true), ..BindAttributes::default() });
        let mut expansion = expansion(&binds);
        assert!(expansion.place(place(Depth::Inside, &[]), node("file")).unwrap().is_none());
        assert_eq!(expansion.found[0].1.attributes.executable, Some(true));
        assert_eq!(expansion.found[0].1.destination, "data/x");
    }

    #[test]
    fn a_folder_reached_again_through_a_link_is_an_error() {
        let binds = bind(BindAttributes::default());
        let mut expansion = expansion(&binds);
        let folder = expansion.place(place(Depth::Source, &[]), node("map_node")).unwrap().unwrap();
        assert_eq!(folder.ancestors, ["1-2-3-4"]);
        let error = expansion.place(place(Depth::Inside, &["1-2-3-4"]), node("map_node")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "bind_cypress: link `//home/x` leads to a map node that it lies in itself"
        );
    }

    #[test]
    fn other_types_are_an_error_as_a_source_and_a_warning_inside() {
        let binds = bind(BindAttributes::default());
        let mut expansion = expansion(&binds);
        let error = expansion.place(place(Depth::Source, &[]), node("table")).unwrap_err();
        assert!(
            error.to_string().starts_with("bind_cypress: `//home/x` is a table: accepted are"),
            "{error}"
        );
        assert!(expansion.place(place(Depth::Inside, &[]), node("table")).unwrap().is_none());
        assert_eq!(
            expansion.warnings,
            ["bind_cypress: `//home/x` is a table, neither file nor map node: left out"]
        );
    }

    #[test]
    fn a_table_with_a_format_is_a_file() {
        let format = Some(serde_json::json!("json"));
        let binds = bind(BindAttributes { format, ..BindAttributes::default() });
        let mut expansion = expansion(&binds);
        assert!(expansion.place(place(Depth::Source, &[]), node("table")).unwrap().is_none());
        assert_eq!(expansion.found.len(), 1);
    }

    #[test]
    fn keys_are_escaped_and_dangerous_ones_refused() {
        assert_eq!(escape("a&b@{c}"), "a\\&b\\@\\{c}");
        assert!(!is_file_name(".."));
        assert!(!is_file_name("a/b"));
        assert!(is_file_name("..a"));
    }
}
