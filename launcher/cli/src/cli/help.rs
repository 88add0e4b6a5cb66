//! The text of `--help`: always 80 columns wide, so that it reads the same on a terminal, in a pipe and in a
//! document.

use std::fmt::Write as _;

use super::{DOCTOR, LOGS};
use crate::doctor;
use crate::report::Colour;
use crate::runs::Name;
use crate::settings::options::{Group, OptionSpec, Takes};
use crate::wrap;

const WIDTH: usize = 80;

/// Column where the explanations start; a longer option has its explanation on the next line.
const COLUMN: usize = 30;

pub(crate) const BEFORE: &str = "\
Runs COMMAND as a distributed job: mesh.node-count nodes with
mesh.process-per-node workers each, on a YTsaurus cluster ($YT_PROXY), or with
--local on this machine. Every worker finds MASTER_ADDR, MASTER_PORT, RANK,
WORLD_SIZE and LOCAL_RANK in its environment. Options come before COMMAND.";

const HERE: &str = "  Two nodes with two workers each, on this machine:
    tractorun --local --mesh.node-count 2 --mesh.process-per-node 2 \\
        python3 train.py
";

const ELSEWHERE: &str = "
  The same on the cluster, with the script brought along:
    tractorun --yt-path //home/me/digits --docker-image my-image \\
        --mesh.node-count 2 --mesh.process-per-node 2 \\
        --bind-local ./train.py:/train.py python3 /train.py
";

const FROM_FILE: &str = "
  Options from a file, one of them overruled:
    tractorun --run-config-path job.yaml --mesh.node-count 4
";

/// What `--help` prints.
pub fn text(colour: Colour) -> String {
    let mut out = format!("{}\n{BEFORE}\n{}", usage(colour), commands(colour));
    for group in Group::ALL {
        // Writing to a string does not fail.
        let _ = write!(out, "\n{}\n", heading(&format!("{}:", group.heading()), colour));
        for option in group.options().iter().filter(|option| !option.help.is_empty()) {
            write_option(&mut out, &left(option), option.help);
        }
        if group == Group::Launcher {
            write_option(&mut out, "-h, --help", "Print this help");
        }
    }
    let _ = write!(out, "\n{}\n{HERE}{ELSEWHERE}{FROM_FILE}", heading("Examples:", colour));
    out
}

/// What somebody sees who only typed `tractorun`: how it is used, on one screen.
pub fn short(colour: Colour) -> String {
    format!(
        "{}{}\n{}\n{HERE}{ELSEWHERE}\n`tractorun --help` shows all options.\n",
        usage(colour),
        commands(colour),
        heading("Examples:", colour)
    )
}

fn usage(colour: Colour) -> String {
    let words = Name::ALL.map(Name::word).join("|");
    format!(
        "{} tractorun [OPTIONS] COMMAND [ARGUMENTS]...\n       tractorun {words}|{LOGS}|{DOCTOR} ...\n",
        heading("Usage:", colour)
    )
}

fn commands(colour: Colour) -> String {
    let title = "Commands, in first place (`tractorun -- list` runs your own `list`):";
    let mut out = format!("\n{}\n", heading(title, colour));
    for name in Name::ALL {
        write_option(&mut out, &format!("{}{}", name.word(), name.arguments()), name.summary());
    }
    write_option(&mut out, &format!("{LOGS} YT_PATH"), "What the workers of a run wrote");
    write_option(&mut out, &format!("{DOCTOR} [OPTIONS]"), doctor::help::SUMMARY);
    out
}

fn heading(text: &str, colour: Colour) -> String {
    match colour {
        Colour::On => format!("\x1b[1m{text}\x1b[0m"),
        Colour::Off => text.to_owned(),
    }
}

fn left(option: &OptionSpec) -> String {
    match option.takes {
        Takes::One(placeholder, _) | Takes::Each(placeholder, _) => {
            format!("--{} <{placeholder}>", option.name)
        }
        Takes::Switch | Takes::Nothing => format!("--{}", option.name),
    }
}

pub(crate) fn write_option(out: &mut String, left: &str, help: &str) {
    let mut line = format!("  {left}");
    if line.len() + 2 > COLUMN {
        out.push_str(&line);
        out.push('\n');
        line.clear();
    }
    for (number, part) in wrap::lines(help, WIDTH - COLUMN).into_iter().enumerate() {
        if number > 0 {
            line.clear();
        }
        let _ = writeln!(out, "{line:COLUMN$}{part}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::options::OPTIONS;

    #[test]
    fn fits_80_columns_and_names_what_works() {
        let text = text(Colour::Off);
        let longest = text.lines().max_by_key(|line| line.len()).unwrap();
        assert!(longest.len() <= WIDTH, "{longest}");
        for option in OPTIONS.iter().filter(|option| !option.help.is_empty()) {
            assert!(text.contains(&format!("  --{}", option.name)), "{} is missing", option.name);
        }
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn the_short_one_fits_on_a_screen() {
        let text = short(Colour::Off);
        assert!(text.lines().count() <= 24 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(Name::ALL.iter().all(|name| text.contains(name.summary())), "{text}");
    }

    #[test]
    fn headings_are_bold_where_there_are_colours() {
        assert!(super::text(Colour::On).starts_with("\x1b[1mUsage:\x1b[0m tractorun"));
    }
}
