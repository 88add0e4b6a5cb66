//! Whatever happens to lines in between, each is committed or dropped once.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::metrics::OutputStream;

const ALL: Limit = limit(u64::MAX);

const fn limit(bytes: u64) -> Limit {
    Limit { memory: bytes, spooled: bytes }
}

fn record() -> Record {
    Record { stream: OutputStream::Stdout, attempt: 0, time_us: 7 }
}

fn push(store: &mut Store, table: usize, text: &str) {
    store.push(table, &record(), text.as_bytes(), b"");
}

#[test]
fn what_is_taken_stays_until_it_is_committed_and_is_numbered_from_there() {
    let mut store = Store::new(2);
    push(&mut store, 1, "a\nb\n");
    assert_eq!(store.pending(|_| true).tables, 1);
    let lot = store.take(1, ALL).unwrap();
    assert_eq!((lot.first_seq, lot.after.rows, lot.after.lines, lot.after.bytes), (0, 2, 2, 4));
    push(&mut store, 1, "c\rd");
    assert_eq!(store.pending(|_| true).tables, 1, "only what is not on its way waits");

    store.unpin(1);
    let again = store.take(1, ALL).unwrap();
    assert_eq!((again.blocks.len(), again.first_seq, again.after.rows), (2, 0, 4));
    assert_eq!(store.commit(1), []);
    assert_eq!(store.committed(1), again.after);
    assert_eq!(store.memory(), 0);
    assert!(store.take(1, ALL).is_none());
    assert!(store.take(0, ALL).is_none());
}

#[test]
fn the_oldest_are_dropped_and_one_row_says_how_many() {
    let mut store = Store::new(2);
    for text in ["1\n2\n", "3\n", "4\n"] {
        push(&mut store, 0, text);
        // Closes the block.
        store.take(0, limit(0));
    }
    let pinned = store.take(0, limit(1)).unwrap();
    assert_eq!(pinned.blocks.len(), 1);
    assert_eq!(store.drop_oldest(9), Some(vec![]));
    assert_eq!(store.drop_oldest(9), Some(vec![]));
    assert_eq!(store.drop_oldest(9), None, "what is on its way is not dropped");
    push(&mut store, 0, "5\n");
    store.commit(0);
    let lot = store.take(0, ALL).unwrap();
    assert_eq!(lot.first_seq, 2);
    let dropped = Dropped { lines: 2, bytes: 4, attempt: 0, time_us: 9 };
    assert!(matches!(&lot.blocks[0].content, Content::Dropped(found) if *found == dropped));
    let after = Totals { rows: 4, lines: 3, bytes: 6, dropped_lines: 2, dropped_bytes: 4 };
    assert_eq!(lot.after, after);
}

proptest! {
    /// Whatever is pushed, taken, committed, undone, spooled and dropped, every line is committed or dropped, once,
    /// in order, and no byte of memory is forgotten.
    #[test]
    fn nothing_is_lost(steps in proptest::collection::vec((0..6_u8, 0..2_usize), 0..80)) {
        let mut store = Store::new(2);
        let mut next = [0_u32; 2];
        let mut seen: [Vec<Vec<u8>>; 2] = Default::default();
        let mut spool: std::collections::BTreeMap<u64, Bytes> = std::collections::BTreeMap::new();
        let mut pinned: [Option<Lot>; 2] = [None, None];
        let mut offset = 0;
        let finish = steps.len();
        let steps = steps.into_iter().chain([(1, 0), (2, 0), (1, 0), (2, 0), (1, 1), (2, 1), (1, 1), (2, 1)]);
        for (number, (step, table)) in steps.enumerate() {
            match step {
                0 => {
                    push(&mut store, table, &format!("{}\n", next[table]));
                    next[table] += 1;
                }
                1 if pinned[table].is_none() => {
                    let limit = if number < finish { limit(30) } else { ALL };
                    pinned[table] = store.take(table, limit);
                }
                2 => if let Some(lot) = pinned[table].take() {
                    let before = store.committed(table);
                    prop_assert_eq!(lot.first_seq, before.rows);
                    for block in &lot.blocks {
                        let bytes = match &block.content {
                            Content::Memory(bytes) => bytes.clone(),
                            Content::Spooled(extent) => spool[&extent.offset].clone(),
                            Content::Dropped(dropped) => {
                                seen[table].extend((0..dropped.lines).map(|_| b"?".to_vec()));
                                continue;
                            }
                        };
                        let mut at = 0;
                        while let Some((_, range)) = Record::read(&bytes, at) {
                            at = range.end;
                            seen[table].extend(cut::rows(&bytes[range]).map(|(row, _)| row.to_vec()));
                        }
                    }
                    for extent in store.commit(table) {
                        spool.remove(&extent.offset).unwrap();
                    }
                    prop_assert_eq!(store.committed(table), lot.after);
                },
                3 => {
                    pinned[table] = None;
                    store.unpin(table);
                }
                4 => if let Some((table, at, block)) = store.oldest_in_memory() {
                        let Content::Memory(bytes) = block.content else { panic!("it is in memory") };
                    let extent = Extent { offset, length: bytes.len() as u64 };
                    offset += extent.length;
                    spool.insert(extent.offset, bytes);
                    store.moved(table, at, extent);
                },
                5 => for extent in store.drop_oldest(1).into_iter().flatten() {
                    spool.remove(&extent.offset).unwrap();
                },
                _ => {}
            }
            prop_assert_eq!(store.spooled(), spool.values().map(|bytes| bytes.len() as u64).sum::<u64>());
        }
        prop_assert_eq!((store.memory(), store.spooled()), (0, 0));
        for table in 0..2 {
            prop_assert_eq!(seen[table].len(), next[table] as usize);
            for (number, line) in seen[table].iter().enumerate() {
                prop_assert!(line == b"?" || *line == number.to_string().as_bytes(), "{:?}", seen);
            }
        }
    }
}
