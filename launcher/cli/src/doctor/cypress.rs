//! What the run needs of Cypress, and whether this user may have it. Only questions: nothing is made or written.

use tractorun_contract::job_spec::{EnvSource, EnvVar};
use tractorun_yt::value::{self, ValueExt};
use tractorun_yt::{BatchRequest, Client, Error, Permission, YsonNode, YsonValue, codes};

use super::finding::Finding;
use crate::operation::docker_auth::{self, Form};
use crate::settings::{BindCypress, DEFAULT_CLUSTER_CONFIG_PATH, Tensorproxy};
use crate::upload::CACHE_PATH;

/// The cluster as one user sees it.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) client: Client,
    pub(super) user: String,
}

/// Whether a node can be had.
enum Node {
    Allowed,
    Missing,
    Denied(String),
}

/// Types of nodes that nothing can be created below.
const LEAVES: [&str; 8] =
    ["document", "file", "table", "string_node", "int64_node", "uint64_node", "double_node", "boolean_node"];

// === impl Visitor ===

impl Visitor {
    /// The run's own directory, or where it would be made.
    pub(super) async fn directory(&self, yt_path: &str) -> Finding {
        let hint = "ask whoever owns it for the right to write, or choose another `--yt-path`";
        self.writeable("directory", yt_path, hint).await
    }

    /// Where uploads are kept.
    pub(super) async fn file_cache(&self) -> Finding {
        let hint = "whoever runs the cluster must let all users write there";
        let (written, read) = futures_util::join!(
            self.writeable("file cache", CACHE_PATH, hint),
            // No content has this sum: the answer is "not here", or an error.
            self.client.get_file_from_cache("00000000000000000000000000000000", CACHE_PATH)
        );
        match read {
            Err(error) if !error.contains(codes::RESOLVE_ERROR) => {
                Finding::wrong("file cache", format!("`{CACHE_PATH}` does not answer: {error}"))
            }
            _ => written,
        }
    }

    /// Templates for links in the web interface.
    pub(super) async fn cluster_config(&self, path: &str) -> Finding {
        const NAME: &str = "cluster config";
        let without = "a run goes on without links in the web interface";
        match self.may("read", path).await {
            Ok(Node::Allowed) => match self.client.get(path).await {
                Ok(_) => Finding::fine(NAME, format!("`{path}` can be read")),
                Err(error) => Finding::doubtful(NAME, format!("cannot read `{path}`, {without}: {error}")),
            },
            Ok(Node::Missing) if path == DEFAULT_CLUSTER_CONFIG_PATH => {
                Finding::fine(NAME, format!("there is none at `{path}`, as on most clusters"))
            }
            Ok(Node::Missing) => Finding::doubtful(NAME, format!("`{path}` does not exist, {without}")),
            Ok(Node::Denied(why)) => Finding::doubtful(NAME, format!("{why}, {without}")),
            Err(error) => Finding::doubtful(NAME, format!("cannot look at `{path}`, {without}: {error}")),
        }
    }

    /// Credentials for the registry.
    pub(super) async fn docker_auth(&self, path: &str) -> Finding {
        const NAME: &str = "docker auth";
        let document = match self.readable(NAME, path).await {
            Ok(document) => document,
            Err(finding) => return finding,
        };
        match docker_auth::parse(path, &document) {
            Ok(auth) if auth.form == Form::Secrets => {
                Finding::fine(NAME, format!("`{path}` can be read and holds credentials"))
            }
            Ok(_) => Finding::doubtful(
                NAME,
                format!("`{path}` has the old plain form, which whatever lists it shows as it is"),
            )
            .hint("put the values into {\"secrets\": {\"username\": {\"value\": ..}, \"password\": {\"value\": ..}}}"),
            Err(error) => Finding::wrong(NAME, error),
        }
    }

    /// A variable whose value is in Cypress. The value is not shown.
    pub(super) async fn variable(&self, variable: &EnvVar) -> Option<Finding> {
        const NAME: &str = "env";
        let EnvSource::CypressPath(path) = &variable.source else { return None };
        let name = &variable.name;
        Some(match self.readable(NAME, path).await {
            Err(Finding { text, hint, outcome, .. }) => {
                Finding { name: NAME, outcome, text: format!("{name}: {text}"), hint }
            }
            Ok(value) => match value.node {
                YsonNode::String(_) | YsonNode::Int64(_) | YsonNode::Uint64(_) | YsonNode::Double(_) => {
                    Finding::fine(NAME, format!("{name}: `{path}` can be read"))
                }
                _ => Finding::wrong(NAME, format!("{name}: `{path}` is neither a text nor a number")),
            },
        })
    }

    /// The cluster's own program that runs beside the workers.
    pub(super) async fn tensorproxy(&self, tensorproxy: &Tensorproxy) -> Finding {
        const NAME: &str = "tensorproxy";
        let path = &tensorproxy.yt_path;
        let checked = crate::tensorproxy::check(&self.client, Some(tensorproxy));
        match futures_util::join!(checked, self.may("read", path)) {
            (Err(error), _) => {
                let text = error.to_string();
                Finding::wrong(NAME, text.strip_prefix("tensorproxy: ").unwrap_or(&text))
            }
            (Ok(()), Ok(Node::Denied(why))) => {
                Finding::wrong(NAME, why).hint("ask whoever owns it for the right to read")
            }
            (Ok(()), Ok(_)) => Finding::fine(NAME, format!("`{path}` can be read")),
            (Ok(()), Err(error)) => Finding::wrong(NAME, format!("cannot look at `{path}`: {error}")),
        }
    }

    /// A node that is placed in the container.
    pub(super) async fn bind(&self, bind: &BindCypress) -> Vec<Finding> {
        const NAME: &str = "bind_cypress";
        let path = &bind.source;
        let expanded = crate::binds::expand(&self.client, std::slice::from_ref(bind));
        let (expanded, may) = futures_util::join!(expanded, self.may("read", path));
        let finding = match (expanded, may) {
            (Err(error), _) => {
                let text = error.to_string();
                Finding::wrong(NAME, text.strip_prefix("bind_cypress: ").unwrap_or(&text))
            }
            (Ok(_), Ok(Node::Denied(why))) => {
                Finding::wrong(NAME, why).hint("ask whoever owns it for the right to read")
            }
            (Ok(_), Err(error)) => Finding::wrong(NAME, format!("cannot look at `{path}`: {error}")),
            (Ok(expanded), Ok(_)) => {
                let warnings = expanded.warnings.iter();
                let warnings = warnings.map(|text| text.strip_prefix("bind_cypress: ").unwrap_or(text));
                let count = match expanded.files.len() {
                    1 => "1 file".to_owned(),
                    count => format!("{count} files"),
                };
                let fine = Finding::fine(NAME, format!("`{path}` can be read: {count}"));
                return std::iter::once(fine)
                    .chain(warnings.map(|text| Finding::doubtful(NAME, text)))
                    .collect();
            }
        };
        vec![finding]
    }

    async fn writeable(&self, name: &'static str, path: &str, hint: &str) -> Finding {
        let found = match self.nearest(path).await {
            Ok(found) => found,
            Err(error) => return Finding::wrong(name, format!("cannot look at `{path}`: {error}")),
        };
        let type_path = format!("{found}/@type");
        let (may, node_type, account) = futures_util::join!(
            self.may("write", &found),
            self.client.get(&type_path),
            self.account(name, &found)
        );
        match (may, node_type) {
            (Ok(Node::Denied(why)), _) => Finding::wrong(name, why).hint(hint),
            (Err(error), _) | (_, Err(error)) => {
                Finding::wrong(name, format!("cannot look at `{found}`: {error}"))
            }
            (Ok(_), Ok(node_type)) if node_type.as_str().is_some_and(|name| LEAVES.contains(&name)) => {
                let node_type = node_type.as_str().unwrap_or_default();
                Finding::wrong(name, format!("`{found}` is a {node_type}, not a directory"))
            }
            (Ok(_), Ok(_)) if account.is_some() => account.unwrap_or_else(|| Finding::fine(name, "")),
            (Ok(_), Ok(_)) if found == path => Finding::fine(name, format!("`{path}` can be written to")),
            (Ok(_), Ok(_)) => {
                Finding::fine(name, format!("`{path}` can be made: `{found}` can be written to"))
            }
        }
    }

    /// Looks at the account that pays for what is made there. Clusters that do not tell have nothing to say.
    async fn account(&self, name: &'static str, directory: &str) -> Option<Finding> {
        let account = self.client.get(&format!("{directory}/@account")).await.ok()?;
        let account = account.as_str()?;
        let path = format!("//sys/accounts/{account}");
        let violated = format!("{path}/@violated_resource_limits");
        let (may, violated) = futures_util::join!(self.may("use", &path), self.client.get(&violated));
        if let Ok(Node::Denied(_)) = may {
            let text =
                format!("`{}` may not use the account `{account}`, which pays for `{directory}`", self.user);
            return Some(Finding::wrong(name, text).hint("ask whoever owns the account"));
        }
        let violated = violated.ok()?;
        let limits = ["disk_space", "node_count", "chunk_count"];
        let full =
            limits.into_iter().find(|limit| violated.get(limit).and_then(ValueExt::as_bool) == Some(true))?;
        let text =
            format!("the account `{account}`, which pays for `{directory}`, is over its limit of {full}");
        Some(Finding::wrong(name, text).hint("remove something, or ask whoever owns the account for more"))
    }

    /// Reads a node that must be there. The finding says why it cannot be read.
    async fn readable(&self, name: &'static str, path: &str) -> Result<YsonValue, Finding> {
        match self.may("read", path).await {
            Ok(Node::Missing) => Err(Finding::wrong(name, format!("`{path}` does not exist"))),
            Ok(Node::Denied(why)) => {
                Err(Finding::wrong(name, why).hint("ask whoever owns it for the right to read"))
            }
            Err(error) => Err(Finding::wrong(name, format!("cannot look at `{path}`: {error}"))),
            Ok(Node::Allowed) => match self.client.get(path).await {
                Ok(value) => Ok(value),
                Err(error) => Err(Finding::wrong(name, format!("cannot read `{path}`: {error}"))),
            },
        }
    }

    /// Whether the user may do that to a node.
    async fn may(&self, permission: &str, path: &str) -> Result<Node, Error> {
        match self.client.check_permission(&self.user, permission, path).await {
            Ok(Permission::Allowed) => Ok(Node::Allowed),
            Ok(Permission::Denied { object, .. }) => {
                let user = &self.user;
                let by = object.map(|object| format!(" ({object} forbids it)")).unwrap_or_default();
                Ok(Node::Denied(format!("`{user}` may not {permission} `{path}`{by}")))
            }
            Err(error) if error.contains(codes::RESOLVE_ERROR) => Ok(Node::Missing),
            Err(error) => Err(error),
        }
    }

    /// Whether the user may use a pool, or what else is the matter with it.
    pub(super) async fn may_use(&self, path: &str) -> Result<Option<String>, Error> {
        match self.may("use", path).await? {
            Node::Denied(why) => Ok(Some(why)),
            Node::Allowed | Node::Missing => Ok(None),
        }
    }

    /// The path itself or the deepest directory above it that is there.
    async fn nearest(&self, path: &str) -> Result<String, Error> {
        let ancestors = ancestors(path);
        let requests = ancestors
            .iter()
            .map(|path| BatchRequest::new("exists").parameter("path", value::string(*path)))
            .collect();
        let answers = self.client.execute_batch(requests).await?;
        for (path, answer) in ancestors.iter().zip(answers) {
            if answer?.as_bool() == Some(true) {
                return Ok((*path).to_owned());
            }
        }
        Ok("/".to_owned())
    }
}

/// The path and all above it but the root, deepest first.
fn ancestors(path: &str) -> Vec<&str> {
    let mut ends = vec![path.len()];
    let bytes = path.as_bytes();
    let mut index = 2;
    while index < bytes.len() {
        match bytes[index] {
            // What follows is a part of the name, a slash too.
            b'\\' => index += 1,
            b'/' => ends.push(index),
            _ => {}
        }
        index += 1;
    }
    ends.sort_unstable_by(|one, other| other.cmp(one));
    ends.dedup();
    ends.into_iter().map(|end| &path[..end]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_end_at_slashes_that_are_none_of_a_name() {
        assert_eq!(ancestors("//home/me/run"), ["//home/me/run", "//home/me", "//home"]);
        assert_eq!(ancestors(r"//home/a\/b/c"), [r"//home/a\/b/c", r"//home/a\/b", "//home"]);
        assert_eq!(ancestors("//tmp"), ["//tmp"]);
    }
}
