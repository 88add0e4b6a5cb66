//! Sets of ranks, kept and written as people write them: `0-3,7`.
//!
//! A job may have thousands of workers, and what is said of them is mostly the same for long runs of ranks.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A set of ranks, of workers or of nodes. As text its ranges by number, such as `0-3,7`; empty text if there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranks {
    /// Sorted, and with a gap between any two.
    ranges: Vec<RangeInclusive<u32>>,
}

/// Text that is no set of ranks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a list of ranks: expected numbers and ranges in order, such as `0-3,7`")]
pub struct ParseRanksError(String);

// === impl Ranks ===

impl Ranks {
    /// How many there are.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(range.end() - range.start()) + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether this rank is among them.
    pub fn contains(&self, rank: u32) -> bool {
        let after = self.ranges.partition_point(|range| *range.start() <= rank);
        after > 0 && self.ranges[after - 1].contains(&rank)
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.ranges.iter().cloned().flatten()
    }

    /// Adds one; one that is there already changes nothing.
    pub fn insert(&mut self, rank: u32) {
        self.insert_range(rank..=rank);
    }

    /// Adds all of a range; an empty one changes nothing.
    pub fn insert_range(&mut self, range: RangeInclusive<u32>) {
        if range.is_empty() {
            return;
        }
        // Those that touch the new one become one with it.
        let first = self.ranges.partition_point(|known| known.end().saturating_add(1) < *range.start());
        let last = self.ranges.partition_point(|known| *known.start() <= range.end().saturating_add(1));
        let merged = self.ranges[first..last]
            .iter()
            .fold(range, |merged, known| *merged.start().min(known.start())..=*merged.end().max(known.end()));
        self.ranges.splice(first..last, [merged]);
    }

    /// Takes one out; one that is not there changes nothing.
    pub fn remove(&mut self, rank: u32) {
        let Some(index) = self.ranges.iter().position(|range| range.contains(&rank)) else { return };
        let (start, end) = (*self.ranges[index].start(), *self.ranges[index].end());
        let before = (start < rank).then(|| start..=rank - 1);
        let after = (rank < end).then(|| rank + 1..=end);
        self.ranges.splice(index..=index, before.into_iter().chain(after));
    }

    /// Adds all of another set.
    pub fn extend(&mut self, others: &Self) {
        for range in &others.ranges {
            self.insert_range(range.clone());
        }
    }

    /// The set for a sentence, cut off where it has more than `most` ranges.
    pub fn brief(&self, most: usize) -> String {
        let shown = Self { ranges: self.ranges.iter().take(most).cloned().collect() };
        if self.ranges.len() > most { format!("{shown},...") } else { shown.to_string() }
    }
}

impl FromIterator<u32> for Ranks {
    fn from_iter<I: IntoIterator<Item = u32>>(ranks: I) -> Self {
        let mut set = Self::default();
        for rank in ranks {
            set.insert(rank);
        }
        set
    }
}

impl fmt::Display for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match (range.start(), range.end()) {
                (start, end) if start == end => write!(f, "{comma}{start}")?,
                (start, end) => write!(f, "{comma}{start}-{end}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Ranks {
    type Err = ParseRanksError;

    fn from_str(text: &str) -> Result<Self, ParseRanksError> {
        let wrong = || ParseRanksError(text.to_owned());
        let mut ranks = Self::default();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (start, end) = part.split_once('-').unwrap_or((part, part));
            let (start, end) = (start.parse().map_err(|_| wrong())?, end.parse().map_err(|_| wrong())?);
            if start > end || ranks.ranges.last().is_some_and(|last| *last.end() >= start) {
                return Err(wrong());
            }
            ranks.insert_range(start..=end);
        }
        Ok(ranks)
    }
}

impl Serialize for Ranks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ranks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ranks(text: &str) -> Ranks {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_back() {
        for text in ["", "0", "3-5", "0-3,7,9-4294967295"] {
            assert_eq!(ranks(text).to_string(), text);
        }
        assert_eq!(Ranks::from_iter([4, 2, 3, 9, 3]).to_string(), "2-4,9");
        assert_eq!(ranks("1-2,5").brief(1), "1-2,...");
        assert_eq!(ranks("1-2,5").brief(2), "1-2,5");
        assert_eq!(serde_json::to_value(ranks("0-4095")).unwrap(), "0-4095");
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["x", "1-", "-1", "3-1", "1,1", "5,2", "1,,2", " 1"] {
            assert_eq!(
                text.parse::<Ranks>().unwrap_err().to_string(),
                format!(
                    "`{text}` is not a list of ranks: expected numbers and ranges in order, such as `0-3,7`"
                )
            );
        }
    }

    /// Against a plain set, over every way to build one of seven ranks in some order and to take one out again.
    #[test]
    fn it_is_a_set() {
        let mut state = 1_u32;
        for _ in 0..2000 {
            let (mut set, mut model) = (Ranks::default(), BTreeSet::new());
            for _ in 0..12 {
                // Any generator of numbers will do (Knuth's).
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let rank = (state >> 16) % 7;
                if state & 0x8000 == 0 {
                    set.remove(rank);
                    model.remove(&rank);
                } else {
                    set.insert(rank);
                    model.insert(rank);
                }
                assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                assert_eq!(set.len(), model.len() as u64);
                assert!((0..9).all(|rank| set.contains(rank) == model.contains(&rank)));
                assert_eq!(ranks(&set.to_string()), set);
            }
        }
    }
}
