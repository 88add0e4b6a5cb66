//! The primary's stderr, as it grows: only what is new is fetched, all of it is shown.

use tractorun_yt::value::ValueExt;
use tractorun_yt::{Client, Error, JobFilter, StderrRange, YsonValue};

use crate::commands::terminal::Terminal;
use crate::settings::ProxyStderrMode;

use super::{Followed, is_temporary};

/// The most that is fetched at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// No stderr is that long: a cluster that sends something from there on ignores the offset.
const BEYOND_ANY_END: u64 = 1 << 48;

/// Times that the end is asked for again when the cluster is away.
const FINAL_TRIES: u32 = 3;

/// Shows one job's stderr from its start.
#[derive(Debug)]
pub struct StderrTail {
    client: Client,
    operation_id: String,
    terminal: Terminal,
    mode: ProxyStderrMode,
    job_id: Option<String>,
    cursor: Cursor,
}

/// Turns answers of the cluster into what is new.
#[derive(Debug, Default)]
struct Cursor {
    /// Bytes that were shown or are held back.
    offset: u64,
    /// Whether the cluster sends from an offset on.
    offsets: Offsets,
    /// The beginning of a line whose end has not come.
    held_back: Vec<u8>,
}

/// Whether the cluster sends from an offset on. An older one ignores it without a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Offsets {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It does.
    Honoured,
    /// It always sends everything.
    Ignored,
}

impl StderrTail {
    /// Nothing is fetched yet, and nothing ever if the user does not want it.
    pub fn new(followed: &Followed) -> Self {
        Self {
            client: followed.client.clone(),
            operation_id: followed.operation_id.clone(),
            terminal: followed.terminal.clone(),
            mode: followed.proxy_stderr_mode,
            job_id: None,
            cursor: Cursor::default(),
        }
    }

    /// Shows what is new. Trouble is left to the next time.
    pub async fn poll(&mut self) {
        if self.mode == ProxyStderrMode::Primary
            && let Err(error) = self.fetch().await
        {
            tracing::debug!("cannot read the primary's stderr: {error}");
        }
    }

    /// Shows the rest, when the job is over.
    pub async fn finish(&mut self) {
        if self.mode == ProxyStderrMode::Disabled {
            return;
        }
        for _ in 0..FINAL_TRIES {
            match self.fetch().await {
                Err(error) if is_temporary(&error) => {}
                Err(error) if self.cursor.offset > 0 => {
                    self.terminal
                        .warning(format_args!("cannot read the end of the primary's stderr: {error}"));
                    break;
                }
                // A job that never began has no stderr.
                Ok(()) | Err(_) => break,
            }
        }
        let rest = std::mem::take(&mut self.cursor.held_back);
        if !rest.is_empty() {
            self.terminal.write(&rest);
            self.terminal.write(b"\n");
        }
    }

    async fn fetch(&mut self) -> Result<(), Error> {
        let job_id = match &self.job_id {
            Some(job_id) => job_id.clone(),
            None => match self.find_job().await? {
                Some(job_id) => self.job_id.insert(job_id).clone(),
                None => return Ok(()),
            },
        };
        loop {
            let range = StderrRange { offset: self.cursor.offset, limit: CHUNK_BYTES };
            let range = (self.offsets(&job_id).await? == Offsets::Honoured).then_some(range);
            let answer = self.client.get_job_stderr(&self.operation_id, &job_id, range).await?;
            let new = self.cursor.accept(&answer);
            let more = range.is_some() && new.len() as u64 >= CHUNK_BYTES;
            let bytes = self.cursor.release(new, self.terminal.wants_whole_lines());
            if !bytes.is_empty() {
                self.terminal.write(&bytes);
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Finds out once, as soon as there is something to send.
    async fn offsets(&mut self, job_id: &str) -> Result<Offsets, Error> {
        if self.cursor.offsets == Offsets::Unknown && self.cursor.offset > 0 {
            let range = StderrRange { offset: BEYOND_ANY_END, limit: 1 };
            let answer = self.client.get_job_stderr(&self.operation_id, job_id, Some(range)).await;
            self.cursor.offsets = match answer {
                Ok(bytes) if !bytes.is_empty() => Offsets::Ignored,
                Err(error) if is_temporary(&error) => return Err(error),
                Ok(_) | Err(_) => Offsets::Honoured,
            };
        }
        Ok(self.cursor.offsets)
    }

    async fn find_job(&self) -> Result<Option<String>, Error> {
        let jobs = self.client.list_jobs(&self.operation_id, JobFilter::default()).await?;
        Ok(primary(&jobs))
    }
}

/// Id of node 0's job: the one with cookie 0, or the first where the cluster does not say.
fn primary(jobs: &[YsonValue]) -> Option<String> {
    let cookie = |job: &YsonValue| job.get("job_cookie").and_then(ValueExt::as_int);
    let by_cookie = jobs.iter().find(|job| cookie(job) == Some(0));
    let job = by_cookie.or_else(|| jobs.first().filter(|job| cookie(job).is_none()))?;
    Some(job.get("id")?.as_str()?.to_owned())
}

impl Cursor {
    /// Takes an answer and gives what was not seen before.
    fn accept<'a>(&mut self, answer: &'a [u8]) -> &'a [u8] {
        let seen = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let new = match self.offsets {
            Offsets::Honoured => answer,
            Offsets::Unknown | Offsets::Ignored => answer.get(seen..).unwrap_or_default(),
        };
        self.offset += new.len() as u64;
        new
    }

    /// What may be written now.
    fn release(&mut self, new: &[u8], whole_lines: bool) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.held_back);
        bytes.extend_from_slice(new);
        if whole_lines {
            let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |position| position + 1);
            self.held_back = bytes.split_off(end);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use tractorun_yt::value;

    use super::*;

    fn job(id: &str, cookie: Option<i64>) -> YsonValue {
        let cookie = cookie.map(|cookie| ("job_cookie", value::int(cookie)));
        value::map([("id", value::string(id))].into_iter().chain(cookie))
    }

    #[test]
    fn the_primary_is_the_job_with_cookie_0() {
        assert_eq!(primary(&[job("b", Some(1)), job("a", Some(0))]).unwrap(), "a");
        assert_eq!(primary(&[job("b", None), job("a", None)]).unwrap(), "b");
        assert_eq!(primary(&[job("b", Some(1))]), None);
        assert_eq!(primary(&[]), None);
    }

    #[test]
    fn only_new_bytes_are_shown() {
        let mut cursor = Cursor { offsets: Offsets::Honoured, ..Cursor::default() };
        assert_eq!(cursor.accept(b"one\n"), b"one\n");
        assert_eq!(cursor.accept(b"one\n"), b"one\n");
        assert_eq!(cursor.accept(b""), b"");
        assert_eq!(cursor.offset, 8);
    }

    #[test]
    fn a_cluster_that_always_sends_all_is_read_all_the_same() {
        let mut cursor = Cursor { offsets: Offsets::Ignored, ..Cursor::default() };
        assert_eq!(cursor.accept(b"one\n"), b"one\n");
        assert_eq!(cursor.accept(b"one\none\n"), b"one\n");
        assert_eq!(cursor.accept(b"one\none\n"), b"");
    }

    #[test]
    fn a_terminal_gets_whole_lines() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.release(b"one\ntw", true), b"one\n");
        assert_eq!(cursor.release(b"o\n", true), b"two\n");
        assert_eq!(cursor.release(b"thr", false), b"thr");
    }
}
