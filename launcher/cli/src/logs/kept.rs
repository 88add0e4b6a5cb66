//! What the cluster keeps of the jobs' stderr, for a run without log tables.
//!
//! Nothing is known of its lines but their node: neither rank, time nor stream.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::sleep;
use tractorun_yt::Client;

use super::LogsError;
use super::catalog::Incarnation;
use super::options::{Follow, Options, Wanted};
use super::render::Process;
use super::row::{Assembler, Content, Line, LineEnd, Stream};
use super::view::{View, stdout_is_closed};
use crate::follow::is_temporary;
use crate::follow::stderr::{JobStderrs, News, Pieces, Whose};
use crate::report::{ExitStatus, Report};

/// Pause between two looks.
const POLLS: Duration = Duration::from_millis(500);

/// Shows it: once, or until the run is over.
pub(crate) async fn run(
    client: &Client,
    incarnation: &Incarnation,
    options: &Options,
    report: Report,
    view: View,
) -> Result<ExitStatus, LogsError> {
    for what in ignored(options) {
        report.warning(&format!("`{what}` is left aside: without log tables nothing is known of that"));
    }
    let Some(operation_id) = incarnation.operation_id.clone() else {
        report.warning(&format!("incarnation {} names no operation: nothing is kept", incarnation.number));
        return Ok(ExitStatus::Success);
    };
    // How many nodes there are, nobody says here; there are not more than workers.
    let node_count = incarnation.worker_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    let mut stderrs =
        JobStderrs::new(client.clone(), operation_id, node_count, Whose::All, Pieces::WholeLines);
    let mut lines = Lines { view, options, report, nodes: BTreeMap::new(), failed: None };
    if options.follow == Follow::UntilOver {
        loop {
            if stdout_is_closed() {
                return Err(LogsError::Closed);
            }
            let is_over = match incarnation.is_over(client).await {
                Ok(is_over) => is_over,
                Err(error) if is_temporary(&error) => false,
                Err(error) => return Err(error.into()),
            };
            if is_over {
                break;
            }
            match stderrs.poll(&mut |news| lines.take(news)).await {
                Err(error) if !is_temporary(&error) => return Err(error.into()),
                _ => {}
            }
            lines.check()?;
            lines.view.end_round()?;
            sleep(POLLS).await;
        }
    }
    stderrs.finish(&mut |news| lines.take(news)).await;
    lines.check()?;
    lines.view.flush()?;
    Ok(ExitStatus::Success)
}

/// Options that cannot be heeded.
fn ignored(options: &Options) -> Vec<&'static str> {
    let selection = &options.selection;
    [
        ("--rank", matches!(selection.workers, Wanted::Only(_))),
        ("--sidecar", selection.sidecars != Wanted::None),
        ("--stream", options.filter.stream.is_some()),
        ("--since", options.filter.since.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is_given)| is_given.then_some(name))
    .collect()
}

/// Lines on their way to the view.
struct Lines<'a> {
    view: View,
    options: &'a Options,
    report: Report,
    /// Index of each node at the view.
    nodes: BTreeMap<u32, (usize, Assembler)>,
    failed: Option<LogsError>,
}

impl Lines<'_> {
    fn take(&mut self, news: News) {
        if self.failed.is_some() {
            return;
        }
        match news {
            News::Note(text) => self.report.warning(&text),
            News::Bytes { node, bytes } => {
                let wanted = self.options.selection.nodes.as_ref();
                if wanted.is_none_or(|nodes| nodes.contains(node)) {
                    self.failed = self.show(node, &bytes).err();
                }
            }
        }
    }

    fn show(&mut self, node: u32, bytes: &[u8]) -> Result<(), LogsError> {
        let count = self.nodes.len();
        let (index, assembler) = self.nodes.entry(node).or_insert_with(|| (count, Assembler::default()));
        let index = *index;
        if index == count {
            self.view.add(Process::Node(node));
        }
        let mut lines = VecDeque::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (message, end) = match part.strip_suffix(b"\n") {
                Some(message) => (message, LineEnd::Newline),
                None => (part, LineEnd::Nothing),
            };
            let content = Content::Text { message: message.to_vec(), end };
            let row = Line { timestamp: 0, seq: 0, attempt: 0, stream: Stream::Stderr, content };
            assembler.push(row, &mut lines);
        }
        for line in lines {
            let Content::Text { message, .. } = &line.content else { continue };
            if self.options.filter.grep.as_ref().is_none_or(|grep| grep.is_match(message)) {
                self.view.line(index, line)?;
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), LogsError> {
        self.failed.take().map_or(Ok(()), Err)
    }
}
