//! Laying one spec over another.

use tractorun_yt::{YsonNode, YsonValue};

/// Lays `over` over `base`: maps key by key, all the way down; anything else replaces what is there.
pub(super) fn merge(base: &mut YsonValue, over: YsonValue) {
    match (&mut base.node, over) {
        (YsonNode::Map(base), YsonValue { node: YsonNode::Map(over), attributes: None }) => {
            for (key, item) in over {
                match base.get_mut(&key) {
                    Some(existing) => merge(existing, item),
                    None => {
                        base.insert(key, item);
                    }
                }
            }
        }
        (_, over) => *base = over,
    }
}
