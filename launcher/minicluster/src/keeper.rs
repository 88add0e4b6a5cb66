//! What keeps the state of a server over restarts: every change goes into the journal of a data folder in the order
//! in which it was made, and comes back from there.
//!
//! The journal holds commands, not their effects. Doing them again gives the same state, because Cypress takes its
//! ids from a source that is part of it and its time from whoever calls it; what passes away by itself (transactions
//! that nobody pings, nodes whose time is over) is recorded when it does and does not pass away by itself in a
//! replay. Commands that fail are recorded, too: some have done half of their work by then.
//!
//! Not kept: pings and times of access. After a restart every timeout begins anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::commands::{Journaled, Output};
use crate::cypress::{Cypress, Expired, Now};
use crate::error::YtError;
use crate::guid::Guid;
use crate::operations::KeptOperation;
use crate::storage::codec::{Item, Malformed, Persist, Reader, Writer, persist_struct};
use crate::storage::{DataFolder, Journal};

/// How long answers are kept for those who ask again.
const ANSWERS_KEPT_US: u64 = 10 * 60 * 1_000_000;

/// First byte of a record.
const COMMAND: u8 = 0;
const EXPIRED: u8 = 1;
const OPERATION: u8 = 2;

/// An answer to a mutation.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) given_us: u64,
    pub(crate) mutation_id: String,
    pub(crate) outcome: Result<Output, YtError>,
}

persist_struct!(Answer { given_us, mutation_id, outcome });

impl Persist for Result<Output, YtError> {
    fn put(&self, writer: &mut Writer) {
        match self {
            Ok(output) => {
                true.put(writer);
                output.put(writer);
            }
            Err(error) => {
                false.put(writer);
                error.put(writer);
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(if bool::take(reader)? { Ok(Persist::take(reader)?) } else { Err(Persist::take(reader)?) })
    }
}

/// What is kept besides Cypress.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beside {
    pub(crate) answers: VecDeque<Answer>,
    pub(crate) operations: BTreeMap<Guid, KeptOperation>,
}

persist_struct!(Beside { answers, operations });

/// Keeps what changes.
#[derive(Debug)]
pub(crate) struct Keeper {
    folder: Arc<DataFolder>,
    pub(crate) beside: Beside,
    phase: Phase,
    /// The last snapshot that was begun.
    writing: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Phase {
    /// Changes come from the journal, as of this moment.
    Replaying(Now),
    /// Changes go into the journal.
    Keeping(Arc<Journal>),
}

/// A record, as it is read back.
pub(crate) enum Record {
    /// The request is behind it.
    Command(u64),
    Expired(u64, Expired),
    Operation(Guid, KeptOperation),
}

impl Keeper {
    /// Replays until it is told to keep.
    pub(crate) fn new(folder: Arc<DataFolder>) -> Keeper {
        let start = Now { wall_us: 0, monotonic: std::time::Duration::ZERO };
        Keeper { folder, beside: Beside::default(), phase: Phase::Replaying(start), writing: None }
    }

    /// The moment at which a replayed command was carried out. None: it is now.
    pub(crate) fn replayed_moment(&self) -> Option<Now> {
        match self.phase {
            Phase::Replaying(moment) => Some(moment),
            Phase::Keeping(_) => None,
        }
    }

    /// The next command that is replayed was carried out at this moment.
    pub(crate) fn set_replayed_moment(&mut self, wall_us: u64) {
        self.phase = Phase::Replaying(Now { wall_us, monotonic: std::time::Duration::ZERO });
    }

    /// From here on changes go into this journal.
    pub(crate) fn keep(&mut self, journal: Arc<Journal>) {
        self.phase = Phase::Keeping(journal);
    }

    /// A command was carried out, well or not.
    pub(crate) fn command(
        &mut self,
        cypress: &Cypress,
        now: Now,
        journaled: &Journaled,
        outcome: &Result<Output, YtError>,
    ) {
        let given_us = now.wall_us;
        if let Some(mutation_id) = journaled.mutation_id.clone() {
            let answers = &mut self.beside.answers;
            while answers
                .front()
                .is_some_and(|first| given_us.saturating_sub(first.given_us) > ANSWERS_KEPT_US)
            {
                answers.pop_front();
            }
            answers.push_back(Answer { given_us, mutation_id, outcome: outcome.clone() });
        }
        let mut writer = Writer::default();
        (COMMAND, given_us).put(&mut writer);
        writer.bytes.extend_from_slice(&journaled.record);
        self.append(cypress, &writer);
    }

    /// Something has passed away.
    pub(crate) fn expired(&mut self, cypress: &Cypress, now: Now, expired: &Expired) {
        if expired.is_empty() {
            return;
        }
        let mut writer = Writer::default();
        (EXPIRED, now.wall_us).put(&mut writer);
        expired.put(&mut writer);
        self.append(cypress, &writer);
    }

    /// An operation has started or ended.
    pub(crate) fn operation(&mut self, cypress: &Cypress, id: Guid, operation: KeptOperation) {
        let mut writer = Writer::default();
        (OPERATION, id).put(&mut writer);
        operation.put(&mut writer);
        self.beside.operations.insert(id, operation);
        self.append(cypress, &writer);
    }

    /// Called when the change is made and everything that is kept shows it: a snapshot may be taken here.
    fn append(&mut self, cypress: &Cypress, record: &Writer) {
        let Phase::Keeping(journal) = &self.phase else { return };
        let length = journal.append(&record.bytes);
        let Some(generation) = self.folder.begin_snapshot(journal, length) else { return };
        let (cypress, beside, folder) = (cypress.clone(), self.beside.clone(), Arc::clone(&self.folder));
        let writing = move || folder.finish_snapshot(generation, &encode(&cypress, &beside));
        match std::thread::Builder::new().name("snapshot".to_owned()).spawn(writing) {
            Ok(thread) => self.writing = Some(thread),
            Err(error) => tracing::warn!(%error, "cannot start a thread for a snapshot; the journal grows"),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Nobody else may use the folder while something is written into it.
        if let Some(thread) = self.writing.take() {
            // If it has panicked, it has said so.
            let _ = thread.join();
        }
    }
}

/// A whole state.
pub(crate) fn encode(cypress: &Cypress, beside: &Beside) -> Vec<u8> {
    let mut writer = Writer::default();
    cypress.put(&mut writer);
    beside.put(&mut writer);
    writer.bytes
}

/// A whole state, read back.
pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<(Cypress, Beside), Malformed> {
    let cypress = Cypress::take(reader)?;
    let beside = Beside::take(reader)?;
    if reader.is_at_end() { Ok((cypress, beside)) } else { Err(reader.malformed("state")) }
}

/// The head of a record.
pub(crate) fn take_record(reader: &mut Reader<'_>) -> Result<Record, Malformed> {
    Ok(match u8::take(reader)? {
        COMMAND => Record::Command(Persist::take(reader)?),
        EXPIRED => Record::Expired(Persist::take(reader)?, Persist::take(reader)?),
        OPERATION => Record::Operation(Persist::take(reader)?, Persist::take(reader)?),
        _ => return Err(reader.malformed("record")),
    })
}

impl Item for Answer {}

#[cfg(test)]
mod tests;
