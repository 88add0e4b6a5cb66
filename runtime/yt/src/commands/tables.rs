//! Static tables.

use ytsaurus_yson::YsonValue;

use crate::client::Client;
use crate::error::Error;

/// Whether rows are added or replace what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Append {
    /// They are added.
    Yes,
    /// They replace all rows.
    No,
}

impl Client {
    /// Writes rows, maps, into an existing table.
    pub async fn write_table(&self, path: &str, append: Append, rows: &[YsonValue]) -> Result<(), Error> {
        let _ = (path, append, rows);
        todo!()
    }

    /// All rows of a table.
    pub async fn read_table(&self, path: &str) -> Result<Vec<YsonValue>, Error> {
        let _ = path;
        todo!()
    }
}
