//! Static tables: schemas and the check of rows against them.

use std::cmp::Ordering;

use ytsaurus_yson::{YsonNode, YsonValue};

use crate::error::{YtError, code};
use crate::formats::rows::{self, EncodedRows};
use crate::formats::unsupported;
use crate::value::{self, YsonMap};

/// Rows that were written together.
#[derive(Debug, Default)]
pub struct RowChunk {
    /// The rows.
    pub rows: EncodedRows,
    /// The bytes that their values take.
    pub data_weight: u64,
}

impl RowChunk {
    /// Weighs the rows.
    pub fn new(rows: EncodedRows) -> RowChunk {
        let data_weight = rows.iter().flat_map(rows::entries).map(|(_, value)| rows::weight(value)).sum();
        RowChunk { rows, data_weight }
    }
}

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

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub column_type: ColumnType,
    /// Whether null is refused.
    pub required: bool,
    /// Whether rows are sorted by it.
    pub key: bool,
    /// `type_v3` as it was given, or as it follows from the old form.
    pub(super) type_v3: YsonValue,
}

/// The type of a column's values, as far as rows are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Signed, of this many bits.
    Int(u32),
    /// Unsigned, of this many bits.
    Uint(u32),
    /// A double or float.
    Double,
    /// A boolean.
    Boolean,
    /// Any bytes.
    String,
    /// UTF-8.
    Utf8,
    /// JSON as text.
    Json,
    /// 16 bytes.
    Uuid,
    /// Days since 1970.
    Date,
    /// Seconds since 1970.
    Datetime,
    /// Microseconds since 1970.
    Timestamp,
    /// Microseconds between two moments.
    Interval,
    /// Days before or since 1970.
    Date32,
    /// Seconds before or since 1970.
    Datetime64,
    /// Microseconds before or since 1970.
    Timestamp64,
    /// Microseconds between two moments of the wide kinds.
    Interval64,
    /// Any YSON but null, unless optional.
    Any,
    /// Only null.
    Null,
}

const MAX_NAME_BYTES: usize = 256;
/// Rows with more columns are taken apart to be checked.
const MAX_FAST_COLUMNS: usize = 64;

/// The old name, the new name and the meaning of every simple type.
const SIMPLE_TYPES: [(&str, &str, ColumnType); 26] = [
    ("int64", "int64", ColumnType::Int(64)),
    ("int32", "int32", ColumnType::Int(32)),
    ("int16", "int16", ColumnType::Int(16)),
    ("int8", "int8", ColumnType::Int(8)),
    ("uint64", "uint64", ColumnType::Uint(64)),
    ("uint32", "uint32", ColumnType::Uint(32)),
    ("uint16", "uint16", ColumnType::Uint(16)),
    ("uint8", "uint8", ColumnType::Uint(8)),
    ("double", "double", ColumnType::Double),
    ("float", "float", ColumnType::Double),
    ("boolean", "bool", ColumnType::Boolean),
    ("string", "string", ColumnType::String),
    ("utf8", "utf8", ColumnType::Utf8),
    ("json", "json", ColumnType::Json),
    ("uuid", "uuid", ColumnType::Uuid),
    ("date", "date", ColumnType::Date),
    ("datetime", "datetime", ColumnType::Datetime),
    ("timestamp", "timestamp", ColumnType::Timestamp),
    ("interval", "interval", ColumnType::Interval),
    ("date32", "date32", ColumnType::Date32),
    ("datetime64", "datetime64", ColumnType::Datetime64),
    ("timestamp64", "timestamp64", ColumnType::Timestamp64),
    ("interval64", "interval64", ColumnType::Interval64),
    ("any", "yson", ColumnType::Any),
    ("null", "null", ColumnType::Null),
    ("void", "void", ColumnType::Null),
];

fn invalid(what: impl Into<String>) -> YtError {
    YtError::new(code::INVALID_SCHEMA_VALUE, what)
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

impl Column {
    fn parse(column: &YsonValue) -> Result<Column, YtError> {
        let text = |key: &str| value::get(column, key).and_then(YsonValue::as_str);
        let name = text("name").ok_or_else(|| invalid("A column of a table schema needs a \"name\""))?;
        if name.is_empty() || name.len() > 256 || name.starts_with('@') {
            return Err(invalid(format!(
                "Invalid column name {name:?}: 1 to 256 bytes, not starting with \"@\""
            )));
        }
        for feature in ["expression", "aggregate"] {
            if value::get(column, feature).is_some_and(|given| given.node != YsonNode::Entity) {
                return Err(unsupported(&format!("{feature:?} of a column (column {name:?})")));
            }
        }
        let key = match text("sort_order") {
            None => false,
            Some("ascending") => true,
            Some(other) => {
                return Err(invalid(format!(
                    "Sort order {other:?} of column {name:?} is not enabled: ascending is"
                )));
            }
        };
        let given_required = value::get(column, "required").and_then(value::as_bool);
        let (column_type, required, type_v3) = match (value::get(column, "type_v3"), text("type")) {
            (Some(type_v3), _) => {
                let (column_type, optional) = parse_type_v3(name, type_v3)?;
                (column_type, !optional, type_v3.clone())
            }
            (None, Some(old)) => {
                let known = SIMPLE_TYPES.iter().find(|(known, ..)| *known == old);
                let (_, new, column_type) =
                    known.ok_or_else(|| invalid(format!("Unknown type {old:?} of column {name:?}")))?;
                let required = given_required.unwrap_or(false);
                let type_v3 = if required || *column_type == ColumnType::Null {
                    value::string(new)
                } else {
                    value::map([("type_name", value::string("optional")), ("item", value::string(new))])
                };
                (*column_type, required, type_v3)
            }
            (None, None) => {
                return Err(invalid(format!("Column {name:?} needs a \"type\" or a \"type_v3\"")));
            }
        };
        if given_required.is_some_and(|given| given != required) {
            return Err(invalid(format!("\"required\" of column {name:?} contradicts its \"type_v3\"")));
        }
        if required && matches!(column_type, ColumnType::Any | ColumnType::Null) {
            return Err(invalid(format!(
                "Column {name:?} of type {:?} cannot be required",
                column_type.old_name()
            )));
        }
        Ok(Column { name: name.to_owned(), column_type, required, key, type_v3 })
    }

    fn to_yson(&self) -> YsonValue {
        let mut entries = vec![
            ("name", value::string(&self.name)),
            ("required", value::boolean(self.required)),
            ("type", value::string(self.old_type_name())),
            ("type_v3", self.type_v3.clone()),
        ];
        if self.key {
            entries.push(("sort_order", value::string("ascending")));
        }
        value::map(entries)
    }

    fn old_type_name(&self) -> &'static str {
        let new = match value::get(&self.type_v3, "item") {
            Some(item) => item.as_str(),
            None => self.type_v3.as_str(),
        };
        let known = SIMPLE_TYPES.iter().find(|(_, known, _)| Some(*known) == new);
        known.map_or_else(|| self.column_type.old_name(), |(old, ..)| old)
    }
}

/// The type and whether it is optional. Composite types are checked as "any": their rows are accepted if they
/// are lists or maps at all.
fn parse_type_v3(name: &str, type_v3: &YsonValue) -> Result<(ColumnType, bool), YtError> {
    let unknown = |what: &str| invalid(format!("Unknown type {what:?} of column {name:?}"));
    if let Some(text) = type_v3.as_str() {
        let known = SIMPLE_TYPES.iter().find(|(_, known, _)| *known == text);
        let (.., column_type) = known.ok_or_else(|| unknown(text))?;
        return Ok((*column_type, matches!(column_type, ColumnType::Any | ColumnType::Null)));
    }
    let type_name = value::get(type_v3, "type_name").and_then(YsonValue::as_str).unwrap_or_default();
    match type_name {
        "optional" => {
            let item = value::get(type_v3, "item").ok_or_else(|| unknown("optional without item"))?;
            Ok((parse_type_v3(name, item)?.0, true))
        }
        "list" | "struct" | "tuple" | "dict" | "variant" | "tagged" | "decimal" => {
            Err(unsupported(&format!("type {type_name:?} (column {name:?})")))
        }
        simple => parse_type_v3(name, &value::string(simple)),
    }
}

impl ColumnType {
    pub(super) fn from_old_name(name: &str) -> Option<ColumnType> {
        SIMPLE_TYPES.iter().find(|(old, ..)| *old == name).map(|(.., known)| *known)
    }

    pub(super) fn old_name(self) -> &'static str {
        SIMPLE_TYPES.iter().find(|(.., known)| *known == self).map_or("any", |(old, ..)| old)
    }

    /// Whether an encoded value may stand in such a column as it is. That of others is found out by `accept`.
    fn surely_accepts(self, item: &[u8]) -> bool {
        match (self, item.first()) {
            (ColumnType::Int(64), Some(0x02))
            | (ColumnType::Uint(64), Some(0x06))
            | (ColumnType::Double, Some(0x03))
            | (ColumnType::Boolean, Some(0x04 | 0x05))
            | (ColumnType::String, Some(0x01)) => true,
            (ColumnType::Uint(bits), Some(0x06)) => {
                rows::integer(item).is_some_and(|number| u128::from(number) < 1u128 << bits)
            }
            (ColumnType::Datetime, Some(0x06)) => {
                rows::integer(item).is_some_and(|number| number < 49_673 * 86_400)
            }
            (ColumnType::Timestamp, Some(0x06)) => {
                rows::integer(item).is_some_and(|number| number < 49_673 * DAY_US)
            }
            _ => false,
        }
    }

    /// Whether this value (no null) may stand in such a column. Integers of the other kind are converted.
    fn accept(self, item: &mut YsonValue) -> bool {
        match (self, &item.node) {
            (
                ColumnType::Int(_)
                | ColumnType::Interval
                | ColumnType::Date32
                | ColumnType::Datetime64
                | ColumnType::Timestamp64
                | ColumnType::Interval64,
                YsonNode::Uint64(number),
            ) => {
                let Ok(number) = i64::try_from(*number) else { return false };
                item.node = YsonNode::Int64(number);
                self.accept(item)
            }
            (
                ColumnType::Uint(_) | ColumnType::Date | ColumnType::Datetime | ColumnType::Timestamp,
                YsonNode::Int64(number),
            ) => {
                let Ok(number) = u64::try_from(*number) else { return false };
                item.node = YsonNode::Uint64(number);
                self.accept(item)
            }
            (ColumnType::Int(bits), YsonNode::Int64(number)) => {
                let limit = 1i128 << (bits - 1);
                (-limit..limit).contains(&i128::from(*number))
            }
            (ColumnType::Uint(bits), YsonNode::Uint64(number)) => u128::from(*number) < 1u128 << bits,
            // The upper bounds are those of YT: 2106-01-01 in each unit.
            (ColumnType::Date, YsonNode::Uint64(number)) => *number < 49_673,
            (ColumnType::Datetime, YsonNode::Uint64(number)) => *number < 49_673 * 86_400,
            (ColumnType::Timestamp, YsonNode::Uint64(number)) => *number < 49_673 * DAY_US,
            (ColumnType::Utf8, YsonNode::String(text)) => std::str::from_utf8(text).is_ok(),
            (ColumnType::Json, YsonNode::String(text)) => {
                serde_json::from_slice::<serde_json::Value>(text).is_ok()
            }
            (ColumnType::Uuid, YsonNode::String(text)) => text.len() == 16,
            (ColumnType::Interval, YsonNode::Int64(number)) => number.unsigned_abs() < 49_673 * DAY_US,
            // The wide kinds: about 146,000 years in both directions.
            (ColumnType::Date32, YsonNode::Int64(number)) => wide(*number, 1),
            (ColumnType::Datetime64, YsonNode::Int64(number)) => wide(*number, 86_400),
            (ColumnType::Timestamp64, YsonNode::Int64(number)) => wide(*number, 86_400_000_000),
            (ColumnType::Interval64, YsonNode::Int64(number)) => {
                number.unsigned_abs() <= (2 * WIDE_DAYS + 1).unsigned_abs() * DAY_US
            }
            (ColumnType::Double, YsonNode::Double(_))
            | (ColumnType::Boolean, YsonNode::Boolean(_))
            | (ColumnType::String, YsonNode::String(_))
            | (ColumnType::Any, _) => true,
            _ => false,
        }
    }
}

/// Days on both sides of 1970 that the wide kinds of dates reach.
const WIDE_DAYS: i64 = 53_375_808;
const DAY_US: u64 = 86_400_000_000;

/// Whether a moment is in the range of the wide kinds, in units of which a day has this many.
fn wide(number: i64, units_a_day: i64) -> bool {
    ((-WIDE_DAYS - 1) * units_a_day..WIDE_DAYS * units_a_day).contains(&number)
}

/// Compares two rows by these columns; a missing value is null, which is smaller than all others.
pub fn compare_keys(left: &YsonMap, right: &YsonMap, columns: &[&str]) -> Ordering {
    columns
        .iter()
        .map(|column| compare_values(left.get(column.as_bytes()), right.get(column.as_bytes())))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// The order of values in a sorted table: by type, then by value.
pub fn compare_values(left: Option<&YsonValue>, right: Option<&YsonValue>) -> Ordering {
    let rank = |value: Option<&YsonValue>| match value.map(|value| &value.node) {
        None | Some(YsonNode::Entity) => 0,
        Some(YsonNode::Int64(_)) => 1,
        Some(YsonNode::Uint64(_)) => 2,
        Some(YsonNode::Double(_)) => 3,
        Some(YsonNode::Boolean(_)) => 4,
        Some(YsonNode::String(_)) => 5,
        Some(YsonNode::List(_) | YsonNode::Map(_)) => 6,
    };
    match (left.map(|value| &value.node), right.map(|value| &value.node)) {
        (Some(YsonNode::Int64(left)), Some(YsonNode::Int64(right))) => left.cmp(right),
        (Some(YsonNode::Uint64(left)), Some(YsonNode::Uint64(right))) => left.cmp(right),
        (Some(YsonNode::Double(left)), Some(YsonNode::Double(right))) => left.total_cmp(right),
        (Some(YsonNode::Boolean(left)), Some(YsonNode::Boolean(right))) => left.cmp(right),
        (Some(YsonNode::String(left)), Some(YsonNode::String(right))) => left.cmp(right),
        _ => rank(left).cmp(&rank(right)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::yson;

    fn schema(text: &str) -> Result<TableSchema, YtError> {
        TableSchema::parse(&yson::parse(text.as_bytes()).unwrap())
    }

    fn check(schema_text: &str, rows: &str) -> Result<Vec<YsonMap>, YtError> {
        let rows = schema(schema_text)?.check_rows(yson::encode_rows(rows.as_bytes()).unwrap())?;
        Ok(rows.iter().map(rows::decode).collect())
    }

    #[test]
    fn both_spellings_read_back_the_same() {
        let old =
            schema("[{name=a;type=int64;required=%true};{name=b;type=boolean};{name=c;type=any}]").unwrap();
        let new = schema(
            "[{name=a;type_v3=int64};{name=b;type_v3={type_name=optional;item=bool}};\
             {name=c;type_v3={type_name=optional;item=yson}}]",
        )
        .unwrap();
        assert_eq!(old, new);
        assert_eq!(TableSchema::parse(&new.to_yson()).unwrap(), new);
        let text = String::from_utf8(yson::to_text(&old.to_yson()).unwrap()).unwrap();
        assert!(
            text.starts_with(
                "<strict=%true;unique_keys=%false>[{name=a;required=%true;type=int64;type_v3=int64}"
            ),
            "{text}"
        );
        assert!(text.contains("type=boolean;type_v3={item=bool;type_name=optional}"), "{text}");
    }

    #[test]
    fn bad_schemas_have_code_314() {
        for text in [
            "{}",
            "[{type=int64}]",
            "[{name=a}]",
            "[{name=a;type=int65}]",
            "[{name=a;type=int64};{name=a;type=int64}]",
            "[{name=a;type=int64};{name=b;type=int64;sort_order=ascending}]",
            "[{name=\"@a\";type=int64}]",
            "<unique_keys=%true>[{name=a;type=int64}]",
            "[{name=a;type=any;required=%true}]",
            "[{name=a;type_v3=int64;required=%false}]",
        ] {
            assert_eq!(schema(text).unwrap_err().code, code::INVALID_SCHEMA_VALUE, "{text}");
        }
    }

    #[test]
    fn rows_are_held_against_a_strict_schema() {
        let strict = "[{name=a;type=int8;required=%true};{name=t;type=datetime};{name=u;type=utf8}]";
        assert!(check(strict, "{a=1};{a=-128;t=5;u=x};{a=5u}").is_ok());
        for (rows, wanted) in [
            ("{t=5}", "Required column \"a\" cannot have \"null\" value"),
            ("{a=#}", "Required column \"a\" cannot have \"null\" value"),
            ("{a=1;z=1}", "Unknown column \"z\""),
            ("{a=200}", "Invalid type of column \"a\""),
            ("{a=x}", "expected \"int8\", actual \"string\""),
            ("{a=1;t=-1}", "Invalid type of column \"t\""),
            ("{a=1;u=\"\\xff\"}", "Invalid type of column \"u\""),
        ] {
            let error = check(strict, rows).unwrap_err();
            assert_eq!(error.code, code::SCHEMA_VIOLATION, "{rows}");
            assert!(error.message.contains(wanted), "{rows}: {}", error.message);
        }
    }

    #[test]
    fn sorted_rows_keep_their_order() {
        let sorted = "[{name=k;type=int64;sort_order=ascending};{name=v;type=string}]";
        assert!(check(sorted, "{v=a};{k=1};{k=1};{k=2}").is_ok());
        assert_eq!(check(sorted, "{k=2};{k=1}").unwrap_err().code, code::SORT_ORDER_VIOLATION);
        assert_eq!(check(&format!("<unique_keys=%true>{sorted}"), "{k=1};{k=1}").unwrap_err().code, 306);
    }

    #[test]
    fn a_weak_schema_takes_all() {
        assert!(TableSchema::default().is_weak());
        let rows = yson::encode_rows(b"{a=1};{b=[1;{c=2}]}").unwrap();
        assert_eq!(TableSchema::default().check_rows(rows).unwrap().len(), 2);
    }

    #[test]
    fn only_loosening_is_compatible() {
        let old = schema("[{name=a;type=int64;required=%true}]").unwrap();
        for (text, fits) in [
            ("[{name=a;type=int64}]", true),
            ("[{name=a;type=int64};{name=b;type=string}]", true),
            ("<strict=%false>[{name=a;type=int64}]", true),
            ("[{name=a;type=string}]", false),
            ("[{name=b;type=int64}]", false),
            ("[{name=a;type=int64};{name=b;type=string;required=%true}]", false),
        ] {
            assert_eq!(old.check_alter_to(&schema(text).unwrap()).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn times_have_bounds() {
        let day_us = i64::try_from(DAY_US).unwrap();
        for (column_type, largest, smallest) in [
            (ColumnType::Interval, 49_673 * day_us - 1, -49_673 * day_us + 1),
            (ColumnType::Date32, 53_375_807, -53_375_809),
            (ColumnType::Datetime64, 53_375_808 * 86_400 - 1, -53_375_809 * 86_400),
            (ColumnType::Timestamp64, 53_375_808 * day_us - 1, -53_375_809 * day_us),
            (ColumnType::Interval64, 106_751_617 * day_us, -106_751_617 * day_us),
        ] {
            let accepts = |number| column_type.accept(&mut value::int64(number));
            assert!(accepts(largest) && accepts(smallest) && accepts(0), "{column_type:?}");
            assert!(!accepts(largest + 1) && !accepts(smallest - 1), "{column_type:?}");
        }
    }
}
