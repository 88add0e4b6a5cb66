//! `update_operation_parameters`: checks and applies a change.

use ytsaurus_yson::YsonNode;

use super::state::RuntimeParameters;
use crate::error::YtError;
use crate::value::{self, YsonMap};

/// Applies all of a change or, if something of it is wrong, nothing.
pub(super) fn apply(current: &mut RuntimeParameters, change: &YsonMap) -> Result<(), YtError> {
    let mut next = current.clone();
    for (name, new) in change {
        let name = String::from_utf8_lossy(name);
        let map = || {
            value::as_map(new).ok_or_else(|| {
                YtError::generic(format!(
                    "Error reading parameter /parameters/{name}: a map is expected, got {}",
                    value::type_name(new)
                ))
            })
        };
        match name.as_ref() {
            // For all trees at once.
            "pool" | "weight" => {
                for options in next.trees.values_mut() {
                    options.insert(name.as_bytes().to_vec(), new.clone());
                }
            }
            "scheduling_options_per_pool_tree" => {
                for (tree, options) in map()? {
                    let tree = String::from_utf8_lossy(tree);
                    let known = next.trees.get_mut(tree.as_ref()).ok_or_else(|| {
                        YtError::generic(format!("Operation does not run in pool tree {:?}", tree.as_ref()))
                    })?;
                    merge(known, value::as_map(options).unwrap_or(&YsonMap::new()));
                }
            }
            "acl" => next.acl = Some(new.clone()),
            "options_per_job_shell" => next.options_per_job_shell = Some(new.clone()),
            "annotations" if new.node == YsonNode::Entity => next.annotations.clear(),
            "annotations" => merge(&mut next.annotations, map()?),
            _ => {
                return Err(YtError::generic(format!(
                    "Unknown operation parameter {:?}: acl, annotations, options_per_job_shell, pool, \
                     scheduling_options_per_pool_tree and weight are known",
                    name.as_ref()
                )));
            }
        }
    }
    *current = next;
    Ok(())
}

/// Puts a map over another one, maps in it likewise.
fn merge(base: &mut YsonMap, over: &YsonMap) {
    for (name, new) in over {
        match (base.get_mut(name).map(|old| &mut old.node), &new.node) {
            (Some(YsonNode::Map(old)), YsonNode::Map(new)) => merge(old, new),
            _ => {
                base.insert(name.clone(), new.clone());
            }
        }
    }
}
