//! Commands about the server itself.

use super::rich_path::RichPath;
use super::{Output, Request};
use crate::commands::registry::Command;
use crate::error::YtError;
use crate::formats::unsupported;
use crate::value;

/// What `/version` and `get_version` say. It names this server, so that nobody takes it for the real one.
pub(crate) fn version() -> String {
    format!("tractorun-minicluster-{}", env!("CARGO_PKG_VERSION"))
}

pub(super) fn run(command: Command, request: &Request) -> Result<Output, YtError> {
    match command {
        Command::ParseYPath => {
            let path = RichPath::parse(value::required(&request.parameters, "path")?)?;
            Ok(Output::Named("path", path.to_yson()))
        }
        Command::GetVersion => Ok(Output::Named("version", value::string(version()))),
        Command::GetSupportedFeatures => {
            let names = |names: &[&str]| value::list(names.iter().map(value::string));
            let features = value::map([
                ("compression_codecs", names(&["none"])),
                ("erasure_codecs", names(&["none"])),
                (
                    "primitive_types",
                    names(&[
                        "int8",
                        "int16",
                        "int32",
                        "int64",
                        "uint8",
                        "uint16",
                        "uint32",
                        "uint64",
                        "double",
                        "float",
                        "boolean",
                        "string",
                        "utf8",
                        "any",
                        "null",
                        "void",
                        "date",
                        "datetime",
                        "timestamp",
                        "interval",
                        "date32",
                        "datetime64",
                        "timestamp64",
                        "interval64",
                        "json",
                        "uuid",
                    ]),
                ),
                ("require_password_in_authentication_commands", value::boolean(false)),
            ]);
            Ok(Output::Bare(value::map([("features", features)])))
        }
        Command::GetCurrentUser => Ok(Output::Bare(value::map([("user", value::string(&request.user))]))),
        _ => {
            let kind = value::optional_str(&request.parameters, "type")?;
            let kind = kind.or(value::optional_str(&request.parameters, "kind")?);
            match kind {
                None | Some("http") => {
                    Ok(Output::Named("proxies", value::list([value::string(&request.proxy)])))
                }
                Some(other) => Err(unsupported(&format!("proxies of type {other:?}"))),
            }
        }
    }
}
