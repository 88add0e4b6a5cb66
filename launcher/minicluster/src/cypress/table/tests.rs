//! What fits a schema and what does not.

use super::column_type::DAY_US;
use super::*;
use crate::formats::{rows, yson};
use crate::value::{self, YsonMap};

fn schema(text: &str) -> Result<TableSchema, YtError> {
    TableSchema::parse(&yson::parse(text.as_bytes()).unwrap())
}

fn check(schema_text: &str, rows: &str) -> Result<Vec<YsonMap>, YtError> {
    let rows = schema(schema_text)?.check_rows(yson::encode_rows(rows.as_bytes()).unwrap())?;
    Ok(rows.iter().map(rows::decode).collect())
}

#[test]
fn both_spellings_read_back_the_same() {
    let old = schema("[{name=a;type=int64;required=%true};{name=b;type=boolean};{name=c;type=any}]").unwrap();
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
