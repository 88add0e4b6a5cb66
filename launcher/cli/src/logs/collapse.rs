//! Lines that many ranks print alike become one.
//!
//! A line joins an earlier one with the same bytes if that is of another rank and at most a second old, and if
//! nothing of its own rank stands behind that: so the lines of each rank stay in their order. What is shown is
//! late by as much as others may still join it.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::row::{Content, Line};
use super::time::Micros;

/// How far apart in time lines may be that become one.
const WINDOW: Micros = 1_000_000;

/// For how many rounds of reading a line waits for others. Every node writes its tables in its own time, once a
/// second, so that what belongs together does not come in one round.
const HOLD_ROUNDS: u64 = 3;

/// What may be held back, in bytes and in lines.
const MOST_BYTES: usize = 16 << 20;
const MOST_GROUPS: usize = 20_000;

/// A line and the indexes of all tables that have it, the first first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// The line of the first.
    pub(crate) line: Line,
    /// All that have it.
    pub(crate) members: Vec<usize>,
    round: u64,
    hash: u64,
}

/// Lines that others may still join.
#[derive(Debug, Default)]
pub(crate) struct Collapser {
    groups: VecDeque<Group>,
    /// Number of the first group.
    first: u64,
    /// Number of the newest group that a table has a line in.
    newest_of: HashMap<usize, u64>,
    /// Numbers of the groups by what they hold.
    by_hash: HashMap<u64, VecDeque<u64>>,
    weight: usize,
    round: u64,
}

impl Collapser {
    /// Takes a line of the table of that index, and adds to `shown` what nobody can join any more.
    pub(crate) fn push(&mut self, member: usize, line: Line, shown: &mut Vec<Group>) {
        while self.groups.front().is_some_and(|group| group.line.timestamp + WINDOW < line.timestamp) {
            self.release(shown);
        }
        let hash = hash_of(&line);
        let own = self.newest_of.get(&member).copied();
        let joined = self.by_hash.get(&hash).into_iter().flatten().copied().find(|number| {
            own.is_none_or(|own| own < *number) && self.group(*number).is_some_and(|group| group.takes(&line))
        });
        let number = if let Some(number) = joined {
            let index = self.index(number);
            self.groups[index].members.push(member);
            number
        } else {
            let number = self.first + self.groups.len() as u64;
            self.weight += line.weight();
            self.by_hash.entry(hash).or_default().push_back(number);
            self.groups.push_back(Group { line, members: vec![member], round: self.round, hash });
            number
        };
        self.newest_of.insert(member, number);
        while self.weight > MOST_BYTES || self.groups.len() > MOST_GROUPS {
            self.release(shown);
        }
    }

    /// A round of reading is over: what all `tables` have, and what is older than some rounds, is shown.
    pub(crate) fn end_round(&mut self, tables: usize, shown: &mut Vec<Group>) {
        self.round += 1;
        let is_due =
            |group: &Group, round| group.members.len() >= tables || group.round + HOLD_ROUNDS <= round;
        while self.groups.front().is_some_and(|group| is_due(group, self.round)) {
            self.release(shown);
        }
    }

    /// Shows all.
    pub(crate) fn flush(&mut self, shown: &mut Vec<Group>) {
        while !self.groups.is_empty() {
            self.release(shown);
        }
    }

    fn release(&mut self, shown: &mut Vec<Group>) {
        let Some(group) = self.groups.pop_front() else { return };
        self.weight -= group.line.weight();
        if let Some(numbers) = self.by_hash.get_mut(&group.hash) {
            numbers.pop_front();
            if numbers.is_empty() {
                self.by_hash.remove(&group.hash);
            }
        }
        self.first += 1;
        shown.push(group);
    }

    fn group(&self, number: u64) -> Option<&Group> {
        self.groups.get(self.index(number))
    }

    fn index(&self, number: u64) -> usize {
        // At most MOST_GROUPS are held.
        usize::try_from(number - self.first).unwrap_or(usize::MAX)
    }
}

impl Group {
    fn takes(&self, line: &Line) -> bool {
        let is_near = self.line.timestamp.abs_diff(line.timestamp) <= WINDOW.unsigned_abs();
        is_near
            && self.line.attempt == line.attempt
            && self.line.stream == line.stream
            && matches!(line.content, Content::Text { .. })
            && self.line.content == line.content
    }
}

fn hash_of(line: &Line) -> u64 {
    let mut hasher = DefaultHasher::new();
    (line.stream, &line.content).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::row::tests::line;
    use super::*;

    fn collapse(lines: &[(usize, Micros, &str)]) -> Vec<(String, Vec<usize>)> {
        let (mut collapser, mut shown) = (Collapser::default(), Vec::new());
        for (member, timestamp, message) in lines {
            collapser.push(*member, line(*timestamp, message), &mut shown);
        }
        collapser.flush(&mut shown);
        shown.into_iter().map(|group| (text(&group.line), group.members)).collect()
    }

    fn text(line: &Line) -> String {
        match &line.content {
            Content::Text { message, .. } => String::from_utf8(message.clone()).unwrap(),
            Content::Gap { .. } => "gap".to_owned(),
        }
    }

    fn group(text: &str, members: &[usize]) -> (String, Vec<usize>) {
        (text.to_owned(), members.to_vec())
    }

    #[test]
    fn what_all_print_is_one_line() {
        let shown =
            collapse(&[(0, 0, "a"), (1, 1, "a"), (2, 2, "other"), (3, 3, "a"), (0, 4, "b"), (1, 5, "b")]);
        assert_eq!(shown, [group("a", &[0, 1, 3]), group("other", &[2]), group("b", &[0, 1])]);
    }

    #[test]
    fn a_rank_that_prints_a_line_twice_is_there_twice() {
        let shown = collapse(&[(0, 0, "a"), (0, 1, "a"), (1, 2, "a"), (1, 3, "a")]);
        assert_eq!(shown, [group("a", &[0, 1]), group("a", &[0, 1])]);
    }

    #[test]
    fn the_order_of_a_rank_is_kept() {
        let shown = collapse(&[(0, 0, "a"), (0, 1, "b"), (1, 2, "b"), (1, 3, "a")]);
        assert_eq!(shown, [group("a", &[0]), group("b", &[0, 1]), group("a", &[1])]);
    }

    #[test]
    fn what_is_far_apart_stays_apart() {
        let shown = collapse(&[(0, 0, "a"), (1, WINDOW + 1, "a")]);
        assert_eq!(shown, [group("a", &[0]), group("a", &[1])]);
        let shown = collapse(&[(0, 0, "a"), (1, WINDOW, "a")]);
        assert_eq!(shown, [group("a", &[0, 1])]);
    }

    #[test]
    fn streams_and_gaps_stay_apart() {
        let (mut collapser, mut shown) = (Collapser::default(), Vec::new());
        let stderr = Line { stream: super::super::row::Stream::Stderr, ..line(0, "a") };
        let gap = Line { content: Content::Gap { lines: 1, bytes: 1 }, ..line(0, "") };
        collapser.push(0, line(0, "a"), &mut shown);
        collapser.push(1, stderr, &mut shown);
        collapser.push(2, gap.clone(), &mut shown);
        collapser.push(3, gap, &mut shown);
        collapser.flush(&mut shown);
        assert_eq!(shown.len(), 4);
    }

    #[test]
    fn a_line_waits_some_rounds_for_others_but_not_when_all_have_it() {
        let (mut collapser, mut shown) = (Collapser::default(), Vec::new());
        collapser.push(0, line(0, "a"), &mut shown);
        for _ in 1..HOLD_ROUNDS {
            collapser.end_round(3, &mut shown);
            assert!(shown.is_empty());
        }
        collapser.push(1, line(0, "a"), &mut shown);
        collapser.end_round(3, &mut shown);
        assert_eq!(shown.remove(0).members, [0, 1]);
        collapser.push(0, line(0, "b"), &mut shown);
        collapser.push(1, line(0, "b"), &mut shown);
        collapser.end_round(2, &mut shown);
        assert_eq!(shown.remove(0).members, [0, 1]);
    }

    proptest! {
        /// Whatever comes: each rank's lines are all there, once, in their order.
        #[test]
        fn no_line_of_a_rank_is_lost_doubled_or_moved(
            lines in prop::collection::vec((0..4_usize, 0..3_000_000_i64, 0..3_u8), 0..60),
            rounds in prop::collection::vec(any::<bool>(), 60),
        ) {
            let (mut collapser, mut shown) = (Collapser::default(), Vec::new());
            for ((member, timestamp, letter), end) in lines.iter().zip(rounds) {
                let message = letter.to_string();
                collapser.push(*member, line(*timestamp, &message), &mut shown);
                if end {
                    collapser.end_round(4, &mut shown);
                }
            }
            collapser.flush(&mut shown);
            for rank in 0..4 {
                let wrote: Vec<String> =
                    lines.iter().filter(|line| line.0 == rank).map(|line| line.2.to_string()).collect();
                let seen: Vec<String> =
                    shown.iter().filter(|group| group.members.contains(&rank)).map(|group| text(&group.line)).collect();
                prop_assert_eq!(wrote, seen);
            }
        }
    }
}
