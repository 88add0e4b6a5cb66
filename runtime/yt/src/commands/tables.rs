//! Static tables: all at once here, row by row from any row on in [`super::rows`].

use std::io;

use bytes::Bytes;
use ytsaurus_yson::de::StreamDeserializer;
use ytsaurus_yson::{YsonFormat, YsonNode, YsonValue};

use crate::client::Client;
use crate::commands::files::FileContent;
use crate::error::Error;
use crate::transport::call::{Call, Parameters, binary_yson};
use crate::value::{boolean, string, with_attributes};

/// Whether rows are added or replace what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Append {
    /// They are added.
    Yes,
    /// They replace all rows.
    No,
}

impl Client {
    /// Writes rows, maps, into an existing table, in a transaction of their own: all of them or none.
    pub async fn write_table(&self, path: &str, append: Append, rows: &[YsonValue]) -> Result<(), Error> {
        let mut fragment = Vec::new();
        for row in rows {
            let bad = |reason: String| Error::BadInput { command: "write_table", reason };
            if !matches!(row.node, YsonNode::Map(_)) || row.attributes.is_some() {
                return Err(bad("a row is not a map without attributes".to_owned()));
            }
            let row =
                ytsaurus_yson::to_vec(row, YsonFormat::Binary).map_err(|error| bad(error.to_string()))?;
            fragment.extend_from_slice(&row);
            fragment.push(b';');
        }
        let target = match append {
            Append::Yes => with_attributes(string(path), [("append", boolean(true))]),
            Append::No => string(path),
        };
        let mut parameters = Parameters::default();
        parameters.set("path", target);
        parameters.set("input_format", binary_yson());
        let content = FileContent::Bytes(fragment.into());
        self.heavy_write("write_table", parameters, &content, format!("tractorun: write_table {path}")).await
    }

    /// Appends rows in the client's own transaction, in one try: what became of a try that failed, and whether there
    /// is to be another one, is for whoever holds the transaction to say.
    ///
    /// The rows come in pieces of binary YSON (a list fragment); they are asked for as the connection takes them, on
    /// the thread that polls.
    pub async fn append_rows(
        &self,
        path: &str,
        pieces: impl Iterator<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), Error> {
        let mut parameters = Parameters::default();
        parameters.set("path", with_attributes(string(path), [("append", boolean(true))]));
        parameters.set("input_format", binary_yson());
        self.heavy_write_once("write_table", parameters, Box::new(pieces)).await
    }

    /// All rows of a table.
    pub async fn read_table(&self, path: &str) -> Result<Vec<YsonValue>, Error> {
        let call = Call::read("read_table")
            .scoped(self.scope())
            .with("path", string(path))
            .with("output_format", binary_yson());
        let fragment = self.heavy_read(&call).await?;
        let mut rows = Vec::new();
        let mut stream = StreamDeserializer::<YsonValue>::new(&fragment, true);
        loop {
            match stream.next_item() {
                // Rows of maps; an entity with attributes says something of the rows that follow.
                Ok(Some(row)) if matches!(row.node, YsonNode::Entity) => {}
                Ok(Some(row)) => rows.push(row),
                Ok(None) => return Ok(rows),
                Err(error) => {
                    return Err(self.protocol_error("read_table", &format!("a row is not YSON: {error}")));
                }
            }
        }
    }
}
