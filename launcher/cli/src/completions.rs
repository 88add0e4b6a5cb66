//! Shell completions, `tractorun --completions bash`, and the man page, `tractorun --man`: from the tables of options that
//! `--help` is made from.

use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::Shell;

use crate::cli::{DOCTOR, LOGS};
use crate::logs::options::{SPECS, Spec};
use crate::runs::Name;
use crate::settings::options::{self, OPTIONS, OptionSpec, Takes};

/// Shells that completions are made for, by the name they are asked for with.
const SHELLS: [(&str, Shell); 3] = [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)];

/// The completion script for a shell, or the error's text.
pub fn script(shell: &str) -> Result<Vec<u8>, String> {
    let names = SHELLS.map(|(name, _)| name);
    let Some((_, generator)) = SHELLS.iter().find(|(name, _)| *name == shell) else {
        let near = match options::nearest(shell, names) {
            Some(near) => format!(", did you mean `{near}`?"),
            None => String::new(),
        };
        return Err(format!("`--completions`: expected `{}`, got `{shell}`{near}", names.join("` or `")));
    };
    let mut script = Vec::new();
    clap_complete::generate(*generator, &mut command(), "tractorun", &mut script);
    Ok(script)
}

/// The man page, as roff.
pub fn man_page() -> Vec<u8> {
    let page = command()
        .about("run distributed ML jobs on YTsaurus clusters and on this machine")
        .long_about(crate::cli::help::BEFORE);
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = clap_mangen::Man::new(page).render(&mut text);
    text
}

/// The grammar as `clap` describes it, which is what the completions are generated from.
fn command() -> Command {
    let options = || OPTIONS.iter().filter(|option| !option.help.is_empty() && option.name != "version");
    let logs = Command::new(LOGS)
        .about("Show what the workers of a run wrote")
        .args(SPECS.iter().filter(|spec| spec.name != "help").map(logs_argument))
        .arg(Arg::new("yt_path").value_hint(ValueHint::Other));
    let doctor = Command::new(DOCTOR)
        .about(crate::doctor::help::SUMMARY)
        .arg(Arg::new("json").long("json").help("Print JSON").action(ArgAction::SetTrue));
    Command::new("tractorun")
        .version(env!("CARGO_PKG_VERSION"))
        .args(options().map(argument))
        .subcommands(Name::ALL.map(on_runs))
        .arg(
            Arg::new("command")
                .num_args(0..)
                .trailing_var_arg(true)
                .value_hint(ValueHint::CommandWithArguments),
        )
        .disable_help_subcommand(true)
        .subcommand(logs)
        .subcommand(doctor.args(options().map(argument)))
}

fn on_runs(name: Name) -> Command {
    let options = name.options().map(|(option, value, help)| {
        let argument = Arg::new(option).long(option).help(help);
        match value {
            Some(placeholder) => argument.value_name(placeholder).value_hint(ValueHint::Other),
            None => argument.action(ArgAction::SetTrue),
        }
    });
    let command = Command::new(name.word()).about(name.summary()).args(options);
    match name {
        Name::List => command,
        _ => command.arg(Arg::new("run").value_hint(ValueHint::Other)),
    }
}

fn logs_argument(spec: &'static Spec) -> Arg {
    let mut argument = Arg::new(spec.name).long(spec.name).help(spec.help);
    if let Some(letter) = spec.short {
        argument = argument.short(letter);
    }
    match (spec.name, spec.value) {
        (_, None) => argument.action(ArgAction::SetTrue),
        ("stream", Some(name)) => argument.value_name(name).value_parser(["stdout", "stderr"]),
        ("collapse", Some(name)) => argument.value_name(name).value_parser(["auto", "always", "never"]),
        (_, Some(name)) => argument.value_name(name).value_hint(ValueHint::Other),
    }
}

fn argument(option: &'static OptionSpec) -> Arg {
    let argument = Arg::new(option.key).long(option.name).help(option.help);
    match option.takes {
        Takes::One(placeholder, _) => with_words(argument.value_name(placeholder), option),
        Takes::Each(placeholder, _) => {
            argument.value_name(placeholder).action(ArgAction::Append).value_hint(hint(option))
        }
        Takes::Switch | Takes::Nothing => argument.action(ArgAction::SetTrue),
    }
}

fn with_words(argument: Arg, option: &OptionSpec) -> Arg {
    match option.key {
        "proxy_stderr_mode" => argument.value_parser(["primary", "all", "disabled"]),
        "completions" => argument.value_parser(SHELLS.map(|(name, _)| name)),
        _ => argument.value_hint(hint(option)),
    }
}

fn hint(option: &OptionSpec) -> ValueHint {
    match option.key {
        "run_config_path" | "bind_local" => ValueHint::AnyPath,
        "bind_local_lib" => ValueHint::DirPath,
        _ => ValueHint::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_the_options() {
        command().debug_assert();
        for (shell, _) in SHELLS {
            let script = String::from_utf8(script(shell).unwrap()).unwrap();
            assert!(script.contains("mesh.node-count"), "{shell}");
            assert!(Name::ALL.iter().all(|name| script.contains(name.word())), "{shell}");
            assert!(script.contains("now"), "{shell}");
        }
    }

    #[test]
    fn the_man_page_has_every_option_and_command() {
        let page = String::from_utf8(man_page()).unwrap().replace("\\-", "-").replace("\\*(Aq", "'");
        for option in OPTIONS.iter().filter(|option| !option.help.is_empty()) {
            assert!(page.contains(&format!("--{}", option.name)), "{} is missing", option.name);
        }
        assert!(Name::ALL.iter().all(|name| page.contains(name.summary())), "{page}");
    }

    #[test]
    fn other_shells_are_refused_by_name() {
        assert_eq!(
            script("zhs").unwrap_err(),
            "`--completions`: expected `bash` or `zsh` or `fish`, got `zhs`, did you mean `zsh`?"
        );
        assert_eq!(
            script("powershell").unwrap_err(),
            "`--completions`: expected `bash` or `zsh` or `fish`, got `powershell`"
        );
    }
}
