//! One column of a schema, in the old spelling (`type`, `required`) and the new (`type_v3`).

use ytsaurus_yson::{YsonNode, YsonValue};

use super::column_type::{ColumnType, SIMPLE_TYPES};
use super::invalid;
use crate::error::YtError;
use crate::formats::unsupported;
use crate::value;

/// The longest name of a column.
pub(super) const MAX_NAME_BYTES: usize = 256;

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
    pub(in crate::cypress) type_v3: YsonValue,
}

impl Column {
    pub(super) fn parse(column: &YsonValue) -> Result<Column, YtError> {
        let text = |key: &str| value::get(column, key).and_then(YsonValue::as_str);
        let name = text("name").ok_or_else(|| invalid("A column of a table schema needs a \"name\""))?;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.starts_with('@') {
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

    pub(super) fn to_yson(&self) -> YsonValue {
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
