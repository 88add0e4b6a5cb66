//! Schemas: what they say, which may follow which, and rows held against them.

use std::cmp::Ordering;

use ytsaurus_yson::{YsonNode, YsonValue};

use super::column::{Column, MAX_NAME_BYTES};
use super::{ColumnType, compare_keys, invalid};
use crate::error::{YtError, code};
use crate::formats::rows::{self, EncodedRows};
use crate::value::{self, YsonMap};

/// Rows with more columns are taken apart to be checked.
const MAX_FAST_COLUMNS: usize = 64;

/// The columns of a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableSchema {
    /// The columns, key columns first.
    pub columns: Vec<Column>,
    /// Whether other columns are refused.
    pub strict: bool,
    /// Whether a key may occur once only.
    pub unique_keys: bool,
}

impl TableSchema {
    /// Reads `<strict=%true;unique_keys=%false>[{name=..;type=..}; ..]`.
    pub fn parse(schema: &YsonValue) -> Result<TableSchema, YtError> {
        let columns =
            value::as_list(schema).ok_or_else(|| invalid("Table schema must be a list of columns"))?;
        let flag = |name: &str, default| match schema.attr(name) {
            None => Ok(default),
            Some(flag) => value::as_bool(flag)
                .ok_or_else(|| invalid(format!("Table schema attribute {name:?} must be a boolean"))),
        };
        let parsed = TableSchema {
            columns: columns.iter().map(Column::parse).collect::<Result<_, _>>()?,
            strict: flag("strict", true)?,
            unique_keys: flag("unique_keys", false)?,
        };
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> Result<(), YtError> {
        for (index, column) in self.columns.iter().enumerate() {
            let name = &column.name;
            if self.columns[..index].iter().any(|other| other.name == *name) {
                return Err(invalid(format!("Duplicate column name {name:?} in table schema")));
            }
            if index > 0 && column.key && !self.columns[index - 1].key {
                return Err(invalid(format!(
                    "Key columns must form a prefix of schema, but {name:?} is behind others"
                )));
            }
        }
        if self.unique_keys && self.key_columns().is_empty() {
            return Err(invalid("\"unique_keys\" can only be true if key columns are present"));
        }
        Ok(())
    }

    /// The names of the columns by which rows are sorted.
    pub fn key_columns(&self) -> Vec<&str> {
        self.columns.iter().filter(|column| column.key).map(|column| column.name.as_str()).collect()
    }

    /// Whether the table was given no schema.
    pub fn is_weak(&self) -> bool {
        self.columns.is_empty() && !self.strict
    }

    /// The schema as `@schema` shows it.
    pub fn to_yson(&self) -> YsonValue {
        let flags = [("strict", self.strict), ("unique_keys", self.unique_keys)];
        value::with_attributes(
            value::list(self.columns.iter().map(Column::to_yson)),
            flags.into_iter().map(|(name, flag)| (name.into(), value::boolean(flag))).collect(),
        )
    }

    /// Whether a table with rows may get this schema instead.
    pub fn check_alter_to(&self, new: &TableSchema) -> Result<(), YtError> {
        let incompatible = |what: String| {
            YtError::new(code::INCOMPATIBLE_SCHEMAS, "Table schemas are incompatible")
                .with_inner(YtError::new(code::INCOMPATIBLE_SCHEMAS, what))
        };
        if new.strict && !self.strict {
            return Err(incompatible("Changing \"strict\" from \"false\" to \"true\" is not allowed".into()));
        }
        if new.unique_keys && !self.unique_keys {
            return Err(incompatible(
                "Changing \"unique_keys\" from \"false\" to \"true\" is not allowed".into(),
            ));
        }
        if self.key_columns() != new.key_columns() {
            return Err(incompatible(
                "Changing key columns of a table with rows is not supported here".into(),
            ));
        }
        for old in &self.columns {
            let name = &old.name;
            let Some(column) = new.columns.iter().find(|column| column.name == *name) else {
                return Err(incompatible(format!("Cannot remove column {name:?} from a strict schema")));
            };
            if column.column_type != old.column_type {
                return Err(incompatible(format!("Type mismatch for column {name:?}")));
            }
            if column.required && !old.required {
                return Err(incompatible(format!("Cannot make column {name:?} required")));
            }
        }
        let added = |column: &&Column| self.columns.iter().all(|old| old.name != column.name);
        for column in new.columns.iter().filter(added) {
            let name = &column.name;
            if column.required {
                return Err(incompatible(format!(
                    "Cannot add required column {name:?} to a table with rows"
                )));
            }
            if !self.strict {
                return Err(incompatible(format!("Cannot add column {name:?} to a non-strict schema")));
            }
        }
        Ok(())
    }

    /// Checks rows, and returns them as they are stored.
    pub fn check_rows(&self, rows: EncodedRows) -> Result<EncodedRows, YtError> {
        if rows.iter().all(|row| self.fits_as_it_is(row)) {
            return Ok(rows);
        }
        let mut checked = EncodedRows::default();
        let mut previous: Option<YsonMap> = None;
        for row in rows.iter() {
            let mut row = rows::decode(row);
            self.check_row(&mut row)?;
            self.check_order(previous.as_ref(), Some(&row))?;
            let row = value::plain(YsonNode::Map(row));
            checked.push(&row)?;
            if let YsonNode::Map(row) = row.node {
                previous = Some(row);
            }
        }
        checked.shrink();
        Ok(checked)
    }

    /// Whether a row is surely right without being taken apart. Others may be right, too.
    fn fits_as_it_is(&self, row: &[u8]) -> bool {
        if self.columns.iter().any(|column| column.key) {
            return false;
        }
        let mut required = self.columns.iter().filter(|column| column.required).count();
        let mut names: Vec<&[u8]> = Vec::new();
        for (name, item) in rows::entries(row) {
            let repeated = names.len() > MAX_FAST_COLUMNS || names.contains(&name);
            if repeated || name.is_empty() || name.len() > MAX_NAME_BYTES || name[0] == b'@' {
                return false;
            }
            names.push(name);
            match self.columns.iter().find(|column| column.name.as_bytes() == name) {
                None if self.strict => return false,
                None => {}
                Some(column) if !column.column_type.surely_accepts(item) => return false,
                Some(column) => required -= usize::from(column.required),
            }
        }
        required == 0
    }

    /// Fails if one row may not stand behind another.
    pub fn check_order(&self, previous: Option<&YsonMap>, next: Option<&YsonMap>) -> Result<(), YtError> {
        let (Some(previous), Some(next)) = (previous, next) else { return Ok(()) };
        let keys = self.key_columns();
        if keys.is_empty() {
            return Ok(());
        }
        match compare_keys(previous, next, &keys) {
            Ordering::Greater => Err(YtError::new(code::SORT_ORDER_VIOLATION, "Sort order violation")),
            Ordering::Equal if self.unique_keys => {
                Err(YtError::new(code::UNIQUE_KEY_VIOLATION, "Duplicate key"))
            }
            _ => Ok(()),
        }
    }

    fn check_row(&self, row: &mut YsonMap) -> Result<(), YtError> {
        let violation = |what: String| YtError::new(code::SCHEMA_VIOLATION, what);
        for (name, item) in row.iter() {
            let name = String::from_utf8_lossy(name);
            if name.is_empty() || name.len() > MAX_NAME_BYTES || name.starts_with('@') {
                return Err(violation(format!(
                    "Invalid column name {name:?}: 1 to 256 bytes, not starting with \"@\""
                )));
            }
            let column = self.columns.iter().find(|column| column.name == name);
            if column.is_none() && self.strict {
                return Err(violation(format!("Unknown column {name:?} in strict schema")));
            }
            let free_form = column.is_none_or(|column| column.column_type == ColumnType::Any);
            if item.attributes.is_some() && !free_form {
                return Err(YtError::generic(format!(
                    "Table values cannot have top-level attributes (column {name:?})"
                )));
            }
        }
        for column in &self.columns {
            let name = &column.name;
            match row.get_mut(name.as_bytes()) {
                Some(item) if item.node != YsonNode::Entity => {
                    let accepted = column.column_type.accept(item);
                    if !accepted {
                        return Err(violation(format!(
                            "Invalid type of column {name:?}: expected {:?}, actual {:?}",
                            column.column_type.old_name(),
                            value::type_name(item)
                        )));
                    }
                }
                _ if column.required => {
                    return Err(violation(format!("Required column {name:?} cannot have \"null\" value")));
                }
                _ if column.key && self.strict => {
                    row.insert(name.clone().into_bytes(), value::entity());
                }
                _ => {}
            }
        }
        Ok(())
    }
}
