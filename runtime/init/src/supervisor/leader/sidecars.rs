//! What the nodes tell of sidecars that ended badly, kept within bounds.

use std::collections::VecDeque;

use tractorun_contract::failure::{MAX_SIDECAR_RECORDS, SidecarEnd};

/// Of each sidecar its last bad end, the newest at the back.
#[derive(Debug, Default)]
pub(super) struct BadEnds(VecDeque<SidecarEnd>);

// === impl BadEnds ===

impl BadEnds {
    /// Takes the news and gives all that is to be known now.
    pub(super) fn note(&mut self, end: SidecarEnd) -> Vec<SidecarEnd> {
        let who = |end: &SidecarEnd| (end.end.node_rank, end.end.cause.sidecar());
        self.0.retain(|known| who(known) != who(&end));
        if self.0.len() >= MAX_SIDECAR_RECORDS {
            self.0.pop_front();
        }
        self.0.push_back(end);
        self.0.iter().cloned().collect()
    }
}
