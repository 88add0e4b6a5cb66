//! Whether the kernel has killed processes of this job because memory ran out, and how much there is.
//!
//! Owns the knowledge of where the memory control group of this process is, in cgroup v2 and v1, and what its
//! files say. Reads them when asked, and never before or in between: the kernel raises its counter before it sends
//! the signal, so whoever has reaped a process that it killed finds the counter raised. Where there is no
//! control group, or none that can be seen, nothing is known and nothing is said.
//!
//! The counter says how many were killed, not who: it also counts children of workers, which we do not reap, and what
//! else lives in the control group. So each kill explains one end by SIGKILL at most, and only one that comes within
//! [`EXPLAINS`] of the look that found it: a process with much memory takes its time to end, and others may be reaped
//! meanwhile. An end with a code is explained by any kill of the attempt that has no process yet, since that may have
//! been a child. What cannot be told apart: somebody's `kill -9` that is the first end after a kill that nobody was
//! reaped for.

use std::collections::VecDeque;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use tracing::debug;
use tractorun_contract::failure::{OomEvidence, OutOfMemory};
use tractorun_sys::{ExitReason, Signal};

/// Limits from here on are none: v1 says "no limit" by the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 60;

/// Kills that are remembered: as many ends as could come together.
const MAX_UNEXPLAINED: usize = 1024;

/// How long a kill that was found explains an end by SIGKILL.
const EXPLAINS: Duration = Duration::from_mins(1);

/// The control group of this process, what its counters were at the beginning, and what has come since.
#[derive(Debug, Default)]
pub struct OomWatch {
    group: Option<(Group, Counters)>,
    /// Kills that explain no end yet, by when they were found.
    unexplained: VecDeque<Duration>,
    /// Kills that were found since the beginning.
    found: u64,
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
        Self { group, ..Self::default() }
    }

    /// Takes note of what the kernel has killed: to be called when processes have been reaped, before they are
    /// explained.
    pub fn look(&mut self, now: Duration) {
        let Some((group, before)) = &self.group else { return };
        let since_start = match (group.counters(), before) {
            (Some(Counters::Kills { count, .. }), Counters::Kills { count: before, .. }) => {
                count.saturating_sub(*before)
            }
            // How many were killed is not known: one, for whoever is the next to end by SIGKILL.
            (Some(Counters::Failures(count)), Counters::Failures(before)) => {
                let has_risen = count > *before;
                self.group = self.group.take().map(|(group, _)| (group, Counters::Failures(count)));
                self.found + u64::from(has_risen)
            }
            _ => return,
        };
        let news = since_start.saturating_sub(self.found);
        self.found = self.found.max(since_start);
        // More of them than there are ends to be explained are of no use.
        let news = usize::try_from(news).map_or(MAX_UNEXPLAINED, |news| news.min(MAX_UNEXPLAINED));
        self.unexplained.extend(std::iter::repeat_n(now, news));
        let excess = self.unexplained.len().saturating_sub(MAX_UNEXPLAINED);
        self.unexplained.drain(..excess);
    }

    /// What the kernel says about the end of a process that was reaped now and that we have not killed, if anything.
    pub fn explain(&mut self, now: Duration, end: ExitReason) -> Option<OutOfMemory> {
        let (group, before) = self.group.as_ref()?;
        let evidence = before.evidence();
        match end {
            ExitReason::Code(0) => return None,
            ExitReason::Signal(Signal::KILL) => {
                let is_fresh = |found: &Duration| now.saturating_sub(*found) <= EXPLAINS;
                let nth = self.unexplained.iter().position(is_fresh)?;
                self.unexplained.remove(nth);
            }
            // A counter of failures rises whenever files are read at the limit: alone it says nothing.
            ExitReason::Code(_) | ExitReason::Signal(_) => {
                if self.unexplained.is_empty() || evidence == OomEvidence::FailCount {
                    return None;
                }
            }
        }
        let kills = if evidence == OomEvidence::FailCount { 0 } else { self.found };
        Some(OutOfMemory { kills, evidence, limit_bytes: group.limit() })
    }
}

// === impl Counters ===

impl Counters {
    fn evidence(self) -> OomEvidence {
        match self {
            Self::Kills { evidence, .. } => evidence,
            Self::Failures(_) => OomEvidence::FailCount,
        }
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

/// Memory of a control group, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupMemory {
    /// What it may use.
    pub(crate) limit_bytes: u64,
    /// What it uses that the kernel could not give back at once.
    pub(crate) used_bytes: u64,
}

/// What the control group of this process may use and uses, if it has a limit, below another root than `/`.
pub(crate) fn group_memory(root: &Path) -> Option<GroupMemory> {
    let group = find(root)?;
    let limit_bytes = group.limit()?;
    let (usage, reclaimable) = match group.version {
        Version::One => ("memory.usage_in_bytes", "total_inactive_file "),
        Version::Two => ("memory.current", "inactive_file "),
    };
    let stat = fs::read_to_string(group.folder.join("memory.stat")).unwrap_or_default();
    let reclaimable = stat.lines().find_map(|line| line.strip_prefix(reclaimable)?.parse::<u64>().ok());
    let used_bytes = number(&group.folder.join(usage))?.saturating_sub(reclaimable.unwrap_or(0));
    Some(GroupMemory { limit_bytes, used_bytes })
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

        fn watch(&self) -> Watch {
            Watch(OomWatch::start_under(self.folder.path()))
        }
    }

    /// What it says of an end by SIGKILL, each time.
    struct Watch(OomWatch);

    impl Watch {
        fn look(&mut self) -> Option<OutOfMemory> {
            self.0.look(Duration::ZERO);
            self.0.explain(Duration::ZERO, KILLED)
        }
    }

    const KILLED: ExitReason = ExitReason::Signal(Signal::KILL);

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
        let mut watch = machine.watch();
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
        let mut watch = machine.watch();
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
        let mut watch = machine.watch();
        machine.write(&format!("{folder}/memory.oom_control"), &control(1));
        let expected = OutOfMemory { kills: 1, evidence: OomEvidence::OomControl, limit_bytes: None };
        assert_eq!(watch.look(), Some(expected));
    }

    #[test]
    fn an_old_kernel_counts_failures_only() {
        let machine = Machine::new("4:memory:/job\n", "35 31 0:32 / /cg rw - cgroup cgroup rw,memory\n");
        machine.write("cg/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n");
        machine.write("cg/job/memory.failcnt", "7\n");
        let mut watch = machine.watch();
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
            let mut watch = machine.watch();
            machine.write("cg/memory.events", &events(1));
            assert_eq!(watch.look().map(|oom| oom.kills), Some(1), "{path}");
        }
    }

    #[test]
    fn where_nothing_can_be_seen_nothing_is_said() {
        assert_eq!(Watch(OomWatch::start_under(Path::new("/nowhere/at/all"))).look(), None);
        let outside = Machine::new("0::/../other\n", "35 31 0:32 / /cg rw - cgroup2 cgroup2 rw\n");
        outside.write("cg/cgroup.procs", "");
        assert_eq!(outside.watch().look(), None);
        let garbage = Machine::new("garbage\n", "garbage - \n");
        assert_eq!(garbage.watch().look(), None);
        assert_eq!(Watch(OomWatch::default()).look(), None);
    }

    /// What happens to a node, and what is said of it.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// The kernel's counter of kills (or of failed allocations) is raised.
        Counted(u64),
        /// Time passes.
        Seconds(u64),
        /// A process is reaped; whether memory is said to be why.
        Ends(ExitReason, bool),
    }

    /// A file of the kernel's with its counter.
    type Counter = (&'static str, fn(u64) -> String);

    fn play(name: &str, (file, text): Counter, steps: &[Step]) {
        let mounts = match file {
            "memory.events" => "29 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n",
            _ => "35 31 0:32 / /cg rw - cgroup cgroup rw,memory\n",
        };
        let machine = Machine::new("4:memory:/\n0::/\n", mounts);
        machine.write("cg/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n");
        let mut count = 7;
        machine.write(&format!("cg/{file}"), &text(count));
        let mut watch = machine.watch().0;
        let mut now = Duration::ZERO;
        for (number, step) in steps.iter().enumerate() {
            match *step {
                Step::Counted(more) => {
                    count += more;
                    machine.write(&format!("cg/{file}"), &text(count));
                }
                Step::Seconds(seconds) => now += Duration::from_secs(seconds),
                Step::Ends(end, expected) => {
                    watch.look(now);
                    let oom = watch.explain(now, end);
                    assert_eq!(oom.is_some(), expected, "{name}, {file}, step {number}: {oom:?}");
                }
            }
        }
    }

    #[test]
    fn each_kill_explains_one_end_and_none_that_comes_much_later() {
        use Step::{Counted, Ends, Seconds};
        const FAILED: ExitReason = ExitReason::Code(1);
        const HUNG_UP: ExitReason = ExitReason::Signal(Signal::HUP);
        const FINE: ExitReason = ExitReason::Code(0);
        let counted: [Counter; 2] = [
            ("memory.events", events),
            ("memory.oom_control", |kills| format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")),
        ];
        let tables: [(&str, &[Step]); 8] = [
            ("who was killed for it", &[Counted(1), Ends(KILLED, true)]),
            ("a later kill -9 is another matter", &[Counted(1), Ends(KILLED, true), Ends(KILLED, false)]),
            ("two at a time", &[Counted(2), Ends(KILLED, true), Ends(KILLED, true), Ends(KILLED, false)]),
            // It was killed before the sidecar ended, and took a second to give its memory back.
            ("one that ends slowly", &[Counted(1), Ends(FINE, false), Seconds(1), Ends(KILLED, true)]),
            (
                "a child that its worker outlived for long",
                &[Counted(1), Ends(FINE, false), Seconds(61), Ends(KILLED, false)],
            ),
            ("a worker that fails for its child", &[Counted(1), Ends(FAILED, true), Ends(HUNG_UP, true)]),
            ("a sidecar was killed, a worker fails", &[Counted(1), Ends(KILLED, true), Ends(FAILED, false)]),
            ("nothing", &[Ends(KILLED, false), Ends(FAILED, false)]),
        ];
        for counter in counted {
            for (name, steps) in tables {
                play(name, counter, steps);
            }
        }
        // Failed allocations are no kills: each rise explains one at most, and no code.
        let failures: Counter = ("memory.failcnt", |count| format!("{count}\n"));
        play("one", failures, &[Counted(5), Ends(KILLED, true), Ends(KILLED, false)]);
        play("a code", failures, &[Counted(5), Ends(FAILED, false)]);
    }

    /// On the machine that runs the tests: nothing is killed here, and nothing is said.
    #[test]
    fn this_machine_can_be_read() {
        assert_eq!(Watch(OomWatch::start()).look(), None);
    }
}
