//! The text of `tractorun doctor --help`.

use std::fmt::Write as _;

use crate::cli::help::write_option;
use crate::report::Colour;

/// What it does, for a list of commands.
pub(crate) const SUMMARY: &str = "Whether a run would work, and what to do if not";

const BEFORE: &str = "\
Looks whether a run with these options would work, and says what to do where it
would not: the configuration, the way to the cluster, the token, permissions,
the clock, tractorun-init, local files and the room to pack them. It takes the
options of a run (`tractorun --help`) and asks only questions: nothing is made
or started. Exits with 0 if a run would start, with 1 otherwise.";

/// The whole text, 80 columns wide.
pub(crate) fn text(colour: Colour) -> String {
    let heading = |text: &str| match colour {
        Colour::On => format!("\x1b[1m{text}\x1b[0m"),
        Colour::Off => text.to_owned(),
    };
    let mut out = format!(
        "{} tractorun doctor [OPTIONS OF A RUN] [COMMAND [ARGUMENTS]...]\n\n{BEFORE}\n",
        heading("Usage:")
    );
    // Writing to a string does not fail.
    let _ = writeln!(out, "\n{}", heading("Options:"));
    write_option(&mut out, "--json", "Print JSON: {ok, checks: [{name, status, text, hint}]}");
    write_option(&mut out, "-h, --help", "Print this help");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_80_columns() {
        let text = text(Colour::Off);
        assert!(text.starts_with("Usage: tractorun doctor"));
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }
}
