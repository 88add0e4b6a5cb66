//! What becomes of an operation when something happens to it or to one of its jobs. Plain functions on plain data.

use super::clock::Moment;
use super::errors;
use super::runner::Outcome;
use super::spec::OnJobRestart;
use super::state::{
    AbortReason, Cookie, Counters, End, Job, JobState, Operation, OperationState, Scheduling, StderrKept,
    WhenKilled, Work,
};
use crate::error::YtError;
use crate::guid::Guid;

impl Operation {
    /// Decides the end, once: kills what runs, and is over when nothing does.
    pub(super) fn end(&mut self, end: End, error: Option<YtError>) {
        if self.state.is_ending() {
            return;
        }
        self.error = error;
        self.enter(match end {
            End::Completed => OperationState::Completing,
            End::Failed => OperationState::Failing,
            End::Aborted => OperationState::Aborting,
        });
        for job in &mut self.jobs {
            job.abort(AbortReason::OperationFinished);
        }
        self.finish_if_nobody_is_left();
    }

    fn finish_if_nobody_is_left(&mut self) {
        let last = match self.state {
            OperationState::Completing => OperationState::Completed,
            OperationState::Failing => OperationState::Failed,
            OperationState::Aborting => OperationState::Aborted,
            _ => return,
        };
        if self.jobs.iter().all(|job| job.state.is_final()) {
            self.enter(last);
            self.finished = Some(Moment::now());
            // The artifacts' bytes may go with their last user.
            self.files.clear();
            self.keep.keep(self);
            self.over.send_replace(true);
        }
    }

    /// The cookie that gets the next job, if jobs may start.
    pub(super) fn next_free_cookie(&self) -> Option<(usize, u32)> {
        if self.state != OperationState::Running || self.scheduling == Scheduling::Suspended {
            return None;
        }
        let free = self.cookies.iter().enumerate().flat_map(|(task, cookies)| {
            let free = cookies.iter().enumerate().filter(|(_, cookie)| **cookie == Cookie::Free);
            free.map(move |(cookie, _)| (task, u32::try_from(cookie).unwrap_or(u32::MAX)))
        });
        let Some(gang) = &self.gang else { return free.into_iter().next() };
        // Jobs of two incarnations never run at the same time.
        let waits =
            self.jobs.iter().any(|job| !job.state.is_final() && job.incarnation != Some(gang.incarnation));
        if waits {
            return None;
        }
        free.filter(|(task, _)| !gang.task_is_completed(*task))
            .min_by_key(|(task, cookie)| (gang.seat(*task, *cookie), *task, *cookie))
    }

    /// A job has ended and nobody of it is alive. Decides what becomes of its cookie and of the operation.
    pub(super) fn job_ended(&mut self, id: Guid, outcome: Outcome) {
        let kept =
            self.jobs.iter().filter(|job| job.state.is_final() && job.stderr_kept == StderrKept::Yes).count();
        let Some(job) = self.jobs.iter_mut().find(|job| job.id == id && !job.state.is_final()) else {
            return;
        };
        job.finished = Some(Moment::now());
        if kept as u64 >= self.spec.max_stderr_count {
            job.stderr_kept = StderrKept::No;
            job.stderr.forget();
        }
        let is_stale = self.gang.as_ref().is_some_and(|gang| job.incarnation != Some(gang.incarnation));
        // How a job of an old incarnation ended by itself does not matter any more.
        let outcome = if is_stale { Outcome::Aborted } else { outcome };
        let abandoned = job.when_killed == WhenKilled::Completed && job.abort_reason.is_none();
        let (state, cookie, error) = match outcome {
            Outcome::Aborted if abandoned && !is_stale => (JobState::Completed, Cookie::Done, None),
            Outcome::Completed => (JobState::Completed, Cookie::Done, None),
            Outcome::Interrupted => (JobState::Completed, Cookie::Free, None),
            Outcome::Failed(error) => (JobState::Failed, Cookie::Free, Some(error)),
            Outcome::Aborted => {
                let reason = *job.abort_reason.get_or_insert(AbortReason::NodeOffline);
                (JobState::Aborted, Cookie::Free, Some(errors::job_aborted(reason, job.interruption)))
            }
        };
        if cookie == Cookie::Done {
            job.work = Work::Done;
        }
        job.state = state;
        job.error.clone_from(&error);
        let (task, number, rank) = (job.task, job.cookie, job.rank);
        self.cookies[task][number as usize] = cookie;
        if !is_stale {
            if let (Some(gang), Some(rank)) = (&mut self.gang, rank) {
                match cookie {
                    Cookie::Done => gang.rank_completed(task),
                    _ => gang.rank_is_free(task, rank),
                }
            }
            self.decide(id, task, rank, error);
        }
        self.finish_if_nobody_is_left();
    }

    /// What the end of a job means for the others.
    fn decide(&mut self, id: Guid, task: usize, rank: Option<u32>, error: Option<YtError>) {
        let Some(job) = self.jobs.iter().find(|job| job.id == id) else { return };
        let (state, is_done) = (job.state, job.work == Work::Done);
        let failed = self.counters(None).failed as u64;
        let limit = self.max_failed_job_count;
        let restart = self.spec.tasks[task].on_job_restart;
        match (state, error) {
            (JobState::Failed | JobState::Aborted, Some(error)) if restart == OnJobRestart::Fail => {
                self.end(End::Failed, Some(errors::failed_on_job_restart(state.name(), id, error)));
            }
            (JobState::Failed, Some(error)) if failed >= limit => {
                self.end(End::Failed, Some(errors::max_failed_jobs(limit, id, error)));
            }
            _ if is_done => {
                let all_done = match &self.gang {
                    Some(gang) => gang.is_completed(),
                    None => self.cookies.iter().flatten().all(|cookie| *cookie == Cookie::Done),
                };
                if all_done {
                    self.end(End::Completed, None);
                }
            }
            _ if rank.is_some() => self.begin_incarnation(task),
            _ => {}
        }
    }

    /// A job with a rank in this task has ended without completing.
    fn begin_incarnation(&mut self, task: usize) {
        let Some(gang) = self.gang.as_mut().filter(|gang| gang.restarts_with(task)) else { return };
        if self.state != OperationState::Running {
            return;
        }
        let before = gang.incarnation;
        let living = self.jobs.iter().filter(|job| !job.state.is_final());
        gang.restart(living.map(|job| (job.task, job.cookie, job.rank)));
        tracing::info!(operation = %self.id, from = %before, to = %gang.incarnation, "new incarnation of a gang");
        for cookie in self.cookies.iter_mut().flatten().filter(|cookie| **cookie == Cookie::Done) {
            *cookie = Cookie::Free;
        }
        for job in &mut self.jobs {
            job.abort(AbortReason::OperationIncarnationChanged);
        }
    }

    /// Whether a completed job's work is to be done again: it was interrupted, or belongs to an old incarnation.
    fn must_run_again(&self, job: &Job) -> bool {
        job.work == Work::Unfinished
            || self.gang.as_ref().is_some_and(|gang| job.incarnation != Some(gang.incarnation))
    }

    /// Gives the next job of this place its incarnation and its rank, if the operation is a gang.
    pub(super) fn take_rank(&mut self, task: usize, cookie: u32) -> (Option<Guid>, Option<u32>) {
        match &mut self.gang {
            Some(gang) => (Some(gang.incarnation), gang.take_rank(task, cookie)),
            None => (None, None),
        }
    }

    /// Counts jobs, of one task or of all.
    pub(super) fn counters(&self, task: Option<usize>) -> Counters {
        let mut counters = Counters {
            total: task
                .map_or_else(|| self.spec.total_jobs(), |task| self.spec.tasks[task].job_count as usize),
            ..Counters::default()
        };
        for job in self.jobs.iter().filter(|job| task.is_none_or(|task| job.task == task)) {
            match job.state {
                JobState::Waiting | JobState::Running | JobState::Aborting => counters.running += 1,
                // Work that is done again counts once.
                JobState::Completed if self.must_run_again(job) => counters.aborted += 1,
                JobState::Completed => counters.completed += 1,
                JobState::Failed => counters.failed += 1,
                JobState::Aborted => counters.aborted += 1,
            }
        }
        let done_or_running = counters.completed + counters.running;
        counters.pending =
            if self.state.is_ending() { 0 } else { counters.total.saturating_sub(done_or_running) };
        counters
    }
}
