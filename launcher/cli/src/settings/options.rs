//! The table of options: the only place that spells their names.
//!
//! Command line, YAML file, `--help` and shell completions all go by it, so that none of them can know an
//! option that the others do not. The options themselves are in the modules below, one for each heading of
//! `--help`.

mod container;
mod expert;
mod failures;
mod job;
mod launcher;
mod logs;
mod mesh;
mod near;
mod resources;

pub(crate) use self::near::nearest;

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OptionSpec {
    /// Name on the command line, without the dashes in front.
    pub name: &'static str,
    /// Key in the YAML file, sections joined by a dot; also the option's identity.
    pub key: &'static str,
    /// Where it may be given.
    pub given_in: GivenIn,
    /// What follows it on the command line.
    pub takes: Takes,
    /// What it does, for `--help`; empty: not shown there.
    pub help: &'static str,
}

/// Where an option may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenIn {
    /// On the command line and in the YAML file.
    Both,
    /// On the command line only: it is about the invocation and not about the job.
    CommandLineOnly,
}

/// What follows an option on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// One value; the last one given counts. The name stands for it in `--help`.
    One(&'static str, Notation),
    /// One value each time it is given; all of them count.
    Each(&'static str, Notation),
    /// `true` or `false`, or nothing for `true`.
    Switch,
    /// Nothing: the option is the whole request.
    Nothing,
}

/// How a value is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notation {
    /// Text for what it says.
    Text,
    /// A number or JSON.
    Json,
}

/// Headings of `--help`, in the order they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// What runs, and where its traces are.
    Job,
    /// Shape of the job.
    Mesh,
    /// What a node may use.
    Resources,
    /// What happens when something ends that should not.
    Failures,
    /// What the command finds around it.
    Container,
    /// Where lines go.
    Logs,
    /// How the launcher behaves.
    Launcher,
    /// For administrators.
    Expert,
}

/// The options of all groups.
pub(crate) struct Table([Group; 8]);

/// Every option, in the order `--help` shows them.
pub(crate) static OPTIONS: Table = Table(Group::ALL);

/// The user's command: in the YAML file a key as any other, on the command line what follows the options.
pub(crate) static COMMAND: OptionSpec = option("", "command", GivenIn::Both, Takes::Nothing, "");

/// Keys whose effect comes in a later version; a name that ends in a dot stands for a whole section.
pub(crate) static LATER: [&str; 3] = ["mesh.gang", "mesh.spare_nodes", "metrics."];

const fn option(
    name: &'static str,
    key: &'static str,
    given_in: GivenIn,
    takes: Takes,
    help: &'static str,
) -> OptionSpec {
    OptionSpec { name, key, given_in, takes, help }
}

/// The option of that YAML key. The key must be in the table.
pub(crate) fn by_key(key: &str) -> Option<&'static OptionSpec> {
    std::iter::once(&COMMAND).chain(OPTIONS.iter()).find(|option| option.key == key)
}

/// The option of that name on the command line. The tensorproxy's have underscores since the Python tractorun wrote
/// them so, and are known with dashes too.
pub(crate) fn by_name(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|option| {
        option.name == name || (option.name.contains('_') && option.name.replace('_', "-") == name)
    })
}

/// Whether `key` is, or lies in, what a later version brings.
pub(crate) fn comes_later(key: &str) -> bool {
    LATER.iter().any(|later| match later.strip_suffix('.') {
        Some(section) => key == section || key.starts_with(later),
        None => key == *later,
    })
}

// === impl Table ===

impl Table {
    /// One after the other.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static OptionSpec> + Clone {
        self.0.iter().flat_map(|group| group.options())
    }
}

// === impl Group ===

impl Group {
    /// All of them, in the order they are shown.
    pub(crate) const ALL: [Self; 8] = [
        Self::Job,
        Self::Mesh,
        Self::Resources,
        Self::Failures,
        Self::Container,
        Self::Logs,
        Self::Launcher,
        Self::Expert,
    ];

    /// The heading.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Job => "Job",
            Self::Mesh => "Mesh",
            Self::Resources => "Resources of each node",
            Self::Failures => "Failures and preemption",
            Self::Container => "What the command finds",
            Self::Logs => "Lines of workers and sidecars",
            Self::Launcher => "Launcher",
            Self::Expert => "Merged over what is submitted (ask your administrator first)",
        }
    }

    /// What stands under it.
    pub(crate) fn options(self) -> &'static [OptionSpec] {
        match self {
            Self::Job => &job::OPTIONS,
            Self::Mesh => &mesh::OPTIONS,
            Self::Resources => &resources::OPTIONS,
            Self::Failures => &failures::OPTIONS,
            Self::Container => &container::OPTIONS,
            Self::Logs => &logs::OPTIONS,
            Self::Launcher => &launcher::OPTIONS,
            Self::Expert => &expert::OPTIONS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys_differ_only_in_dashes() {
        for option in OPTIONS.iter() {
            let name = if option.name == "sidecar" { "sidecars" } else { option.name };
            assert_eq!(name.replace('-', "_"), option.key);
            assert_eq!(by_name(option.name), Some(option));
            assert_eq!(by_key(option.key), Some(option));
        }
    }

    #[test]
    fn later_sections_are_known_with_all_they_hold() {
        assert!(comes_later("mesh.gang"));
        assert!(comes_later("metrics"));
        assert!(comes_later("metrics.port"));
        assert!(!comes_later("mesh"));
        assert!(!comes_later("logsx"));
    }
}
