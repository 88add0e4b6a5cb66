//! From lines in order to bytes on stdout: the last of them, alike ones as one, in colours or as JSON.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};

use super::LogsError;
use super::collapse::{Collapser, Group};
use super::options::{Collapse, Format, Options};
use super::render::{Medium, Process, TextLines, json};
use super::row::Line;
use crate::report::Colour;

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 64 << 10;

/// Where lines go.
pub(crate) struct View {
    out: Vec<u8>,
    format: Format,
    text: TextLines,
    collapser: Option<Collapser>,
    /// Lines that are shown only if nothing follows, and how many these may be.
    tail: Option<(usize, VecDeque<(usize, Line)>)>,
    /// Whose lines those of each index are.
    processes: Vec<Process>,
    incarnation: Option<u32>,
}

impl View {
    /// A view on this process' stdout; `variable` looks up the environment.
    pub(crate) fn new(options: &Options, variable: impl Fn(&str) -> Option<String>) -> Self {
        let stdout = io::stdout();
        let medium = if stdout.is_terminal() { Medium::Terminal } else { Medium::Pipe };
        let collapses = options.format == Format::Text
            && match options.collapse {
                Collapse::Always => true,
                Collapse::Never => false,
                Collapse::Auto => medium == Medium::Terminal,
            };
        Self {
            out: Vec::new(),
            format: options.format,
            text: TextLines::new(Colour::of(&stdout, variable), medium),
            collapser: collapses.then(Collapser::default),
            tail: options.tail.map(|count| (count, VecDeque::new())),
            processes: Vec::new(),
            incarnation: None,
        }
    }

    /// What follows is of that incarnation.
    pub(crate) fn begin_incarnation(&mut self, number: u32) -> Result<(), LogsError> {
        if self.incarnation.is_some() {
            self.flush()?;
            if self.format == Format::Text {
                self.text.boundary(&format!("incarnation {number}"), &mut self.out);
            }
        }
        self.incarnation = Some(number);
        self.processes.clear();
        Ok(())
    }

    /// The table of the next index is of that process.
    pub(crate) fn add(&mut self, process: Process) {
        self.processes.push(process);
    }

    /// Takes the next line, of the table of that index.
    pub(crate) fn line(&mut self, index: usize, line: Line) -> Result<(), LogsError> {
        if let Some((count, lines)) = &mut self.tail {
            lines.push_back((index, line));
            if lines.len() > *count {
                lines.pop_front();
            }
            return Ok(());
        }
        self.show(index, line)
    }

    /// All that is there now was read: what waited for its end is shown, and what may wait no longer.
    pub(crate) fn end_round(&mut self) -> Result<(), LogsError> {
        self.end_tail()?;
        if let Some(collapser) = &mut self.collapser {
            let mut shown = Vec::new();
            collapser.end_round(self.processes.len(), &mut shown);
            self.groups(shown)?;
        }
        self.write()
    }

    /// Shows all that was held back.
    pub(crate) fn flush(&mut self) -> Result<(), LogsError> {
        self.end_tail()?;
        if let Some(collapser) = &mut self.collapser {
            let mut shown = Vec::new();
            collapser.flush(&mut shown);
            self.groups(shown)?;
        }
        self.text.end(&mut self.out);
        self.write()
    }

    fn end_tail(&mut self) -> Result<(), LogsError> {
        let Some((_, lines)) = self.tail.take() else { return Ok(()) };
        lines.into_iter().try_for_each(|(index, line)| self.show(index, line))
    }

    fn show(&mut self, index: usize, line: Line) -> Result<(), LogsError> {
        match (&mut self.collapser, self.format) {
            (Some(collapser), _) => {
                let mut shown = Vec::new();
                collapser.push(index, line, &mut shown);
                self.groups(shown)
            }
            (None, Format::Text) => {
                self.text.line(&self.processes[index..=index], &line, &mut self.out);
                self.write_if_much()
            }
            (None, Format::Json) => {
                json(self.processes[index], self.incarnation, &line, &mut self.out);
                self.write_if_much()
            }
        }
    }

    fn groups(&mut self, groups: Vec<Group>) -> Result<(), LogsError> {
        for group in groups {
            let processes: Vec<Process> =
                group.members.iter().map(|member| self.processes[*member]).collect();
            // Sidecars and workers are counted for themselves.
            let (mut workers, mut others) = (Vec::new(), Vec::new());
            for process in processes {
                if matches!(process, Process::Worker(_)) {
                    workers.push(process);
                } else {
                    others.push(process);
                }
            }
            self.text.line(&workers, &group.line, &mut self.out);
            self.text.line(&others, &group.line, &mut self.out);
            self.write_if_much()?;
        }
        Ok(())
    }

    fn write_if_much(&mut self) -> Result<(), LogsError> {
        if self.out.len() >= BUFFER_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), LogsError> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&self.out).and_then(|()| stdout.flush());
        self.out.clear();
        written.map_err(LogsError::from_stdout)
    }
}

/// Whether nobody reads our stdout any more, which nobody notices who writes nothing.
pub(crate) fn stdout_is_closed() -> bool {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    let stdout = io::stdout();
    let mut watched = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    poll(&mut watched, PollTimeout::ZERO).is_ok()
        && watched[0]
            .revents()
            .is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL))
}
