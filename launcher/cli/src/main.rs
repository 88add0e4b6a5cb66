//! The program `tractorun`: reads what is asked for, has it done, and says how it ended.

use std::io::{self, Write as _};
use std::process::ExitCode;

use rand::Rng as _;
use tractorun::cli::{self, Request, help};
use tractorun::report::{Colour, ExitStatus, Report};
use tractorun::settings::{Invocation, Surroundings};
use tractorun::{commands, completions, doctor, logs};

fn main() -> ExitCode {
    let report = Report::to_stderr(variable);
    let status = match cli::parse(std::env::args_os().skip(1)) {
        Request::Nothing => {
            // It is no error's text, but no data either.
            let _ = io::stderr().write_all(help::short(Colour::of(&io::stderr(), variable)).as_bytes());
            ExitStatus::Usage
        }
        Request::Help => print(help::text(Colour::of(&io::stdout(), variable)).as_bytes()),
        Request::Version => print(concat!("tractorun ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()),
        Request::Man => print(&completions::man_page()),
        Request::Completions(shell) => match completions::script(&shell) {
            Ok(script) => print(&script),
            Err(text) => {
                report.error(&text);
                ExitStatus::Usage
            }
        },
        Request::Logs(words) => logs::run(words, report, &variable),
        Request::Doctor(consultation) => doctor::run(consultation, report, &variable),
        Request::OnRuns(name, words) => tractorun::runs::run(name, words, report, &variable),
        Request::Run(command_line) => {
            let meant_instead = command_line.meant_instead();
            match Invocation::new(command_line, &Surroundings { variable: &variable, new_id: &new_id }) {
                Ok(invocation) => commands::run(&invocation).unwrap_or_else(|error| {
                    report.failure(&error);
                    ExitStatus::Failure
                }),
                Err(problems) => {
                    for problem in problems {
                        report.error(&problem.to_string());
                    }
                    if let Some(hint) = meant_instead {
                        report.hint(&hint);
                    }
                    ExitStatus::Usage
                }
            }
        }
    };
    status.into()
}

/// Writes data to stdout. A reader that has seen enough (`| head`) is no failure.
fn print(data: &[u8]) -> ExitStatus {
    match io::stdout().write_all(data) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitStatus::Failure,
        _ => ExitStatus::Success,
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A random UUID (version 4): what the Python tractorun names a run that was given no `yt_path`.
fn new_id() -> String {
    let random = rand::rng().random::<u128>();
    // Bits 48-51 say "version 4", the two topmost of the next group "variant 1".
    let version = random & !(0xf << 76) | (0x4 << 76);
    let id = version & !(0x3 << 62) | (0x2 << 62);
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
