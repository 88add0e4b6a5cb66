//! What a person is told as it happens: one line of the log each.

use std::time::Duration;

use tracing::{error, info, warn};
use tractorun_contract::exit::ExitReason;
use tractorun_sys::Signal;

use super::{Driver, names};
use crate::supervisor::Announcement;

/// Of a sidecar that ended badly, so many of its last lines and so much of each are in init's own line about it.
const LOGGED_LINES: usize = 3;
const LOGGED_CHARACTERS: usize = 200;

// === impl Driver ===

impl Driver {
    pub(super) fn announce(&self, announcement: &Announcement) {
        match announcement {
            Announcement::WorkersStarted => {
                let count = self.node.running().count();
                let seconds = format_args!("{:.3}", self.clock.now().as_secs_f64());
                match self.node.attempt() {
                    0 => info!(count, %seconds, "workers started"),
                    attempt => info!(count, %seconds, attempt, "workers started"),
                }
            }
            Announcement::Stopping(failure) => warn!("stopping all workers: {failure}"),
            Announcement::Saving { verdict, signal, remaining } => {
                let seconds = remaining.as_secs_f64();
                warn!("{verdict}; all workers get {signal} and have {seconds:.1} s to save what they have");
            }
            Announcement::Restarting { attempt } => {
                info!("all workers of all nodes are gone; starting them again, attempt {attempt}");
            }
            Announcement::SidecarExited { sidecar, reason, last_lines, restart_after } => {
                let sidecar = self.node.sidecars()[*sidecar].id();
                let end = match *reason {
                    ExitReason::Code(code) => format!("exited with code {code}"),
                    ExitReason::Signal(number) => {
                        let signal =
                            Signal::from_number(number).map_or_else(|| number.to_string(), Signal::name);
                        format!("was killed by {signal}")
                    }
                };
                let then = what_then(*restart_after);
                if reason.is_success() {
                    info!("{sidecar} {end}; {then}");
                } else {
                    warn!("{sidecar} {end}; {then}{}", said_last(last_lines));
                }
            }
            Announcement::SidecarNotStarted { sidecar, restart_after } => {
                let sidecar = self.node.sidecars()[*sidecar].id();
                warn!("{sidecar} could not be started; {}", what_then(*restart_after));
            }
            Announcement::Lingering { sidecars, remaining } => {
                if let Some(who) = names::of_others(sidecars) {
                    let seconds = remaining.as_secs_f64();
                    warn!(
                        "all workers ended with 0; waiting up to {seconds:.0} s for what they left behind: {who}"
                    );
                }
            }
            Announcement::Killing { spared } => {
                if let Some(who) = names::of_others(spared) {
                    warn!("the grace period is over; killing {who}");
                }
            }
            Announcement::GaveUp => error!("some processes outlive SIGKILL; leaving them to the kernel"),
        }
    }
}

/// What becomes of a sidecar that ended.
fn what_then(restart_after: Option<Duration>) -> String {
    match restart_after {
        Some(after) => format!("starting it again in {:.1} s", after.as_secs_f64()),
        None => "it is not started again".to_owned(),
    }
}

/// The last lines of a sidecar, to be appended to the line that says how it ended: they may be far above it.
fn said_last(lines: &[String]) -> String {
    let lines: Vec<&String> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
    match &lines[lines.len().saturating_sub(LOGGED_LINES)..] {
        [] => String::new(),
        [only] => format!("; its last line: {only:.LOGGED_CHARACTERS$}"),
        last => {
            let last: Vec<String> = last.iter().map(|line| format!("{line:.LOGGED_CHARACTERS$}")).collect();
            format!("; its last lines: {}", last.join(" | "))
        }
    }
}
