//! Which jobs there are, what is known of each, and whose stderr is read next.
//!
//! A job that was started again has the node of the old one and a stderr of its own: each is read to its end.

use tractorun_yt::value::ValueExt;
use tractorun_yt::{YsonValue, YtError};

use super::Whose;
use super::cursor::Cursor;

/// One job.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its id.
    pub(crate) id: String,
    /// Its node.
    pub(crate) node: u32,
    /// How far it was read.
    pub(crate) cursor: Cursor,
    /// The beginning of a line whose end has not come.
    pub(crate) held_back: Vec<u8>,
    phase: Phase,
    /// How long its stderr is, where the cluster says so.
    hint: Option<u64>,
    /// Number of the reading that was its last one.
    last_read: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It writes, or may.
    Running,
    /// It has ended, and not all of its stderr was read.
    Ended,
    /// Nothing more comes.
    Read,
}

/// All jobs of an operation.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    jobs: Vec<Job>,
    readings: u64,
}

/// What a list of jobs tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// A node has another job than before.
    Restarted {
        /// The node.
        node: u32,
    },
    /// A job ended with an error before it wrote anything, as one whose image cannot be had.
    NeverBegan {
        /// The node.
        node: u32,
        /// Why.
        error: String,
    },
}

impl Jobs {
    /// Takes in a list of the operation's jobs.
    pub(crate) fn update(&mut self, listed: &[YsonValue], whose: Whose) -> Vec<Told> {
        let mut listed: Vec<(u32, &YsonValue)> = with_nodes(listed, whose);
        // A node's first job first.
        listed.sort_by_key(|(node, job)| (*node, text(job, "start_time").unwrap_or_default()));
        let mut told = Vec::new();
        for (node, listed) in listed {
            let Some(id) = text(listed, "id") else { continue };
            let index = self.jobs.iter().position(|job| job.id == id).unwrap_or_else(|| {
                if self.jobs.iter().any(|job| job.node == node) {
                    told.push(Told::Restarted { node });
                }
                self.jobs.push(Job::new(id.clone(), node));
                self.jobs.len() - 1
            });
            let job = &mut self.jobs[index];
            job.hint = listed.get("stderr_size").and_then(ValueExt::as_uint);
            let state = text(listed, "state").unwrap_or_default();
            let has_ended = matches!(state.as_str(), "completed" | "failed" | "aborted" | "lost");
            if has_ended && job.phase == Phase::Running {
                job.phase = Phase::Ended;
                let error = listed.get("error").and_then(YtError::from_value);
                if let Some(error) = error
                    && job.hint.is_none()
                    && job.cursor.offset() == 0
                    && state == "aborted"
                {
                    told.push(Told::NeverBegan { node, error: error.to_string() });
                }
            }
        }
        let nodes: Vec<u32> = self.jobs.iter().map(|job| job.node).collect();
        for (index, job) in self.jobs.iter_mut().enumerate() {
            // A node has one job at a time, whatever else the list says.
            if job.phase == Phase::Running && nodes[index + 1..].contains(&job.node) {
                job.phase = Phase::Ended;
            }
        }
        told
    }

    /// The operation is over, so every job is. The list of jobs that was taken in last is younger than its end.
    pub(crate) fn end_all(&mut self) {
        for job in self.jobs.iter_mut().filter(|job| job.phase != Phase::Read) {
            // With a thousand nodes it would take long to ask each for nothing.
            let is_known_to_be_read = job.hint.is_some() && !job.has_grown();
            job.phase = if is_known_to_be_read { Phase::Read } else { Phase::Ended };
        }
    }

    /// Whose stderr to read next: that has grown, as far as the cluster tells, else the one that was not read for
    /// the longest time. None twice in the same round.
    pub(crate) fn next(&mut self, round_began: u64) -> Option<usize> {
        let jobs = self.jobs.iter().enumerate();
        let due = jobs.filter(|(_, job)| job.phase != Phase::Read && job.last_read <= round_began);
        // The older jobs of a node come first, so that a node's lines stay in order.
        let due = due.filter(|(index, job)| {
            !self.jobs[..*index].iter().any(|older| older.node == job.node && older.phase != Phase::Read)
        });
        due.min_by_key(|(_, job)| (!job.has_grown(), job.last_read)).map(|(index, _)| index)
    }

    /// Number of the last reading.
    pub(crate) fn readings(&self) -> u64 {
        self.readings
    }

    /// The job, which is being read now.
    pub(crate) fn read(&mut self, index: usize) -> &mut Job {
        self.readings += 1;
        self.jobs[index].last_read = self.readings;
        &mut self.jobs[index]
    }

    /// The job.
    pub(crate) fn get(&mut self, index: usize) -> &mut Job {
        &mut self.jobs[index]
    }

    /// How many have something that was not read, or may have.
    pub(crate) fn unread(&self) -> usize {
        self.jobs.iter().filter(|job| job.phase != Phase::Read).count()
    }

    /// All of them.
    pub(crate) fn all(&mut self) -> &mut [Job] {
        &mut self.jobs
    }
}

impl Job {
    fn new(id: String, node: u32) -> Self {
        Self {
            id,
            node,
            cursor: Cursor::default(),
            held_back: Vec::new(),
            phase: Phase::Running,
            hint: None,
            last_read: 0,
        }
    }

    fn has_grown(&self) -> bool {
        self.cursor.is_cut() || self.hint.is_none_or(|hint| hint > self.cursor.offset())
    }

    /// All that is there was read. Of a job that has ended that is all: then it is true.
    pub(crate) fn is_read(&mut self) -> bool {
        if self.phase == Phase::Ended {
            self.phase = Phase::Read;
        }
        self.phase == Phase::Read
    }

    /// Whether it wrote something, so that there may have been more.
    pub(crate) fn may_have_more(&self) -> bool {
        self.cursor.offset() > 0 || self.hint.is_some()
    }

    /// Takes new bytes and gives what may be written now: whole lines, if these are wanted.
    pub(crate) fn release(&mut self, new: &[u8], whole_lines: bool) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.held_back);
        bytes.extend_from_slice(new);
        if whole_lines {
            let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |position| position + 1);
            self.held_back = bytes.split_off(end);
        }
        bytes
    }
}

/// The jobs that are wanted, with their nodes: their cookies, or the order of the list on a cluster that does not
/// say them.
fn with_nodes(listed: &[YsonValue], whose: Whose) -> Vec<(u32, &YsonValue)> {
    let cookie = |job: &YsonValue| u32::try_from(job.get("job_cookie")?.as_int()?).ok();
    let says = listed.iter().any(|job| cookie(job).is_some());
    let jobs = listed.iter().enumerate().filter_map(|(index, job)| {
        let node = if says { cookie(job) } else { u32::try_from(index).ok() };
        Some((node?, job))
    });
    jobs.filter(|(node, _)| whose == Whose::All || *node == 0).collect()
}

fn text(job: &YsonValue, key: &str) -> Option<String> {
    Some(job.get(key)?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use tractorun_yt::value::{int, map, string};

    use super::*;

    fn job(id: &str, cookie: i64, state: &str, stderr_size: i64) -> YsonValue {
        let mut entries = vec![
            ("id", string(id)),
            ("job_cookie", int(cookie)),
            ("state", string(state)),
            ("start_time", string(format!("2026-{id}"))),
        ];
        if stderr_size > 0 {
            entries.push(("stderr_size", int(stderr_size)));
        }
        map(entries)
    }

    /// Reads until nothing is due, without looking at anything twice.
    fn round(jobs: &mut Jobs) -> Vec<String> {
        let began = jobs.readings();
        let mut ids = Vec::new();
        while let Some(index) = jobs.next(began) {
            let job = jobs.read(index);
            job.is_read();
            ids.push(job.id.clone());
        }
        ids
    }

    #[test]
    fn the_primary_is_the_job_with_cookie_0() {
        let listed = [job("b", 1, "running", 0), job("a", 0, "running", 0)];
        let mut jobs = Jobs::default();
        assert_eq!(jobs.update(&listed, Whose::Primary), []);
        assert_eq!(round(&mut jobs), ["a"]);
        let without = [map([("id", string("x"))]), map([("id", string("y"))])];
        let mut jobs = Jobs::default();
        jobs.update(&without, Whose::Primary);
        assert_eq!(round(&mut jobs), ["x"]);
    }

    #[test]
    fn who_has_grown_is_read_first_and_nobody_is_forgotten() {
        let mut jobs = Jobs::default();
        jobs.update(
            &[job("a", 0, "running", 0), job("b", 1, "running", 9), job("c", 2, "running", 9)],
            Whose::All,
        );
        for job in jobs.all() {
            if job.id == "b" {
                let range = job.cursor.wanted(super::super::cursor::Offsets::Honoured);
                job.cursor.accept(b"123456789", range);
            }
        }
        assert_eq!(round(&mut jobs), ["a", "c", "b"]);
    }

    #[test]
    fn a_node_that_was_started_again_is_read_in_order_and_said() {
        let mut jobs = Jobs::default();
        assert_eq!(jobs.update(&[job("1", 0, "running", 5)], Whose::All), []);
        assert_eq!(round(&mut jobs), ["1"]);
        let told = jobs.update(&[job("2", 0, "running", 5), job("1", 0, "failed", 8)], Whose::All);
        assert_eq!(told, [Told::Restarted { node: 0 }]);
        assert_eq!(round(&mut jobs), ["1", "2"]);
        assert_eq!(round(&mut jobs), ["2"], "what has ended and was read is not asked for again");
        jobs.end_all();
        assert_eq!(round(&mut jobs), ["2"]);
        assert_eq!(jobs.unread(), 0);
    }

    #[test]
    fn who_is_known_to_be_read_is_not_asked_at_the_end() {
        let mut jobs = Jobs::default();
        jobs.update(&[job("a", 0, "running", 3), job("b", 1, "running", 3)], Whose::All);
        jobs.all()[0].cursor.accept(b"one", None);
        jobs.end_all();
        assert_eq!(round(&mut jobs), ["b"]);
    }

    #[test]
    fn a_job_that_never_began_says_why() {
        let error = map([("code", int(1132)), ("message", string("No such image"))]);
        let aborted = map([
            ("id", string("1")),
            ("job_cookie", int(3)),
            ("state", string("aborted")),
            ("error", error),
        ]);
        let mut jobs = Jobs::default();
        let expected = Told::NeverBegan { node: 3, error: "No such image".to_owned() };
        assert_eq!(jobs.update(std::slice::from_ref(&aborted), Whose::All), [expected]);
        assert_eq!(jobs.update(&[aborted], Whose::All), [], "it is said once");
    }
}
