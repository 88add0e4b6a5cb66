//! Showing lines: once, or on until the run is over.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};
use tractorun_yt::Client;

use super::catalog::{self, Incarnation, Look, Table};
use super::kept;
use super::merge::Merge;
use super::options::{Follow, Options};
use super::source::Source;
use super::view::{View, stdout_is_closed};
use super::{LogsError, bounds, check_selection};
use crate::follow::is_temporary;
use crate::report::{ExitStatus, Report};

/// Pause between two looks at what there is: two or three requests, and one for each table that has grown.
const POLLS: Duration = Duration::from_millis(500);

/// A run without log tables has its workers started for so long without one.
const TABLES_LATE: Duration = Duration::from_secs(5);

/// Tables whose beginning is looked for at the same time.
const AT_ONCE: usize = 8;

/// Who asks the cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clients<'a> {
    /// For questions whose failure ends it: it tries for long.
    pub(crate) once: &'a Client,
    /// For questions that are asked again anyway.
    pub(crate) following: &'a Client,
}

/// Shows what is asked for.
pub(crate) async fn run(
    clients: Clients<'_>,
    options: &Options,
    report: Report,
    view: View,
) -> Result<ExitStatus, LogsError> {
    let follow = options.follow == Follow::UntilOver;
    let client = clients.once;
    let incarnation = match catalog::find(client, &options.yt_path, options.incarnation).await {
        Err(LogsError::NoIncarnation { path }) if follow && options.incarnation.is_none() => {
            report.note(&format!("waiting until a run begins in `{path}`"));
            wait_for_incarnation(client, options).await?
        }
        found => found?,
    };
    let look = catalog::look(client, &options.yt_path, incarnation.number).await?;
    if look.tables.is_empty() && (!follow || !tables_come(client, options, &incarnation).await?) {
        report.note(&format!(
            "incarnation {} of `{}` has no log tables: this is what the cluster keeps of its jobs' stderr",
            incarnation.number, options.yt_path
        ));
        let client = if follow { clients.following } else { client };
        return kept::run(client, &incarnation, options, report, view).await;
    }
    if !follow {
        check_selection(options, &incarnation, &look.tables)?;
    }
    let client = if follow { clients.following } else { client };
    let mut shown = Shown { client, options, view };
    if follow {
        shown.follow(incarnation).await?;
    } else {
        shown.view.begin_incarnation(incarnation.number)?;
        let mut merge = Merge::default();
        shown.grow(&mut merge, &mut HashMap::new(), look.tables).await?;
        shown.drain(&mut merge).await?;
        shown.finish(&mut merge).await?;
        shown.view.flush()?;
    }
    Ok(ExitStatus::Success)
}

async fn wait_for_incarnation(client: &Client, options: &Options) -> Result<Incarnation, LogsError> {
    loop {
        match catalog::find(client, &options.yt_path, None).await {
            Err(LogsError::NoIncarnation { .. }) => {}
            Err(LogsError::Cluster(error)) if is_temporary(&error) => {}
            found => return found,
        }
        if stdout_is_closed() {
            return Err(LogsError::Closed);
        }
        sleep(POLLS).await;
    }
}

/// Waits until there are tables, or there will be none.
async fn tables_come(
    client: &Client,
    options: &Options,
    incarnation: &Incarnation,
) -> Result<bool, LogsError> {
    let mut met: Option<Instant> = None;
    loop {
        let over = incarnation.is_over(client).await?;
        if !catalog::look(client, &options.yt_path, incarnation.number).await?.tables.is_empty() {
            return Ok(true);
        }
        if met.is_none()
            && catalog::read(client, &options.yt_path, incarnation.number).await?.worker_count.is_some()
        {
            met = Some(Instant::now());
        }
        if over || met.is_some_and(|met| met.elapsed() > TABLES_LATE) {
            return Ok(false);
        }
        if stdout_is_closed() {
            return Err(LogsError::Closed);
        }
        sleep(POLLS).await;
    }
}

/// What shows lines.
struct Shown<'a> {
    client: &'a Client,
    options: &'a Options,
    view: View,
}

impl Shown<'_> {
    /// Shows what comes until the run is over, whatever incarnations it takes.
    async fn follow(&mut self, mut incarnation: Incarnation) -> Result<(), LogsError> {
        loop {
            self.view.begin_incarnation(incarnation.number)?;
            let (mut merge, mut known) = (Merge::default(), HashMap::new());
            let next = loop {
                match self.round(&incarnation, &mut merge, &mut known).await {
                    Ok(Round::GoesOn) => sleep(POLLS).await,
                    Ok(Round::Over(next)) => break next,
                    // Whoever waits is told by [`crate::patience`].
                    Err(LogsError::Cluster(error)) if is_temporary(&error) => sleep(POLLS).await,
                    Err(error) => return Err(error),
                }
            };
            self.finish(&mut merge).await?;
            self.view.flush()?;
            match next {
                Some(next) => incarnation = next,
                None => return Ok(()),
            }
        }
    }

    /// One look at everything. After an error the next one goes on where this one was.
    async fn round(
        &mut self,
        incarnation: &Incarnation,
        merge: &mut Merge,
        known: &mut HashMap<String, usize>,
    ) -> Result<Round, LogsError> {
        if stdout_is_closed() {
            return Err(LogsError::Closed);
        }
        // Asked first: a run that is over writes nothing behind what is read now.
        let over = incarnation.is_over(self.client).await?;
        let Look { tables, newest } =
            catalog::look(self.client, &self.options.yt_path, incarnation.number).await?;
        let next = match newest {
            Some(newest) if newest > incarnation.number && self.options.incarnation.is_none() => {
                let next = catalog::read(self.client, &self.options.yt_path, newest).await?;
                // One operation may take several: a gang that was started again. Another operation is another run.
                Some(next).filter(|next| next.operation_id == incarnation.operation_id)
            }
            _ => None,
        };
        self.grow(merge, known, tables).await?;
        self.drain(merge).await?;
        self.view.end_round()?;
        Ok(if over || next.is_some() { Round::Over(next) } else { Round::GoesOn })
    }

    /// Takes in how long the tables are now. Those that are new are begun where they are needed.
    async fn grow(
        &mut self,
        merge: &mut Merge,
        known: &mut HashMap<String, usize>,
        tables: Vec<Table>,
    ) -> Result<(), LogsError> {
        let (client, options) = (self.client, self.options);
        let mut new = Vec::new();
        for table in tables.into_iter().filter(|table| options.selection.contains(table)) {
            match known.get(&table.path) {
                Some(index) => merge.sources()[*index].grow(table.rows),
                None => new.push(table),
            }
        }
        let starts = stream::iter(new.iter().map(|table| bounds::start(client, table, options)));
        let starts: Vec<u64> = starts.buffered(AT_ONCE).try_collect().await?;
        for (table, start) in new.into_iter().zip(starts) {
            let mut source = Source::new(table.path.clone(), start);
            source.grow(table.rows);
            merge.add(source);
            self.view.add(table.process);
            known.insert(table.path, known.len());
        }
        Ok(())
    }

    /// Shows all that there is.
    async fn drain(&mut self, merge: &mut Merge) -> Result<(), LogsError> {
        while let Some((index, line)) = merge.next(Some(self.client), &self.options.filter).await? {
            self.view.line(index, line)?;
        }
        Ok(())
    }

    /// Shows lines that have begun and whose end will not come.
    async fn finish(&mut self, merge: &mut Merge) -> Result<(), LogsError> {
        for source in merge.sources() {
            source.finish(&self.options.filter);
        }
        self.drain(merge).await
    }
}

/// What a look has shown.
enum Round {
    /// More may come.
    GoesOn,
    /// Nothing more comes of this incarnation; another one of the same operation may have begun.
    Over(Option<Incarnation>),
}
