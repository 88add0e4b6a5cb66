//! Finding a run, its incarnations and their log tables. Each look at the tables is one request, however many
//! ranks there are.

use tractorun_contract::cypress::{self, incarnation as attribute};
use tractorun_contract::logs::{TABLE_ATTRIBUTE, TableRecord};
use tractorun_contract::ranks::Ranks;
use tractorun_yt::value::{self, ValueExt};
use tractorun_yt::{BatchRequest, Client, Error, YsonValue, YtError, codes};

use super::LogsError;
use super::options::Selection;
use super::render::Process;

/// One incarnation of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Incarnation {
    /// Its number.
    pub(crate) number: u32,
    /// The operation that it is; made up where the run has none.
    pub(crate) operation_id: Option<String>,
    /// The transaction that lives as long as its leader.
    pub(crate) transaction_id: Option<String>,
    /// How many workers it has, once they have met.
    pub(crate) worker_count: Option<usize>,
}

/// A log table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Whose lines it holds.
    pub(crate) process: Process,
    /// Where it is.
    pub(crate) path: String,
    /// How many rows it has.
    pub(crate) rows: u64,
    /// What init says of it; a table of the Python tractorun has none.
    pub(crate) record: Option<TableRecord>,
}

/// What a run has at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// Tables of the incarnation that was asked for, workers first, in order.
    pub(crate) tables: Vec<Table>,
    /// Number of the newest incarnation.
    pub(crate) newest: Option<u32>,
}

/// The incarnation of that number, or the newest.
pub(crate) async fn find(
    client: &Client,
    yt_path: &str,
    wanted: Option<u32>,
) -> Result<Incarnation, LogsError> {
    let path = yt_path.to_owned();
    let names = match client.list(&format!("{yt_path}/incarnations"), &[]).await {
        Ok(names) => names,
        Err(error) if error.contains(codes::RESOLVE_ERROR) => {
            let exists = client.exists(yt_path).await?;
            return Err(if exists { LogsError::NotARun { path } } else { LogsError::NoSuchPath { path } });
        }
        Err(error) => return Err(error.into()),
    };
    let mut numbers: Vec<u32> =
        names.iter().filter_map(|name| name.as_str()).filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    let Some(newest) = numbers.last().copied() else { return Err(LogsError::NoIncarnation { path }) };
    let number = wanted.unwrap_or(newest);
    if !numbers.contains(&number) {
        let existing = Ranks::from_iter(numbers).to_string();
        return Err(LogsError::NoSuchIncarnation { path, number, existing });
    }
    Ok(read(client, yt_path, number).await?)
}

/// What an incarnation says of itself.
pub(crate) async fn read(client: &Client, yt_path: &str, number: u32) -> Result<Incarnation, Error> {
    let names = [attribute::OPERATION_ID, attribute::TRANSACTION_ID, attribute::TOPOLOGY];
    let node = client.get_with(&cypress::incarnation(yt_path, number), &names).await?;
    let text = |name: &str| Some(attribute_of(&node, name)?.as_str()?.to_owned());
    Ok(Incarnation {
        number,
        operation_id: text(attribute::OPERATION_ID),
        transaction_id: text(attribute::TRANSACTION_ID),
        worker_count: attribute_of(&node, attribute::TOPOLOGY).and_then(ValueExt::as_list).map(<[_]>::len),
    })
}

/// The tables of an incarnation as they are now.
pub(crate) async fn look(client: &Client, yt_path: &str, incarnation: u32) -> Result<Look, Error> {
    let folder = cypress::logs(yt_path, incarnation);
    let kinds = [
        (format!("{folder}/workers"), Process::Worker as fn(u32) -> Process),
        (format!("{folder}/sidecars"), Process::Sidecar),
    ];
    let attributes = value::list(["type", "row_count", TABLE_ATTRIBUTE].map(value::string));
    let mut requests: Vec<BatchRequest> = kinds
        .iter()
        .map(|(path, _)| {
            BatchRequest::new("list")
                .parameter("path", value::string(path))
                .parameter("attributes", attributes.clone())
        })
        .collect();
    let newest = format!("{yt_path}/@{}", cypress::INCARNATION_ID);
    requests.push(BatchRequest::new("get").parameter("path", value::string(newest)));
    let mut answers = client.execute_batch(requests).await?.into_iter();
    let mut tables = Vec::new();
    for ((path, process), answer) in kinds.iter().zip(&mut answers) {
        let children = present(answer)?;
        let children = children.as_ref().and_then(ValueExt::as_list).unwrap_or_default();
        let mut of_kind: Vec<(Table, bool)> =
            children.iter().filter_map(|child| table(path, *process, child)).collect();
        of_kind.sort_by_key(|(table, _)| table.process);
        follow_links(client, &mut of_kind).await?;
        tables.extend(of_kind.into_iter().map(|(table, _)| table));
    }
    let newest = answers.next().map(present).transpose()?.flatten();
    let newest = newest.and_then(|number| u32::try_from(number.as_int()?).ok());
    Ok(Look { tables, newest })
}

/// A child of a folder of logs, and whether it is only a link to a table, as the Python tractorun makes them.
fn table(folder: &str, process: fn(u32) -> Process, child: &YsonValue) -> Option<(Table, bool)> {
    let name = child.as_str()?;
    let (rows, record) = describe(child);
    let table =
        Table { process: process(name.parse().ok()?), path: format!("{folder}/{name}"), rows, record };
    match attribute_of(child, "type")?.as_str()? {
        "table" => Some((table, false)),
        "link" => Some((table, true)),
        _ => None,
    }
}

fn describe(node: &YsonValue) -> (u64, Option<TableRecord>) {
    let rows = attribute_of(node, "row_count").and_then(ValueExt::as_uint).unwrap_or(0);
    let record = attribute_of(node, TABLE_ATTRIBUTE).and_then(|record| value::to_deserialize(record).ok());
    (rows, record)
}

async fn follow_links(client: &Client, tables: &mut [(Table, bool)]) -> Result<(), Error> {
    let attributes = value::list(["row_count", TABLE_ATTRIBUTE].map(value::string));
    let links: Vec<&mut Table> =
        tables.iter_mut().filter(|(_, is_link)| *is_link).map(|(table, _)| table).collect();
    if links.is_empty() {
        return Ok(());
    }
    let requests = links
        .iter()
        .map(|table| {
            BatchRequest::new("get")
                .parameter("path", value::string(&table.path))
                .parameter("attributes", attributes.clone())
        })
        .collect();
    for (table, answer) in links.into_iter().zip(client.execute_batch(requests).await?) {
        if let Some(node) = present(answer)? {
            (table.rows, table.record) = describe(&node);
        }
    }
    Ok(())
}

/// What is not there is none.
fn present(answer: Result<YsonValue, YtError>) -> Result<Option<YsonValue>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.contains(codes::RESOLVE_ERROR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn attribute_of<'a>(node: &'a YsonValue, name: &str) -> Option<&'a YsonValue> {
    node.attributes.as_ref()?.get(name.as_bytes())
}

// === impl Selection ===

impl Selection {
    /// Whether lines of that table are wanted. A table that does not say its node is of none.
    pub(crate) fn contains(&self, table: &Table) -> bool {
        let of_node = match (&self.nodes, &table.record) {
            (None, _) => true,
            (Some(nodes), Some(record)) => nodes.contains(record.node_rank),
            (Some(_), None) => false,
        };
        of_node
            && match table.process {
                Process::Worker(rank) => self.workers.contains(rank),
                Process::Sidecar(number) => self.sidecars.contains(number),
                Process::Node(_) => true,
            }
    }
}

// === impl Incarnation ===

impl Incarnation {
    /// Whether nothing of it can be written any more.
    pub(crate) async fn is_over(&self, client: &Client) -> Result<bool, Error> {
        if let Some(operation_id) = &self.operation_id {
            match client.get_operation(operation_id, &["state"]).await {
                Ok(operation) => {
                    let state = operation.get("state").and_then(YsonValue::as_str);
                    return Ok(matches!(state, Some("completed" | "failed" | "aborted")));
                }
                // A run on one machine has none, and an old one is forgotten: the leader's transaction tells.
                Err(error) if is_unknown_operation(&error) => {}
                Err(error) => return Err(error),
            }
        }
        match &self.transaction_id {
            Some(id) => Ok(!client.exists(&format!("#{id}")).await?),
            None => Ok(true),
        }
    }
}

/// Whether the cluster knows of no such operation.
pub(crate) fn is_unknown_operation(error: &Error) -> bool {
    error.contains(codes::NO_SUCH_OPERATION) || error.contains(codes::NO_SUCH_OPERATION_SCHEDULER)
}
