//! `tractorun attach`: follows a run to its end, as its launcher did, without holding it.

use anyhow::Context;

use crate::commands::interrupt::Interrupts;
use crate::follow::{self, Followed, verdict};
use crate::report::ExitStatus;

/// Follows it. A signal only ends the following.
pub(crate) async fn run(followed: Followed) -> anyhow::Result<ExitStatus> {
    let Followed { operation_id, terminal, .. } = &followed;
    let mut interrupts = Interrupts::install().context("cannot catch signals")?;
    terminal.line(format_args!("operation {operation_id}; Ctrl-C detaches"));
    let work = async {
        let end = follow::until_over(&followed).await?;
        Ok::<_, tractorun_yt::Error>(verdict::report(&followed, end).await)
    };
    match interrupts.guard(work).await {
        Ok(status) => status.with_context(|| format!("cannot follow operation {operation_id}")),
        Err(stop) => {
            terminal.clear();
            terminal.answer(format_args!(
                "detached; operation {operation_id} goes on: `tractorun attach {operation_id}` follows it again, \
                 `tractorun stop {operation_id}` ends it"
            ));
            Ok(stop.status())
        }
    }
}
