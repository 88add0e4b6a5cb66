//! Where the ids of nodes, transactions and locks come from: numbers that look random and follow from a seed and a
//! count, so that a journal that is replayed makes the same ids again.

use crate::guid::{Guid, ObjectTypeCode};

/// A source of ids.
#[derive(Debug, Clone)]
pub(super) struct IdSource {
    pub(super) seed: u64,
    /// How many numbers have been drawn.
    pub(super) count: u64,
}

impl IdSource {
    /// One whose ids nobody else makes.
    pub(super) fn random() -> IdSource {
        IdSource { seed: rand::random(), count: 0 }
    }

    /// The next id of an object of this type.
    pub(super) fn next(&mut self, object_type: ObjectTypeCode) -> Guid {
        let (high, low) = (self.draw(), self.draw());
        let [_, _, typed, _] = Guid::of_type(object_type).parts();
        let halves = |number: u64| [(number >> 32) as u32, (number & 0xffff_ffff) as u32];
        let ([first, second], [_, last]) = (halves(high), halves(low));
        Guid::from_parts([first, second, typed, last])
    }

    /// `splitmix64`: a step along the golden ratio, then well mixed. Never the same number twice in 2^64 draws.
    fn draw(&mut self) -> u64 {
        self.count += 1;
        let mut mixed = self.seed.wrapping_add(self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_follow_from_the_seed() {
        let mut source = IdSource { seed: 7, count: 0 };
        let mut again = source.clone();
        let ids: std::collections::BTreeSet<Guid> = (0..1000).map(|_| source.next(401)).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.object_type() == 401 && id.is_of_this_cell()));
        assert!((0..1000).all(|_| ids.contains(&again.next(401))));
        assert!(!ids.contains(&IdSource { seed: 8, count: 0 }.next(401)));
    }
}
