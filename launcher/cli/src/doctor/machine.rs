//! What the run needs of this machine: our own programs, the files that travel, and room to pack them.

use std::env;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use tractorun_contract::job_spec::SPEC_VERSION;

use super::finding::Finding;
use crate::commands::archives::{Source, sources};
use crate::commands::binaries::{Program, check_for_cluster};
use crate::commands::terminal::size;
use crate::pack::{Cancel, survey};
use crate::settings::check::{NO_IMAGE, image_hint};
use crate::settings::{InitSource, Place, Settings};

/// A program says its version at once, or is none.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// `tractorun-init`: there, fit for a job, and of our own version.
pub(super) async fn init(place: Place, source: InitSource) -> Finding {
    if place == Place::Cluster && source == InitSource::Image {
        return Finding::fine("init", "the image's own, as `--init image` says; only the job will see it");
    }
    let path = match Program::Init.find() {
        Ok(path) => path,
        Err(error) => return Finding::wrong("init", error),
    };
    if place == Place::Cluster
        && let Err(error) = check_for_cluster(&path)
    {
        return Finding::wrong("init", error);
    }
    match version(&path).await {
        Ok(said) => judge_init(&path, &said),
        // A laptop brings an init for the cluster's machines, which need not be its own kind.
        Err(error) if place == Place::Cluster && !cfg!(target_os = "linux") => Finding::fine(
            "init",
            format!("`{}` is for Linux; it cannot be asked here: {error}", path.display()),
        ),
        Err(error) => Finding::wrong("init", format!("`{}` cannot be run: {error}", path.display())),
    }
}

fn judge_init(path: &Path, said: &str) -> Finding {
    let path = path.display();
    let hint = "take `tractorun` and `tractorun-init` of one release";
    let Some((version, spec)) = parse_version(said, "tractorun-init") else {
        return Finding::wrong("init", format!("`{path}` is no tractorun-init: it says `{said}`"));
    };
    let own_spec = SPEC_VERSION.to_string();
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    if let Some(spec) = spec.filter(|spec| major(spec) != major(&own_spec)) {
        let text = format!("`{path}` reads job specs {spec}, and this tractorun writes {own_spec}");
        return Finding::wrong("init", text).hint(hint);
    }
    if version != env!("CARGO_PKG_VERSION") {
        let text = format!("`{path}` is version {version}, this tractorun is {}", env!("CARGO_PKG_VERSION"));
        return Finding::doubtful("init", text).hint(hint);
    }
    let spec = spec.map(|spec| format!(", job spec {spec}")).unwrap_or_default();
    Finding::fine("init", format!("`{path}`, version {version}{spec}"))
}

/// `name 1.2.3 (job spec 1.0)`: the version, and the job spec's where it is told.
fn parse_version<'a>(said: &'a str, name: &str) -> Option<(&'a str, Option<&'a str>)> {
    let rest = said.strip_prefix(name)?.strip_prefix(' ')?;
    let (version, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let spec = rest.strip_prefix("(job spec ").and_then(|spec| spec.strip_suffix(')'));
    (!version.is_empty()).then_some((version, spec))
}

/// The minicluster of a `--local` run without `YT_PROXY`.
pub(super) async fn minicluster() -> Finding {
    let path = match Program::Minicluster.find() {
        Ok(path) => path,
        Err(error) => return Finding::wrong("minicluster", error),
    };
    match version(&path).await {
        Ok(said) => Finding::fine("minicluster", format!("`{}`: {said}", path.display())),
        Err(error) => Finding::wrong("minicluster", format!("`{}` cannot be run: {error}", path.display())),
    }
}

/// What the program says of itself, on one line.
async fn version(path: &Path) -> Result<String, String> {
    let mut command = Command::new(path);
    command.arg("--version").env_clear().stdin(std::process::Stdio::null()).kill_on_drop(true);
    match timeout(VERSION_TIMEOUT, command.output()).await {
        Err(_) => Err(format!("`--version` takes longer than {} s", VERSION_TIMEOUT.as_secs())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(output)) if !output.status.success() => Err(format!("`--version` ends with {}", output.status)),
        Ok(Ok(output)) => {
            Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
        }
    }
}

/// Whether the job has an image.
pub(super) fn image(image: Option<&str>) -> Finding {
    match image {
        Some(image) => {
            Finding::fine("image", format!("`{image}`, which the cluster pulls when a run starts"))
        }
        None => Finding::wrong("image", NO_IMAGE).hint(image_hint()),
    }
}

/// Whether all local files can be packed, and whether there is room to. Blocks.
pub(super) fn files(settings: &Settings, cancel: &Cancel) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut bytes = 0;
    for Source { option, path, rules, .. } in sources(settings) {
        let shown = path.display();
        match survey(path, rules, cancel) {
            Err(error) => findings.push(Finding::wrong(option, error)),
            Ok(survey) => {
                bytes += survey.bytes;
                let files = if survey.files == 1 { "file" } else { "files" };
                let stays = match survey.ignored {
                    0 => String::new(),
                    count => format!("; {count} more stay here by ignore files"),
                };
                let text = format!("`{shown}`: {} {files}, {}{stays}", survey.files, size(survey.bytes));
                findings.push(Finding::fine(option, text));
                findings.extend(survey.warnings.iter().map(|text| Finding::doubtful(option, text)));
            }
        }
    }
    findings.push(room(&env::temp_dir(), bytes));
    findings
}

/// Whether archives of so many bytes can be written there.
fn room(folder: &Path, bytes: u64) -> Finding {
    let shown = folder.display();
    let hint = "TMPDIR names another folder";
    if let Err(error) = tempfile::Builder::new().prefix("tractorun-").tempfile_in(folder) {
        return Finding::wrong("disk", format!("cannot write to `{shown}`: {error}")).hint(hint);
    }
    match nix::sys::statvfs::statvfs(folder) {
        Err(error) => Finding::doubtful("disk", format!("cannot tell how much room `{shown}` has: {error}")),
        Ok(disk) => {
            // Types differ between systems.
            #[allow(clippy::useless_conversion, reason = "u32 on macOS")]
            let free = u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size()));
            judge_room(&shown.to_string(), free, bytes)
        }
    }
}

fn judge_room(folder: &str, free: u64, bytes: u64) -> Finding {
    let archives = match bytes {
        0 => String::new(),
        bytes => format!(" for archives of at most {}", size(bytes)),
    };
    let text = format!("`{folder}` has {} free{archives}", size(free));
    if free >= bytes {
        return Finding::fine("disk", text);
    }
    Finding::doubtful("disk", text).hint("TMPDIR names another folder; compressed it may still fit")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Outcome;
    use super::*;

    #[test]
    fn an_init_of_another_version_is_told() {
        let judged = |said: &str| {
            let finding = judge_init(Path::new("/i"), said);
            (finding.outcome, finding.text)
        };
        let own = env!("CARGO_PKG_VERSION");
        assert_eq!(
            judged(&format!("tractorun-init {own} (job spec {SPEC_VERSION})")),
            (Outcome::Fine, format!("`/i`, version {own}, job spec {SPEC_VERSION}"))
        );
        assert_eq!(judged(&format!("tractorun-init {own}")).0, Outcome::Fine);
        assert_eq!(judged("tractorun-init 99.0.0 (job spec 1.7)").0, Outcome::Doubtful);
        assert_eq!(
            judged(&format!("tractorun-init {own} (job spec 99.0)")),
            (Outcome::Wrong, format!("`/i` reads job specs 99.0, and this tractorun writes {SPEC_VERSION}"))
        );
        assert_eq!(judged("bash 5").0, Outcome::Wrong);
    }

    #[test]
    fn too_little_room_is_told() {
        assert_eq!(judge_room("/tmp", 1 << 30, 5).outcome, Outcome::Fine);
        let little = judge_room("/tmp", 1 << 20, 1 << 30);
        assert_eq!(little.outcome, Outcome::Doubtful);
        assert_eq!(little.text, "`/tmp` has 1.00 MiB free for archives of at most 1.00 GiB");
        assert_eq!(room(Path::new("/no/such"), 0).outcome, Outcome::Wrong);
    }
}
