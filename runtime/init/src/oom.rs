//! Whether the kernel has killed processes of this job because memory ran out.
//!
//! Owns the knowledge of where the memory control group of this process is, in cgroup v2 and v1, and what its
//! files say. Reads them when asked, and never before or in between: the kernel raises its counter before it sends
//! the signal, so whoever has reaped a process that it killed finds the counter raised. Where there is no
//! control group, or none that can be seen, nothing is known and nothing is said.

use std::fs;
use std::path::{Component, Path, PathBuf};

use tracing::debug;
use tractorun_contract::failure::{OomEvidence, OutOfMemory};

/// Limits from here on are none: v1 says "no limit" by the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 60;

/// The control group of this process, and what its counters were at the beginning.
#[derive(Debug, Default)]
pub struct OomWatch {
    group: Option<(Group, Counters)>,
}

/// A memory control group in the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    version: Version,
    /// Its own folder, or the next one above it that has the files.
    folder: PathBuf,
    /// Where its hierarchy is mounted: above that nothing of it can be seen.
    top: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counters {
    /// Processes killed.
    Kills { count: u64, evidence: OomEvidence },
    /// Allocations that hit the limit, on a kernel that counts no kills.
    Failures(u64),
}

// === impl OomWatch ===

impl OomWatch {
    /// Watches the control group of this process from now on.
    pub fn start() -> Self {
        Self::start_under(Path::new("/"))
    }

    /// The same below another root.
    fn start_under(root: &Path) -> Self {
        let group = find(root).and_then(|group| Some((group.clone(), group.counters()?)));
        if group.is_none() {
            debug!("no memory control group: an OOM kill will be told as SIGKILL only");
        }
        Self { group }
    }

    /// What the kernel has killed since the start, if anything.
    pub fn look(&self) -> Option<OutOfMemory> {
        let (group, before) = self.group.as_ref()?;
        let (kills, evidence) = match (group.counters()?, *before) {
            (Counters::Kills { count, evidence }, Counters::Kills { count: before, .. }) => {
                (count.checked_sub(before).filter(|kills| *kills > 0)?, evidence)
            }
            (Counters::Failures(count), Counters::Failures(before)) if count > before => {
                (0, OomEvidence::FailCount)
            }
            _ => return None,
        };
        Some(OutOfMemory { kills, evidence, limit_bytes: group.limit() })
    }
}

// === impl Group ===

impl Group {
    fn counters(&self) -> Option<Counters> {
        let number_in = |file: &str, key: &str| {
            let text = fs::read_to_string(self.folder.join(file)).ok()?;
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
        };
        match self.version {
            Version::Two => number_in("memory.events", "oom_kill")
                .map(|count| Counters::Kills { count, evidence: OomEvidence::MemoryEvents }),
            Version::One => number_in("memory.oom_control", "oom_kill")
                .map(|count| Counters::Kills { count, evidence: OomEvidence::OomControl })
                .or_else(|| number(&self.folder.join("memory.failcnt")).map(Counters::Failures)),
        }
    }

    /// The least of its own limit and of those above it, as far as they can be seen.
    fn limit(&self) -> Option<u64> {
        let file = match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        self.folder
            .ancestors()
            .take_while(|folder| folder.starts_with(&self.top))
            // v2 says "max" where there is none.
            .filter_map(|folder| number(&folder.join(file)))
            .filter(|limit| *limit < NO_LIMIT)
            .min()
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The memory control group of this process.
fn find(root: &Path) -> Option<Group> {
    let memberships = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    // v2 first: where both are mounted, the one that has the memory controller has the files.
    [Version::Two, Version::One].into_iter().find_map(|version| {
        let path = membership(&memberships, version)?;
        let mount = mounts.lines().filter_map(parse_mount).find(|mount| mount.is_of(version))?;
        group_in(root, version, &mount, path)
    })
}

/// The path of this process in its hierarchy: of a line `id:controllers:path` of `/proc/self/cgroup`, where v2 has no
/// controllers.
fn membership(memberships: &str, version: Version) -> Option<&str> {
    memberships.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let is_it = match version {
            Version::Two => controllers.is_empty(),
            Version::One => controllers.split(',').any(|controller| controller == "memory"),
        };
        is_it.then_some(path)
    })
}

struct Mount<'a> {
    /// What of the hierarchy is mounted.
    shown: &'a str,
    target: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl Mount<'_> {
    fn is_of(&self, version: Version) -> bool {
        match version {
            Version::Two => self.kind == "cgroup2",
            Version::One => {
                self.kind == "cgroup" && self.options.split(',').any(|controller| controller == "memory")
            }
        }
    }
}

/// Reads a line of `/proc/self/mountinfo`: `id parent dev root target options [tags...] - kind source options`.
fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(3);
    let mut back = back.split(' ');
    Some(Mount { shown: front.next()?, target: front.next()?, kind: back.next()?, options: back.nth(1)? })
}

/// The folder of that group, or the next one above it with the files of the memory controller.
fn group_in(root: &Path, version: Version, mount: &Mount<'_>, path: &str) -> Option<Group> {
    let marker = match version {
        Version::One => "memory.oom_control",
        Version::Two => "memory.events",
    };
    let top = below(root, mount.target)?;
    // In a container the mount shows the container's own group, and the path may start there or far above it.
    let own = match path.strip_prefix(mount.shown.trim_end_matches('/')) {
        Some(inside) => below(&top, inside)?,
        None => top.clone(),
    };
    let folder = own
        .ancestors()
        .take_while(|folder| folder.starts_with(&top))
        .find(|folder| folder.join(marker).is_file())
        // A path of another namespace than the mount's leads nowhere; then its top is the nearest.
        .map(Path::to_path_buf)?;
    Some(Group { version, folder, top })
}

/// An absolute path below another one; none if it leads out of it.
fn below(root: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    is_plain.then(|| root.join(path.strip_prefix("/").unwrap_or(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A made-up machine.
    struct Machine {
        folder: tempfile::TempDir,
    }

    impl Machine {
        fn new(cgroup: &str, mountinfo: &str) -> Self {
            let machine = Self { folder: tempfile::tempdir().unwrap() };
            machine.write("proc/self/cgroup", cgroup);
            machine.write("proc/self/mountinfo", mountinfo);
            machine
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn watch(&self) -> OomWatch {
            OomWatch::start_under(self.folder.path())
        }
    }

    /// As systemd and as containers with their own cgroup namespace have it: the path starts where the mount does.
    const V2: (&str, &str) = (
        "0::/kubepods/pod1/main\n",
        "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    );

    fn events(kills: u64) -> String {
        format!("low 0\nhigh 0\nmax 12\noom 3\noom_kill {kills}\noom_group_kill 0\n")
    }

    #[test]
    fn kills_of_cgroup_v2_are_those_since_the_start() {
        let machine = Machine::new(V2.0, V2.1);
        let folder = "sys/fs/cgroup/kubepods/pod1/main";
        machine.write(&format!("{folder}/memory.events"), &events(4));
        machine.write(&format!("{folder}/memory.max"), "max\n");
        machine.write("sys/fs/cgroup/kubepods/pod1/memory.max", "1073741824\n");
        machine.write("sys/fs/cgroup/kubepods/memory.max", "2147483648\n");
        let watch = machine.watch();
        assert_eq!(watch.look(), None);
        machine.write(&format!("{folder}/memory.events"), &events(6));
        let expected =
            OutOfMemory { kills: 2, evidence: OomEvidence::MemoryEvents, limit_bytes: Some(1 << 30) };
        assert_eq!(watch.look(), Some(expected));
    }

    #[test]
    fn the_group_above_is_read_where_the_own_one_has_no_memory_controller() {
        let machine = Machine::new(V2.0, V2.1);
        machine.write("sys/fs/cgroup/kubepods/pod1/memory.events", &events(0));
        machine.write("sys/fs/cgroup/kubepods/pod1/main/cgroup.procs", "");
        let watch = machine.watch();
        machine.write("sys/fs/cgroup/kubepods/pod1/memory.events", &events(1));
        assert_eq!(watch.look().map(|oom| (oom.kills, oom.limit_bytes)), Some((1, None)));
    }

    /// Docker with cgroup v1: the path is the whole one, the mount shows the part from the container's group on.
    #[test]
    fn kills_of_cgroup_v1_in_a_container() {
        let machine = Machine::new(
            "9:pids:/docker/abc\n4:cpu,memory:/docker/abc\n0::/\n",
            "35 31 0:32 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        );
        let folder = "sys/fs/cgroup/cpu";
        let control = |kills| format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n");
        machine.write("sys/fs/cgroup/unified/cgroup.procs", "");
        machine.write(&format!("{folder}/memory.oom_control"), &control(0));
        machine.write(&format!("{folder}/memory.limit_in_bytes"), "9223372036854771712\n");
        let watch = machine.watch();
        machine.write(&format!("{folder}/memory.oom_control"), &control(1));
        let expected = OutOfMemory { kills: 1, evidence: OomEvidence::OomControl, limit_bytes: None };
        assert_eq!(watch.look(), Some(expected));
    }

    #[test]
    fn an_old_kernel_counts_failures_only() {
        let machine = Machine::new("4:memory:/job\n", "35 31 0:32 / /cg rw - cgroup cgroup rw,memory\n");
        machine.write("cg/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n");
        machine.write("cg/job/memory.failcnt", "7\n");
        let watch = machine.watch();
        assert_eq!(watch.look(), None);
        machine.write("cg/job/memory.failcnt", "8\n");
        let expected = OutOfMemory { kills: 0, evidence: OomEvidence::FailCount, limit_bytes: None };
        assert_eq!(watch.look(), Some(expected));
    }

    #[test]
    fn a_path_of_another_namespace_means_the_mounts_top() {
        let mounts = "35 31 0:32 /elsewhere /cg rw - cgroup2 cgroup2 rw\n";
        for path in ["0::/not/shown\n", "0::/elsewhere/gone\n"] {
            let machine = Machine::new(path, mounts);
            machine.write("cg/memory.events", &events(0));
            let watch = machine.watch();
            machine.write("cg/memory.events", &events(1));
            assert_eq!(watch.look().map(|oom| oom.kills), Some(1), "{path}");
        }
    }

    #[test]
    fn where_nothing_can_be_seen_nothing_is_said() {
        assert_eq!(OomWatch::start_under(Path::new("/nowhere/at/all")).look(), None);
        let outside = Machine::new("0::/../other\n", "35 31 0:32 / /cg rw - cgroup2 cgroup2 rw\n");
        outside.write("cg/cgroup.procs", "");
        assert_eq!(outside.watch().look(), None);
        let garbage = Machine::new("garbage\n", "garbage - \n");
        assert_eq!(garbage.watch().look(), None);
        assert_eq!(OomWatch::default().look(), None);
    }

    /// On the machine that runs the tests: nothing is killed here, and nothing is said.
    #[test]
    fn this_machine_can_be_read() {
        assert_eq!(OomWatch::start().look(), None);
    }
}
