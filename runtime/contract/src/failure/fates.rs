//! What became of the workers that did not fail first, in a form that stays small for thousands of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ranks::Ranks;

/// Ranges of ranks that a sentence names.
const RANGES_IN_A_SENTENCE: usize = 4;

/// What became of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It ended after it was told to stop.
    Victim,
    /// It had exited with 0 before.
    Finished,
    /// It failed on its own, after the first one, but before it was told to stop.
    Failed,
    /// Its node is gone, so nobody knows.
    Lost,
    /// It had not been started.
    NotStarted,
    /// Its node did not say in time. (Also what a newer init may say that this program has no word for.)
    #[serde(other)]
    Unknown,
}

/// How a process ended, as records say it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordedExit {
    /// Its exit code, or 128 + n for signal n.
    pub exit_code: u8,
    /// Name of the signal, such as `SIGTERM`, that killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
}

/// Workers to whom the same happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FateGroup {
    /// What.
    pub fate: Fate,
    /// How they ended, if they did and it is known.
    #[serde(flatten, default)]
    pub exit: Option<RecordedExit>,
    /// Their ranks.
    pub ranks: Ranks,
    /// Of those that are lost or unknown, the ranks of their nodes.
    #[serde(default, skip_serializing_if = "Ranks::is_empty")]
    pub nodes: Ranks,
}

/// What became of workers, each of which is in one group only.
///
/// As text the counts, such as `5 stopped, 2 finished, 1 lost (node 3)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fates {
    groups: Vec<FateGroup>,
}

// === impl Fates ===

impl Fates {
    /// The groups, by what happened.
    pub fn groups(&self) -> &[FateGroup] {
        &self.groups
    }

    /// Whether nothing is known of anybody.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// How many came to this end.
    pub fn count(&self, fate: Fate) -> u64 {
        self.of(fate).map(|group| group.ranks.len()).sum()
    }

    /// Adds a worker.
    pub fn add(&mut self, rank: u32, fate: Fate, exit: impl Into<Option<RecordedExit>>) {
        self.group(fate, exit.into()).ranks.insert(rank);
    }

    /// Adds all workers of a node of which nobody has told what became of them.
    pub fn add_node(&mut self, node_rank: u32, ranks: impl IntoIterator<Item = u32>, fate: Fate) {
        let group = self.group(fate, None);
        group.nodes.insert(node_rank);
        for rank in ranks {
            group.ranks.insert(rank);
        }
    }

    /// Adds workers that are not here yet.
    pub fn extend(&mut self, others: &Self) {
        for FateGroup { fate, exit, ranks, nodes } in &others.groups {
            let group = self.group(*fate, exit.clone());
            group.ranks.extend(ranks);
            group.nodes.extend(nodes);
        }
    }

    /// Takes a worker out: the one that failed first is not one of the others.
    pub fn remove(&mut self, rank: u32) {
        for group in &mut self.groups {
            group.ranks.remove(rank);
        }
        self.groups.retain(|group| !group.ranks.is_empty());
    }

    fn of(&self, fate: Fate) -> impl Iterator<Item = &FateGroup> {
        self.groups.iter().filter(move |group| group.fate == fate)
    }

    fn group(&mut self, fate: Fate, exit: Option<RecordedExit>) -> &mut FateGroup {
        let key = (fate, exit);
        let known = |group: &FateGroup| (group.fate, group.exit.clone());
        let index = match self.groups.binary_search_by(|group| known(group).cmp(&key)) {
            Ok(index) => index,
            Err(index) => {
                let (fate, exit) = key;
                let group = FateGroup { fate, exit, ranks: Ranks::default(), nodes: Ranks::default() };
                self.groups.insert(index, group);
                index
            }
        };
        &mut self.groups[index]
    }

    /// What is said of those with this fate, behind their number.
    fn say(&self, fate: Fate) -> String {
        let union = |part: fn(&FateGroup) -> &Ranks| {
            let mut all = Ranks::default();
            self.of(fate).for_each(|group| all.extend(part(group)));
            all
        };
        let places = |what: &str, ranks: &Ranks| {
            let plural = if ranks.len() == 1 { "" } else { "s" };
            format!(" ({what}{plural} {})", ranks.brief(RANGES_IN_A_SENTENCE))
        };
        match fate {
            Fate::Victim => {
                let is_killed = |group: &&FateGroup| {
                    group.exit.as_ref().is_some_and(|exit| exit.signal.as_deref() == Some("SIGKILL"))
                };
                match self.of(fate).filter(is_killed).map(|group| group.ranks.len()).sum::<u64>() {
                    0 => "stopped".to_owned(),
                    killed => format!("stopped ({killed} by SIGKILL)"),
                }
            }
            Fate::Finished => "finished".to_owned(),
            Fate::Failed => format!("failed too{}", places("rank", &union(|group| &group.ranks))),
            Fate::Lost => format!("lost{}", places("node", &union(|group| &group.nodes))),
            Fate::NotStarted => "not started".to_owned(),
            Fate::Unknown => match union(|group| &group.nodes) {
                nodes if nodes.is_empty() => "unknown".to_owned(),
                nodes => format!("unknown{}", places("node", &nodes)),
            },
        }
    }
}

impl fmt::Display for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fates: Vec<Fate> = self.groups.iter().map(|group| group.fate).collect();
        fates.dedup();
        for (index, fate) in fates.into_iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{} {}", self.count(fate), self.say(fate))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(exit_code: u8) -> RecordedExit {
        RecordedExit { exit_code, signal: None }
    }

    fn signal(exit_code: u8, name: &str) -> RecordedExit {
        RecordedExit { exit_code, signal: Some(name.into()) }
    }

    fn all_kinds() -> Fates {
        let mut fates = Fates::default();
        fates.add(4, Fate::Failed, code(1));
        fates.add(5, Fate::Failed, signal(134, "SIGABRT"));
        fates.add_node(3, [6, 7], Fate::Lost);
        fates.add(0, Fate::Victim, signal(143, "SIGTERM"));
        fates.add(1, Fate::Victim, signal(137, "SIGKILL"));
        fates.add(2, Fate::Finished, code(0));
        fates.add(8, Fate::NotStarted, None);
        fates.add_node(5, [10, 11], Fate::Unknown);
        fates
    }

    #[test]
    fn it_reads_as_counts() {
        assert_eq!(
            all_kinds().to_string(),
            "2 stopped (1 by SIGKILL), 1 finished, 2 failed too (ranks 4-5), 2 lost (node 3), 1 not started, \
             2 unknown (node 5)"
        );
        assert_eq!(Fates::default().to_string(), "");
    }

    #[test]
    fn json_round_trip() {
        let json = serde_json::to_value(all_kinds()).unwrap();
        assert_eq!(
            json[0],
            serde_json::json!({"fate": "victim", "exit_code": 137, "signal": "SIGKILL", "ranks": "1"})
        );
        assert!(
            json.as_array()
                .unwrap()
                .contains(&serde_json::json!({"fate": "lost", "ranks": "6-7", "nodes": "3"}))
        );
        assert_eq!(serde_json::from_value::<Fates>(json).unwrap(), all_kinds());
    }

    #[test]
    fn words_of_newer_inits_are_unknown() {
        let json = serde_json::json!([{"fate": "abducted", "ranks": "1"}]);
        assert_eq!(serde_json::from_value::<Fates>(json).unwrap().to_string(), "1 unknown");
    }

    #[test]
    fn thousands_are_small_and_the_first_one_is_none_of_them() {
        let mut fates = Fates::default();
        for node in 0..512 {
            let mut of_node = Fates::default();
            (0..8).for_each(|local| of_node.add(node * 8 + local, Fate::Victim, signal(143, "SIGTERM")));
            fates.extend(&of_node);
        }
        fates.remove(100);
        assert_eq!(fates.count(Fate::Victim), 4095);
        let json = serde_json::to_string(&fates).unwrap();
        assert_eq!(json, r#"[{"fate":"victim","exit_code":143,"signal":"SIGTERM","ranks":"0-99,101-4095"}]"#);
        let mut one = Fates::default();
        one.add(0, Fate::Finished, code(0));
        one.remove(0);
        assert!(one.is_empty());
    }
}
