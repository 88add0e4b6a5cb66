//! Static tables.

use std::sync::Arc;

use ytsaurus_yson::{YsonNode, YsonValue};

use super::rich_path::RichPath;
use super::{Input, Output, Request, Source, Stream};
use crate::commands::registry::Command;
use crate::cypress::table::RowChunk;
use crate::cypress::{CheckedRows, NodeType, RowRange, TableContent};
use crate::error::YtError;
use crate::formats::{Format, rows, unsupported};
use crate::server::Server;
use crate::value::{self, YsonMap};

pub(super) fn run(server: &Server, command: Command, mut request: Request) -> Result<Output, YtError> {
    match command {
        Command::WriteTable => {
            let Input::Rows(rows) = std::mem::replace(&mut request.input, Input::Nothing) else {
                return Err(YtError::generic("Rows are expected in the body of the request"));
            };
            let path = RichPath::parse(value::required(&request.parameters, "path")?)?;
            let append = path.append()?;
            // Many rows take their time: they are checked while others are served.
            let schema = request.with_cypress(server, |cypress, scope| {
                cypress.check_write(&path.path, scope, append, NodeType::Table)?;
                cypress.table(&path.path, scope).map(|table| table.schema)
            })?;
            let rows = CheckedRows::new(rows, schema)?;
            request.change(server, |cypress, scope| {
                cypress.write_table(&path.path, scope, append, rows)?;
                Ok(Output::Nothing)
            })
        }
        Command::ReadTable => read(server, &request),
        _ => {
            let path = request.path("path")?;
            if value::flag(&request.parameters, "dynamic", false)? {
                return Err(unsupported("dynamic tables"));
            }
            for option in ["upstream_replica_id", "schema_modification"] {
                if request.parameters.contains_key(option.as_bytes()) {
                    return Err(unsupported(&format!("parameter {option:?} of \"alter_table\"")));
                }
            }
            if let Some(schema) = request.parameters.get(b"schema".as_slice()) {
                request.change(server, |cypress, scope| {
                    cypress.alter_table(&path, scope, schema)?;
                    Ok(Output::Nothing)
                })?;
            }
            Ok(Output::Nothing)
        }
    }
}

fn read(server: &Server, request: &Request) -> Result<Output, YtError> {
    let path = RichPath::parse(value::required(&request.parameters, "path")?)?;
    for option in ["start_row_index_only"] {
        if value::flag(&request.parameters, option, false)? {
            return Err(unsupported(&format!("parameter {option:?} of \"read_table\"")));
        }
    }
    for attribute in ["rename_columns", "timestamp", "row_count_limit", "sampling_rate"] {
        if path.attributes.contains_key(attribute.as_bytes()) {
            return Err(unsupported(&format!("attribute {attribute:?} of a path to read")));
        }
    }
    let table = request.with_cypress(server, |cypress, scope| cypress.table(&path.path, scope))?;
    let ranges = match path.attributes.get(b"ranges".as_slice()) {
        None => vec![RowRange::default()],
        Some(ranges) => value::as_list(ranges)
            .ok_or_else(|| YtError::generic("\"ranges\" must be a list"))?
            .iter()
            .map(RowRange::parse)
            .collect::<Result<_, _>>()?,
    };
    let ranges = ranges.iter().map(|range| range.rows(&table)).collect::<Result<Vec<_>, _>>()?;
    let columns = value::optional_strings(&path.attributes, "columns")?;
    let control = value::optional_map(&request.parameters, "control_attributes")?;
    let marks = Marks {
        table_index: value::flag(&control, "enable_table_index", false)?,
        range_index: value::flag(&control, "enable_range_index", false)?,
        row_index: value::flag(&control, "enable_row_index", false)?,
    };
    if value::flag(&control, "enable_tablet_index", false)? {
        return Err(unsupported("control attribute \"enable_tablet_index\""));
    }
    let count: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    let mut response_parameters: YsonMap = [
        (b"approximate_row_count".to_vec(), value::count(count)),
        (b"omitted_inaccessible_columns".to_vec(), value::list([])),
    ]
    .into();
    if let Some(first) = ranges.iter().find(|range| !range.is_empty()) {
        response_parameters.insert(b"start_row_index".to_vec(), value::count(first.start));
    }
    let rows = Rows::new(table, ranges, columns, marks);
    Ok(Output::Stream(Stream { source: Source::Rows(rows), response_parameters, etag: None }))
}

/// Which control rows a reader wants.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "three independent switches of the API")]
struct Marks {
    table_index: bool,
    range_index: bool,
    row_index: bool,
}

/// Rows of a table, one range after the other, with control rows between them.
#[derive(Debug)]
pub(crate) struct Rows {
    chunks: Vec<(usize, Arc<RowChunk>)>,
    ranges: std::vec::IntoIter<std::ops::Range<usize>>,
    current: std::ops::Range<usize>,
    /// The chunk of the current row.
    chunk: usize,
    columns: Option<Vec<Vec<u8>>>,
    marks: Marks,
    range_index: i64,
    pending: std::collections::VecDeque<YsonValue>,
}

impl Rows {
    fn new(
        table: TableContent,
        ranges: Vec<std::ops::Range<usize>>,
        columns: Option<Vec<String>>,
        marks: Marks,
    ) -> Rows {
        let mut start = 0;
        let chunks = table
            .chunks
            .into_iter()
            .map(|chunk| {
                let first = start;
                start += chunk.rows.len();
                (first, chunk)
            })
            .collect();
        Rows {
            chunks,
            ranges: ranges.into_iter(),
            current: 0..0,
            chunk: 0,
            columns: columns.map(|columns| columns.into_iter().map(String::into_bytes).collect()),
            marks,
            range_index: -1,
            pending: std::collections::VecDeque::new(),
        }
    }

    fn mark(&mut self, name: &str, number: YsonValue) {
        let attributes = [(name.into(), number)].into();
        self.pending.push_back(value::with_attributes(value::entity(), attributes));
    }

    fn begin(&mut self, range: std::ops::Range<usize>) {
        self.range_index += 1;
        if self.marks.table_index && self.range_index == 0 {
            self.mark("table_index", value::int64(0));
        }
        if self.marks.range_index {
            self.mark("range_index", value::int64(self.range_index));
        }
        if self.marks.row_index && !range.is_empty() {
            self.mark("row_index", value::count(range.start));
        }
        self.chunk = self.chunks.partition_point(|(first, _)| *first <= range.start).saturating_sub(1);
        self.current = range;
    }
}

impl Rows {
    /// Writes the next row; `None` behind the last one.
    pub(crate) fn write_next(&mut self, format: Format, output: &mut Vec<u8>) -> Option<Result<(), YtError>> {
        loop {
            if let Some(mark) = self.pending.pop_front() {
                return Some(format.write_row(&mark, output));
            }
            let Some(index) = self.current.next() else {
                let range = self.ranges.next()?;
                self.begin(range);
                continue;
            };
            while let Some((first, chunk)) = self.chunks.get(self.chunk) {
                if let Some(row) = chunk.rows.get(index - first) {
                    let Some(columns) = &self.columns else {
                        return Some(format.write_encoded_row(row, output));
                    };
                    let mut row = rows::decode(row);
                    row.retain(|name, _| columns.contains(name));
                    return Some(format.write_row(&value::plain(YsonNode::Map(row)), output));
                }
                self.chunk += 1;
            }
        }
    }
}
