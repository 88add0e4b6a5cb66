//! What `check_permission` answers: the access control lists of a node and of those above it.
//!
//! Nothing here keeps anybody from anything: the lists are data that this question is answered by. Above the root
//! everybody may do everything, so a node without lists is open, and `root` may always.

use ytsaurus_yson::YsonValue;

use super::path::YPath;
use super::{Cypress, Scope};
use crate::error::YtError;
use crate::guid::Guid;
use crate::value;

/// Whether somebody may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// Yes.
    Allowed,
    /// An entry says no.
    Denied {
        /// Id of the node with that entry.
        object: Guid,
        /// Path of that node.
        path: String,
        /// Whom it names.
        subject: String,
    },
    /// No entry says yes.
    NotMentioned,
}

/// Users that no list applies to.
const SUPERUSER: &str = "root";

/// Subjects that every user belongs to.
const EVERYBODY: [&str; 2] = ["everyone", "users"];

impl Cypress {
    /// Whether the user has the permission for the node at this path.
    pub fn check_permission(
        &self,
        path: &YPath,
        scope: Scope<'_>,
        user: &str,
        permission: &str,
    ) -> Result<Permission, YtError> {
        let mut id = self.resolve_node(path, scope)?;
        if user == SUPERUSER {
            return Ok(Permission::Allowed);
        }
        let mut allowed = false;
        let mut distance = 0;
        loop {
            let node = self.existing(id)?;
            let attributes = self.state(node, scope.transaction).attributes.clone();
            let entries = attributes.get("acl").and_then(value::as_list).unwrap_or_default();
            for entry in entries.iter().filter(|entry| applies(entry, distance)) {
                let Some(subject) = names(entry, "subjects").find(|name| is_meant(name, user)) else {
                    continue;
                };
                if !names(entry, "permissions").any(|name| name == permission) {
                    continue;
                }
                if value::get(entry, "action").and_then(YsonValue::as_str) == Some("deny") {
                    let path = self.path_of(id);
                    return Ok(Permission::Denied { object: id, path, subject: subject.to_owned() });
                }
                allowed = true;
            }
            if attributes.get("inherit_acl").and_then(value::as_bool) == Some(false) {
                return Ok(if allowed { Permission::Allowed } else { Permission::NotMentioned });
            }
            match &node.parent {
                Some((parent, _)) => id = *parent,
                None => return Ok(Permission::Allowed),
            }
            distance += 1;
        }
    }
}

fn is_meant(subject: &str, user: &str) -> bool {
    subject == user || EVERYBODY.contains(&subject)
}

fn names<'a>(entry: &'a YsonValue, key: &str) -> impl Iterator<Item = &'a str> {
    let names = value::get(entry, key).and_then(value::as_list).unwrap_or_default();
    names.iter().filter_map(YsonValue::as_str)
}

/// Whether an entry counts for a node so many levels below its own.
fn applies(entry: &YsonValue, distance: u32) -> bool {
    match value::get(entry, "inheritance_mode").and_then(YsonValue::as_str) {
        Some("object_only") => distance == 0,
        Some("descendants_only") => distance > 0,
        Some("immediate_descendants_only") => distance == 1,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cypress::{CreateOptions, Existing, NodeType, Now, Recursive};
    use crate::formats::yson;
    use crate::value::YsonMap;

    const SCOPE: Scope<'static> = Scope { transaction: None, user: "root" };

    fn cypress(lists: &[(&str, &str, &str)]) -> Cypress {
        let mut cypress = Cypress::new(Now { wall_us: 0, monotonic: Duration::ZERO });
        for (path, acl, inherit) in lists {
            let options = CreateOptions {
                recursive: Recursive::Yes,
                existing: Existing::Ignore { any_type: false, lock: false },
                attributes: YsonMap::new(),
            };
            cypress.create(&YPath::parse(path).unwrap(), SCOPE, NodeType::MapNode, options).unwrap();
            for (name, text) in [("acl", acl), ("inherit_acl", inherit)] {
                let path = YPath::parse(&format!("{path}/@{name}")).unwrap();
                let new = yson::parse(text.as_bytes()).unwrap();
                cypress.set(&path, SCOPE, new, Recursive::No, false).unwrap();
            }
        }
        cypress
    }

    fn asked(cypress: &Cypress, path: &str, user: &str, permission: &str) -> Permission {
        cypress.check_permission(&YPath::parse(path).unwrap(), SCOPE, user, permission).unwrap()
    }

    #[test]
    fn without_lists_everybody_may() {
        assert_eq!(asked(&cypress(&[]), "//tmp", "alice", "write"), Permission::Allowed);
    }

    #[test]
    fn a_closed_node_is_for_those_it_names() {
        let entry = "[{action=allow; subjects=[alice]; permissions=[read; write]}]";
        let cypress = cypress(&[("//home/a", entry, "%false"), ("//home/a/b", "[]", "%true")]);
        assert_eq!(asked(&cypress, "//home/a/b", "alice", "write"), Permission::Allowed);
        assert_eq!(asked(&cypress, "//home/a/b", "alice", "remove"), Permission::NotMentioned);
        assert_eq!(asked(&cypress, "//home/a", "bob", "read"), Permission::NotMentioned);
        assert_eq!(asked(&cypress, "//home/a", "root", "read"), Permission::Allowed);
        assert_eq!(asked(&cypress, "//home", "bob", "read"), Permission::Allowed);
    }

    #[test]
    fn a_no_counts_more_than_a_yes_and_as_deep_as_it_says() {
        let entries = "[{action=allow; subjects=[alice]; permissions=[write]};
            {action=deny; subjects=[everyone]; permissions=[write]; inheritance_mode=immediate_descendants_only}]";
        let cypress = cypress(&[("//home/a", entries, "%true"), ("//home/a/b/c", "[]", "%true")]);
        assert_eq!(asked(&cypress, "//home/a", "alice", "write"), Permission::Allowed);
        assert_eq!(asked(&cypress, "//home/a/b/c", "alice", "write"), Permission::Allowed);
        let Permission::Denied { path, subject, .. } = asked(&cypress, "//home/a/b", "alice", "write") else {
            panic!("a deny entry was passed over");
        };
        assert_eq!((path.as_str(), subject.as_str()), ("//home/a", "everyone"));
    }
}
