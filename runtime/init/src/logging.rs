//! Init's own log lines: `tractorun-init: message name=value`, one line each, through the [`Sink`].

use std::fmt;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use crate::output::Sink;

/// `TRACTORUN_LOG_LEVEL` says something else than a level.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "environment variable `{name}` is not a level, expected error, warn, info, debug or trace: {0}",
    name = tractorun_contract::env::LOG_LEVEL
)]
pub struct BadLevel(String);

/// Reads a level; `default` if none is given.
pub fn parse_level(text: Option<&str>, default: LevelFilter) -> Result<LevelFilter, BadLevel> {
    let Some(text) = text else { return Ok(default) };
    match text {
        "error" | "warn" | "info" | "debug" | "trace" => {
            LevelFilter::from_str(text).map_err(|_| BadLevel(text.to_owned()))
        }
        other => Err(BadLevel(other.to_owned())),
    }
}

/// Sends log lines of tractorun's own crates to the sink. Others' are left out: an HTTP library's say much, and
/// perhaps something secret.
pub fn start(sink: Sink, level: LevelFilter) {
    let lines = tracing_subscriber::fmt::layer().event_format(OneLine).with_writer(move || sink.clone());
    let subscriber = tracing_subscriber::registry().with(lines).with(ours(level));
    // Already set only if a test did so in this process, which then keeps its own.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn ours(level: LevelFilter) -> Targets {
    Targets::new().with_target("tractorun", level)
}

/// `tractorun-init: warning: message name=value`.
struct OneLine;

impl<S, N> FormatEvent<S, N> for OneLine
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        context.field_format().format_fields(Writer::new(&mut line), event)?;
        // Whatever a message holds: one line.
        let line = line.replace('\n', " ");
        let kind = match *event.metadata().level() {
            // It belongs to the line before.
            _ if line.starts_with("hint: ") => "",
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            Level::INFO => "",
            Level::DEBUG => "debug: ",
            Level::TRACE => "trace: ",
        };
        writeln!(writer, "tractorun-init: {kind}{line}")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use tracing::{debug, error, info};

    use super::*;
    use crate::output::Pieces;

    #[test]
    fn lines_look_like_this() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let sink = Sink::start(writer, Pieces::Any).unwrap();
        let lines = tracing_subscriber::fmt::layer().event_format(OneLine).with_writer(move || sink.clone());
        let subscriber = tracing_subscriber::registry().with(lines).with(ours(LevelFilter::INFO));
        let expected = "tractorun-init: workers started count=2 seconds=0.042\n\
                        tractorun-init: error: first second\n\
                        tractorun-init: hint: third\n";
        tracing::subscriber::with_default(subscriber, || {
            info!(count = 2, seconds = %format_args!("{:.3}", 0.0421), "workers started");
            debug!("too quiet");
            info!(target: "hyper::client", "somebody else's");
            error!("first\nsecond");
            error!("hint: third");
        });
        let mut bytes = vec![0; expected.len()];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn levels_have_names() {
        assert_eq!(parse_level(None, LevelFilter::WARN), Ok(LevelFilter::WARN));
        assert_eq!(parse_level(Some("debug"), LevelFilter::WARN), Ok(LevelFilter::DEBUG));
        assert_eq!(
            parse_level(Some("loud"), LevelFilter::WARN).unwrap_err().to_string(),
            "environment variable `TRACTORUN_LOG_LEVEL` is not a level, expected error, warn, info, debug or trace: loud"
        );
    }
}
