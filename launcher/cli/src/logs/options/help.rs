//! The text of `tractorun logs --help`.

use std::fmt::Write as _;

use super::{SPECS, Spec};
use crate::cli::help::write_option;
use crate::report::Colour;

const USAGE: &str = "tractorun logs [OPTIONS] YT_PATH";

const BEFORE: &str = "\
Shows what the workers of a run wrote, while it runs and after it: the log
tables below YT_PATH, which `--operation-log-mode realtime_yt_table` fills, in
the order of time. Without tables it shows what the cluster keeps of the jobs'
stderr.";

const EXAMPLES: &str = "  What ranks 0 and 8 to 15 write, until the run ends:
    tractorun logs //home/me/digits --rank 0,8-15 -f

  Errors of the last ten minutes:
    tractorun logs //home/me/digits --since 10m --stream stderr --grep Error

  Whether anything is missing:
    tractorun logs //home/me/digits --verify";

/// The whole text, 80 columns wide.
pub(crate) fn text(colour: Colour) -> String {
    let heading = |text: &str| match colour {
        Colour::On => format!("\x1b[1m{text}\x1b[0m"),
        Colour::Off => text.to_owned(),
    };
    let mut out = format!("{} {USAGE}\n\n{BEFORE}\n\n{}\n", heading("Usage:"), heading("Options:"));
    for spec in &SPECS {
        write_option(&mut out, &left(spec), spec.help);
    }
    // Writing to a string does not fail.
    let _ = write!(out, "\n{}\n{EXAMPLES}\n", heading("Examples:"));
    out
}

fn left(spec: &Spec) -> String {
    let short = spec.short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
    let value = spec.value.map(|value| format!(" <{value}>")).unwrap_or_default();
    format!("{short}--{}{value}", spec.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_80_columns_and_names_every_option() {
        let text = text(Colour::Off);
        let longest = text.lines().max_by_key(|line| line.len()).unwrap();
        assert!(longest.len() <= 80, "{longest}");
        for spec in &SPECS {
            assert!(text.contains(&format!("--{}", spec.name)), "{}", spec.name);
        }
        assert!(!text.contains('\x1b'));
    }
}
