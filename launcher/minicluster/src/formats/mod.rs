//! What a request body or an answer is written in: YSON (text, binary) or JSON. Table-only formats (`dsv`,
//! `skiff`, ...) are refused by name.

pub mod json;
pub mod rows;
pub mod yson;

use rows::EncodedRows;
use ytsaurus_yson::{YsonNode, YsonValue};

use crate::error::YtError;
use crate::value;

/// A format, with the settings that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YSON text; the pretty kind is read the same and written without line breaks.
    YsonText,
    /// Binary YSON.
    YsonBinary,
    /// JSON.
    Json(json::Strings),
}

impl Format {
    /// Reads a format as parameters and headers name it: `json`, `<format=binary>yson`. Attributes that are not
    /// known here are tuning of the real writers and are passed over, except those that change the document.
    pub fn from_yson(format: &YsonValue) -> Result<Format, YtError> {
        let name = format
            .as_str()
            .ok_or_else(|| YtError::generic("Error parsing format: a string with attributes is expected"))?;
        match name {
            "yson" => match format.attr("format").map(|kind| kind.as_str().unwrap_or("?")) {
                Some("binary") | None => Ok(Format::YsonBinary),
                Some("text" | "pretty") => Ok(Format::YsonText),
                Some(other) => Err(YtError::generic(format!(
                    "Unknown YSON format {other:?}: binary, text and pretty are known"
                ))),
            },
            "json" => {
                for option in ["annotate_with_types", "stringify", "format"] {
                    let plain = match format.attr(option) {
                        None => true,
                        Some(chosen) => {
                            value::as_bool(chosen) == Some(false) || chosen.as_str() == Some("text")
                        }
                    };
                    if !plain {
                        return Err(unsupported(&format!("option {option:?} of format \"json\"")));
                    }
                }
                let bytes = format.attr("encode_utf8").is_none_or(|flag| value::as_bool(flag) != Some(false));
                Ok(Format::Json(if bytes { json::Strings::Bytes } else { json::Strings::Utf8 }))
            }
            other => Err(unsupported(&format!("format {other:?}"))),
        }
    }

    /// The format of a MIME type, if it is one of ours.
    pub fn from_mime(mime: &str) -> Option<Format> {
        match mime.split(';').next().unwrap_or_default().trim() {
            "application/json" => Some(Format::Json(json::Strings::Bytes)),
            "application/x-yt-yson-binary" => Some(Format::YsonBinary),
            "application/x-yt-yson-text" | "application/x-yt-yson-pretty" => Some(Format::YsonText),
            _ => None,
        }
    }

    /// The `Content-Type` of an answer in this format.
    pub fn mime(self) -> &'static str {
        match self {
            Format::YsonText => "application/x-yt-yson-text",
            Format::YsonBinary => "application/x-yt-yson-binary",
            Format::Json(_) => "application/json",
        }
    }

    /// Reads one value.
    pub fn parse(self, input: &[u8]) -> Result<YsonValue, YtError> {
        match self {
            Format::YsonText | Format::YsonBinary => yson::parse(input),
            Format::Json(strings) => json::parse(input, strings),
        }
    }

    /// Reads rows.
    pub fn parse_rows(self, input: &[u8]) -> Result<EncodedRows, YtError> {
        match self {
            Format::YsonText | Format::YsonBinary => yson::encode_rows(input),
            Format::Json(strings) => json::parse_rows(input, strings),
        }
    }

    /// Writes one value.
    pub fn write(self, value: &YsonValue) -> Result<Vec<u8>, YtError> {
        match self {
            Format::YsonText => yson::to_text(value),
            Format::YsonBinary => yson::to_binary(value),
            Format::Json(strings) => json::write(value, strings),
        }
    }

    /// Appends one encoded row with the separator behind it.
    pub fn write_encoded_row(self, row: &[u8], output: &mut Vec<u8>) -> Result<(), YtError> {
        if self == Format::YsonBinary {
            output.extend_from_slice(row);
            output.push(b';');
            return Ok(());
        }
        self.write_row(&value::plain(YsonNode::Map(rows::decode(row))), output)
    }

    /// Appends one row with the separator behind it.
    pub fn write_row(self, row: &YsonValue, output: &mut Vec<u8>) -> Result<(), YtError> {
        output.extend_from_slice(&self.write(row)?);
        output.extend_from_slice(match self {
            Format::YsonText => b";\n",
            Format::YsonBinary => b";",
            Format::Json(_) => b"\n",
        });
        Ok(())
    }
}

/// The error for what exists in YT but not here.
pub fn unsupported(what: &str) -> YtError {
    YtError::generic(format!("Not supported by tractorun-minicluster: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(text: &str) -> Result<Format, YtError> {
        Format::from_yson(&yson::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn formats_as_clients_name_them() {
        let python = "<\"ignore_inner_attributes\"=%false;\"always_create_attributes\"=%false;\"format\"=\"binary\";\
                      \"lazy\"=%false;\"sort_keys\"=%false;>\"yson\"";
        assert_eq!(format(python), Ok(Format::YsonBinary));
        assert_eq!(format("<format=text>yson"), Ok(Format::YsonText));
        assert_eq!(format("json"), Ok(Format::Json(json::Strings::Bytes)));
        assert_eq!(format("<encode_utf8=%false>json"), Ok(Format::Json(json::Strings::Utf8)));
        assert_eq!(
            format("skiff").unwrap_err().message,
            "Not supported by tractorun-minicluster: format \"skiff\""
        );
        assert!(format("<annotate_with_types=%true>json").is_err());
    }
}
