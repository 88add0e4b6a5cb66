//! Ending single jobs: aborts for any reason, interruptions, preemption, a node that is lost. The jobs run again.

use std::time::Duration;

use super::state::{AbortReason, InterruptionReason, Job, JobState, Operation};
use super::{Operations, State, errors};
use crate::error::YtError;
use crate::guid::Guid;
use crate::value::{self, YsonMap};

impl Operations {
    /// `abort_job`: the job runs again, as one that the system has aborted. With `interrupt_timeout` it is first
    /// asked to end by itself.
    pub fn abort_job(&self, parameters: &YsonMap, user: &str) -> Result<(), YtError> {
        let id = value::required_str(parameters, "job_id")?;
        let timeout = value::optional_i64(parameters, "interrupt_timeout")?.unwrap_or(0);
        let timeout = u64::try_from(timeout).map_err(|_| {
            YtError::generic(format!("Error reading parameter /interrupt_timeout: {timeout} is negative"))
        })?;
        tracing::info!(job = id, user, timeout_ms = timeout, "job aborted by user request");
        if timeout == 0 {
            return self.abort_job_because(id, AbortReason::UserRequest);
        }
        let mut state = self.lock();
        let (operation, index) = state.find_living_job(id)?;
        let job = &mut operation.jobs[index];
        if operation.spec.tasks[job.task].interruption.is_none() {
            return Err(errors::not_interruptible(job.id));
        }
        self.interrupt(job, InterruptionReason::UserRequest, Duration::from_millis(timeout));
        Ok(())
    }

    /// `abandon_job`: the job is killed and counts as completed.
    pub fn abandon_job(&self, parameters: &YsonMap, user: &str) -> Result<(), YtError> {
        let id = value::required_str(parameters, "job_id")?;
        let mut state = self.lock();
        let (operation, index) = state.find_living_job(id)?;
        let job = &mut operation.jobs[index];
        if job.state != JobState::Running {
            return Err(errors::not_running(job.id, job.state.name()));
        }
        tracing::info!(job = id, user, "job abandoned by user request");
        job.abandon();
        Ok(())
    }

    /// Aborts a job for a reason. It runs again.
    pub fn abort_job_because(&self, job: &str, reason: AbortReason) -> Result<(), YtError> {
        let mut state = self.lock();
        let (operation, index) = state.find_living_job(job)?;
        operation.jobs[index].abort(reason);
        Ok(())
    }

    /// Preempts a job, as the scheduler of a cluster does when another operation needs its place: one whose task
    /// has an `interruption_signal` gets it, and is aborted if it is still there after this time; any other one
    /// is aborted at once. It runs again unless it completes. Needs a tokio runtime.
    pub fn preempt(&self, job: &str, timeout: Duration) -> Result<(), YtError> {
        let mut state = self.lock();
        let (operation, index) = state.find_living_job(job)?;
        let job = &mut operation.jobs[index];
        match operation.spec.tasks[job.task].interruption {
            Some(_) => self.interrupt(job, InterruptionReason::Preemption, timeout),
            None => job.abort(AbortReason::Preemption),
        }
        Ok(())
    }

    /// The node is lost, and all jobs on it: here, of all operations. Gives their ids. They run again.
    pub fn lose_node(&self) -> Vec<Guid> {
        let mut state = self.lock();
        let jobs = state.operations.values_mut().flat_map(|operation| &mut operation.jobs);
        let living = jobs.filter(|job| !job.state.is_final());
        living
            .map(|job| {
                job.abort(AbortReason::NodeOffline);
                job.id
            })
            .collect()
    }

    fn interrupt(&self, job: &mut Job, reason: InterruptionReason, timeout: Duration) {
        match job.state {
            JobState::Running if job.interruption.is_none() => {}
            // Once is enough; its time is running.
            JobState::Running => return,
            // There is nobody to ask.
            _ => return job.abort(reason.abort_reason()),
        }
        job.interruption = Some(reason);
        job.control.interrupt();
        let (this, id) = (self.this.clone(), job.id.to_string());
        tokio::spawn(async move {
            tokio::time::sleep(timeout).await;
            if let Some(this) = this.upgrade() {
                // One that has ended in time is not found.
                let _ = this.abort_job_because(&id, reason.abort_reason());
            }
        });
    }
}

impl State {
    /// A job that has not ended, as its operation and its index there.
    fn find_living_job(&mut self, id: &str) -> Result<(&mut Operation, usize), YtError> {
        let is_it = |job: &Job| job.id.to_string() == id && !job.state.is_final();
        self.operations
            .values_mut()
            .find_map(|operation| {
                let index = operation.jobs.iter().position(is_it)?;
                Some((operation, index))
            })
            .ok_or_else(|| errors::no_such_running_job(id))
    }
}
