//! Putting together what became of the workers of all nodes.

use std::collections::{BTreeMap, BTreeSet};

use tractorun_contract::failure::{Failure, Fate, Fates};

/// What the nodes have told, or what is known of those that cannot tell any more.
#[derive(Debug, Default)]
pub(super) struct Reports {
    told: BTreeMap<u32, Fates>,
    lost: BTreeSet<u32>,
}

// === impl Reports ===

impl Reports {
    /// A node has ended its workers. The first word counts.
    pub(super) fn told(&mut self, node_rank: u32, fates: Fates) {
        self.told.entry(node_rank).or_insert(fates);
    }

    /// A node is gone; if it has told before, that stands.
    pub(super) fn lost(&mut self, node_rank: u32) {
        self.lost.insert(node_rank);
    }

    /// Nodes of which nothing more is to come.
    pub(super) fn settled(&self) -> usize {
        self.told.len() + self.lost.iter().filter(|node| !self.told.contains_key(node)).count()
    }

    /// The fates of all workers but the one that failed first.
    pub(super) fn others(&self, verdict: &Failure, node_count: u32, workers_per_node: u32) -> Fates {
        let mut others = Fates::default();
        for node in 0..node_count {
            let ranks = node * workers_per_node..(node + 1) * workers_per_node;
            match self.told.get(&node) {
                Some(fates) => others.extend(fates),
                None if self.lost.contains(&node) => others.add_node(node, ranks, Fate::Lost),
                None => others.add_node(node, ranks, Fate::Unknown),
            }
        }
        if let Some(rank) = verdict.rank {
            others.remove(rank);
        }
        others
    }
}
