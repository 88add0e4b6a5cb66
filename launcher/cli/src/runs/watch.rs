//! `tractorun status --watch`: the same again and again, until the run is over.

use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::time::sleep;
use tractorun_yt::Client;

use super::options::Whereabouts;
use super::status::Status;
use super::{find, now, print};
use crate::report::ExitStatus;

/// Pause between two looks, each of which is a handful of requests.
const LOOKS: Duration = Duration::from_secs(2);

/// Takes what is on the screen away and begins at its top.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Shows it. A terminal shows the newest, anything else gets one after the other, whenever something but the time is new.
pub(crate) async fn run(client: &Client, whereabouts: &Whereabouts) -> anyhow::Result<ExitStatus> {
    let is_terminal = io::stdout().is_terminal();
    let mut shown: Option<Status> = None;
    loop {
        let status = Status::of(client, find::find(client, whereabouts).await?).await?;
        let is_new = shown.as_ref() != Some(&status);
        match (is_terminal, is_new, &shown) {
            (true, ..) => print(&format!("{CLEAR}{}", status.to_text(now())))?,
            (false, true, None) => print(&status.to_text(now()))?,
            (false, true, Some(_)) => print(&format!("\n{}", status.to_text(now())))?,
            (false, false, _) => {}
        }
        if status.is_over() {
            return Ok(ExitStatus::Success);
        }
        shown = Some(status);
        sleep(LOOKS).await;
    }
}
