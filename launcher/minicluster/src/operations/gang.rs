//! Gang operations: jobs with ranks that run together or not at all.
//!
//! An operation is a gang if one of its tasks has `gang_options`. Each task then has as many ranks as its gang
//! is large (all its jobs, if it has no `gang_options` itself); jobs beyond that are in reserve. When a job with
//! a rank in a gang task ends otherwise than by completing, all jobs end and a new incarnation begins. Places
//! whose job was alive then keep cookie and rank; the rank of the job that ended goes to a reserve, if there is
//! one.
//!
//! Plain data, like the rest of an operation's state.

use std::collections::{BTreeMap, BTreeSet};

use crate::guid::Guid;

use super::spec::OperationSpec;

/// The state of a gang.
#[derive(Debug)]
pub(super) struct Gang {
    pub(super) incarnation: Guid,
    tasks: Vec<Ranks>,
    /// What the places of the incarnation before have kept, by task and cookie.
    kept: BTreeMap<(usize, u32), Seat>,
}

/// The ranks of one task.
#[derive(Debug)]
struct Ranks {
    size: u32,
    free: BTreeSet<u32>,
    completed: u32,
    restart: Restart,
}

/// What the end of a job with a rank means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restart {
    /// A new incarnation of all.
    Everybody,
    /// A new job with that rank: the task has no `gang_options`.
    ItAlone,
}

/// What a place has when a new incarnation begins, in the order in which places get their jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seat {
    /// Its rank.
    Rank(u32),
    /// No rank, but somewhere to run.
    Reserve,
    /// Nothing: its job had ended.
    Nothing,
}

// === impl Gang ===

impl Gang {
    /// `None` if the operation is not a gang.
    pub(super) fn new(spec: &OperationSpec) -> Option<Self> {
        spec.tasks.iter().any(|task| task.gang.is_some()).then(|| Gang {
            incarnation: Guid::random_untyped(),
            tasks: spec
                .tasks
                .iter()
                .map(|task| match task.gang {
                    Some(gang) => Ranks::new(gang.size, Restart::Everybody),
                    None => Ranks::new(task.job_count, Restart::ItAlone),
                })
                .collect(),
            kept: BTreeMap::new(),
        })
    }

    /// All ranks of the operation.
    pub(super) fn size(&self) -> u32 {
        self.tasks.iter().map(|task| task.size).sum()
    }

    /// The ranks of one task.
    pub(super) fn task_size(&self, task: usize) -> u32 {
        self.tasks[task].size
    }

    /// What a place has from before.
    pub(super) fn seat(&self, task: usize, cookie: u32) -> Seat {
        self.kept.get(&(task, cookie)).copied().unwrap_or(Seat::Nothing)
    }

    /// The rank of a new job: the one its place has kept, else the lowest that is free.
    pub(super) fn take_rank(&mut self, task: usize, cookie: u32) -> Option<u32> {
        let seat = self.kept.remove(&(task, cookie));
        let ranks = &mut self.tasks[task];
        match seat {
            Some(Seat::Rank(rank)) if ranks.free.remove(&rank) => Some(rank),
            _ => ranks.free.pop_first(),
        }
    }

    /// A job with this rank has completed.
    pub(super) fn rank_completed(&mut self, task: usize) {
        self.tasks[task].completed += 1;
    }

    /// A job with this rank has ended without completing.
    pub(super) fn rank_is_free(&mut self, task: usize, rank: u32) {
        self.tasks[task].free.insert(rank);
    }

    /// Whether the end of a job with a rank in this task ends all jobs.
    pub(super) fn restarts_with(&self, task: usize) -> bool {
        self.tasks[task].restart == Restart::Everybody
    }

    /// Whether all ranks of a task have completed: its reserve does not matter any more.
    pub(super) fn task_is_completed(&self, task: usize) -> bool {
        self.tasks[task].completed == self.tasks[task].size
    }

    /// Whether all ranks of all tasks have completed.
    pub(super) fn is_completed(&self) -> bool {
        (0..self.tasks.len()).all(|task| self.task_is_completed(task))
    }

    /// Begins a new incarnation. `living`: task, cookie and rank of the jobs that are alive.
    pub(super) fn restart(&mut self, living: impl Iterator<Item = (usize, u32, Option<u32>)>) {
        self.incarnation = Guid::random_untyped();
        for ranks in &mut self.tasks {
            *ranks = Ranks::new(ranks.size, ranks.restart);
        }
        self.kept = living
            .map(|(task, cookie, rank)| ((task, cookie), rank.map_or(Seat::Reserve, Seat::Rank)))
            .collect();
    }
}

impl Ranks {
    fn new(size: u32, restart: Restart) -> Self {
        Ranks { size, free: (0..size).collect(), completed: 0, restart }
    }
}
