//! Process trees: who descends from this process, and ending all of them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::RangeInclusive;

use crate::pid::{Pid, Role};
use crate::signal::{self, Signal};

/// One living process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: Pid,
    /// Its parent's id; 0 where the parent is outside the namespace.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
}

/// Looks for a tree that no longer grows at most this often before it kills what it has seen; the caller
/// repeats anyway.
const STOP_ROUNDS: u32 = 100;

/// So often lists of children are read until nobody new shows up; a tree that grows as fast is scanned for.
const WALK_ROUNDS: u32 = 8;

/// The process ids that Linux gives.
const ALL_PIDS: RangeInclusive<i32> = 1..=1 << 22;

/// Makes orphaned descendants children of the calling process (`PR_SET_CHILD_SUBREAPER`). PID 1 is one by
/// nature.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Every living descendant of a process (zombies are not living), by `/proc`. A snapshot: who forks meanwhile
/// is seen by the next one.
pub fn descendants(of: Pid) -> io::Result<Vec<Process>> {
    // A /proc of another PID namespace would give numbers that mean other processes here.
    let own = fs::read_link("/proc/self")?;
    if own.as_os_str() != Pid::current().to_string().as_str() {
        return Err(io::Error::other("/proc is of another PID namespace"));
    }
    let Some(mut before) = walk(of) else { return scan(of) };
    for _ in 0..WALK_ROUNDS {
        let Some(found) = walk(of) else { break };
        // The kernel's lists of children may lack somebody while others end: whose parent ends between a look at the
        // new parent and one at the old is in neither list. That happens once to each, so what two looks agree on is
        // believed; that a second one shows nobody new is not enough, since it may be the one that lacks somebody.
        let known: HashSet<Pid> = before.iter().map(|process| process.pid).collect();
        if found.len() == known.len() && found.iter().all(|process| known.contains(&process.pid)) {
            return Ok(found);
        }
        before = found;
    }
    scan(of)
}

/// Living descendants by the kernel's own lists of children: it costs what the tree is large, however many other
/// processes the machine has. None where the kernel keeps no such lists.
fn walk(of: Pid) -> Option<Vec<Process>> {
    let mut found = Vec::new();
    let mut known = HashSet::from([of.as_raw()]);
    let mut parents = vec![of.as_raw()];
    while let Some(parent) = parents.pop() {
        let children = listed_children(parent);
        if children.is_none() && parent == of.as_raw() {
            return None;
        }
        // Any other parent has ended since it was listed.
        for number in children.unwrap_or_default() {
            let Ok(stat) = fs::read(format!("/proc/{number}/stat")) else { continue };
            let Some((process, life)) = parse_stat(number, &stat) else { continue };
            // Whose parent is nobody of ours has got its number anew.
            if known.contains(&process.parent) && known.insert(number) {
                // A zombie whose other threads run still has children.
                parents.push(number);
                if life == Life::Living {
                    found.push(process);
                }
            }
        }
    }
    Some(found)
}

/// The children of all threads of a process; none if there is no such list.
fn listed_children(parent: i32) -> Option<Vec<i32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{parent}/task")).ok()? {
        let Ok(thread) = thread else { continue };
        let list = match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => list,
            // A thread that has ended meanwhile has left its children to another one, which the next look sees.
            Err(_) if thread.path().exists() => return None,
            Err(_) => continue,
        };
        children.extend(list.split_ascii_whitespace().filter_map(|number| number.parse::<i32>().ok()));
    }
    Some(children)
}

/// Living descendants by a look at every process of the machine.
fn scan(of: Pid) -> io::Result<Vec<Process>> {
    let mut children: HashMap<i32, Vec<(Process, Life)>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // Who ended since the listing has no file any more.
        let Ok(stat) = fs::read(entry.path().join("stat")) else { continue };
        if let Some((process, life)) = parse_stat(number, &stat) {
            children.entry(process.parent).or_default().push((process, life));
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![of.as_raw()];
    while let Some(parent) = parents.pop() {
        // Taking the entry out makes the walk end even if reused numbers made a circle.
        for (process, life) in children.remove(&parent).unwrap_or_default() {
            // A zombie whose other threads run still has children.
            parents.push(process.pid.as_raw());
            if life == Life::Living {
                found.push(process);
            }
        }
    }
    Ok(found)
}

/// Every living child of the calling process with an id from that range, without `/proc`: each number is shown to
/// the kernel, which knows whose child it is. For all ids that takes some tenths of a second.
fn children(range: RangeInclusive<i32>) -> Vec<Process> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    let is_living_child = |number: i32| {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        let id = libc::id_t::try_from(number).unwrap_or_default();
        // SAFETY: `info` outlives the call and is all zeros, a valid value, if the kernel does not fill it in. With
        // WNOWAIT nothing is reaped.
        unsafe {
            libc::waitid(libc::P_PID, id, info.as_mut_ptr(), flags) == 0 && info.assume_init().si_pid() == 0
        }
    };
    let process = |number: i32| {
        let pid = Pid::from_raw(number)?;
        // SAFETY: these take and give numbers only; an own child cannot be somebody else before it is reaped.
        let (group, session) = unsafe { (libc::getpgid(number), libc::getsid(number)) };
        Some(Process { pid, parent: Pid::current().as_raw(), group, session })
    };
    range.filter(|number| is_living_child(*number)).filter_map(process).collect()
}

/// Sends a signal to every living descendant of the calling process (without `/proc`: to its children and their
/// groups), in such a way that a child born meanwhile gets it too, if it is of its parent's group; returns how many got it (as PID 1: all at once, uncounted, so 0 or 1).
pub fn signal_descendants(signal: Signal) -> io::Result<usize> {
    if Role::current() == Role::Init {
        return as_init(signal);
    }
    let all = descendants(Pid::current()).unwrap_or_else(|_| children(ALL_PIDS));
    Ok(send_each_or_group(&all, signal))
}

/// Sends a signal to a descendant, to all that descends from it and to its session; returns how many got it.
pub fn signal_branch(root: Pid, signal: Signal) -> usize {
    let (branch, _) = split(visible(), &[root]);
    send_each_or_group(&branch, signal)
}

/// Sends a signal to every living descendant that is of none of the branches; returns how many got it.
pub fn signal_others(spared: &[Pid], signal: Signal) -> usize {
    send_each_or_group(&others(spared), signal)
}

/// Every living descendant of the calling process that is of none of the branches.
pub fn others(spared: &[Pid]) -> Vec<Process> {
    let (_, others) = split(visible(), spared);
    others
}

/// Every living descendant of the calling process; without `/proc` its children.
fn visible() -> Vec<Process> {
    descendants(Pid::current()).unwrap_or_else(|_| children(ALL_PIDS))
}

/// Splits processes into those of the branches and the others. A branch is its root, all that descends from it,
/// and its session, if it leads one: whoever stays in that is known even after its parent has ended.
fn split(processes: Vec<Process>, roots: &[Pid]) -> (Vec<Process>, Vec<Process>) {
    let parents: HashMap<i32, &Process> =
        processes.iter().map(|process| (process.pid.as_raw(), process)).collect();
    let is_root = |number: i32| roots.iter().any(|root| root.as_raw() == number);
    let mut of_branch = HashSet::new();
    for process in &processes {
        let mut ancestor = Some(process);
        // Bounded: in a snapshot that is not of one moment, reused numbers may make a circle.
        for _ in 0..processes.len() {
            let Some(current) = ancestor else { break };
            if is_root(current.pid.as_raw()) || is_root(current.session) || is_root(current.parent) {
                of_branch.insert(process.pid);
                break;
            }
            ancestor = parents.get(&current.parent).copied();
        }
    }
    processes.into_iter().partition(|process| of_branch.contains(&process.pid))
}

/// Sends SIGKILL to every living descendant of the calling process, in such a way that forking does not help
/// them: PID 1 kills all at once; anybody else first stops all that it sees until it sees nobody new, since who
/// is stopped cannot fork. Returns how many got it. Repeat, reaping between, until
/// [`crate::reap::reap_any`] says `NoChildren`.
pub fn kill_descendants() -> io::Result<usize> {
    if Role::current() == Role::Init {
        return as_init(Signal::KILL);
    }
    // Without `/proc`: one generation in each call, since who ends hands its children up to us.
    if descendants(Pid::current()).is_err() {
        return Ok(send_each_or_group(&children(ALL_PIDS), Signal::KILL));
    }
    Ok(stop_and_kill(|| descendants(Pid::current()).unwrap_or_default()))
}

/// The same to every living descendant that is of none of the branches. Repeat, reaping between, until [`others`]
/// are none.
pub fn kill_others(spared: &[Pid]) -> usize {
    stop_and_kill(|| others(spared))
}

/// Stops all that can be seen until there is nobody new, then kills them.
fn stop_and_kill(look: impl Fn() -> Vec<Process>) -> usize {
    let mut stopped = HashSet::new();
    let mut seen = Vec::new();
    for _ in 0..STOP_ROUNDS {
        seen = look();
        let news: Vec<Process> = seen.iter().filter(|process| stopped.insert(process.pid)).copied().collect();
        if news.is_empty() {
            break;
        }
        send_each_or_group(&news, Signal::STOP);
    }
    send_each_or_group(&seen, Signal::KILL)
}

/// Sends a signal to these descendants; returns how many of them could be told. Where a whole group descends
/// from us the group gets it in one call, in which, by the kernel's rule, no member can fork away: a fork bomb
/// grows faster than one can look for its parts. That is so in every session but our own, since sessions
/// begin with one process and nobody enters them but by birth.
fn send_each_or_group(processes: &[Process], signal: Signal) -> usize {
    // SAFETY: getsid takes and gives numbers only.
    let own_session = unsafe { libc::getsid(0) };
    let mut groups: HashMap<i32, bool> = HashMap::new();
    let told = processes.iter().filter(|process| match Pid::from_raw(process.group) {
        Some(group) if process.session != own_session => {
            *groups.entry(process.group).or_insert_with(|| signal::send_group(group, signal).is_ok())
        }
        _ => signal::send(process.pid, signal).is_ok(),
    });
    // Who is gone by now is no matter; whom we may not signal stays for the caller to see.
    told.count()
}

/// To everybody; that there is nobody is no error.
fn as_init(signal: Signal) -> io::Result<usize> {
    match signal::send_all_as_init(signal) {
        Ok(()) => Ok(1),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Whether a process still runs code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Living,
    /// Ended, not yet reaped.
    Zombie,
}

/// Reads `/proc/<pid>/stat`: `pid (name) state parent group session ...`. The name may hold anything, `)` and newlines
/// too, so the fields are counted from its last `)`.
fn parse_stat(number: i32, stat: &[u8]) -> Option<(Process, Life)> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let life = if matches!(fields.next()?, "Z" | "X" | "x") { Life::Zombie } else { Life::Living };
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    Some((Process { pid: Pid::from_raw(number)?, parent, group, session }, life))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reap::{self, ExitReason, Reaped, reap_any};
    use crate::spawn::{Command, Stdio, spawn};

    #[test]
    fn the_name_in_stat_may_hold_anything() {
        let stat = b"42 (a) S 1 (b\n) R 7 5 6 0 -1 4194560";
        let (process, life) = parse_stat(42, stat).unwrap();
        assert_eq!(process, Process { pid: Pid::from_raw(42).unwrap(), parent: 7, group: 5, session: 6 });
        assert_eq!(life, Life::Living);
        assert_eq!(parse_stat(42, b"42 (x) Z 7 5 6").unwrap().1, Life::Zombie);
        assert_eq!(parse_stat(42, b"garbage"), None);
    }

    #[test]
    fn a_branch_is_what_descends_from_its_root_and_its_session() {
        let process = |pid, parent, session| Process {
            pid: Pid::from_raw(pid).unwrap(),
            parent,
            group: session,
            session,
        };
        let branch = [
            process(10, 1, 10),
            process(11, 10, 10),
            // Its parent is gone, its session says whose it is.
            process(12, 1, 10),
            // A session of its own, below one that descends.
            process(13, 11, 13),
        ];
        let others = [
            process(20, 1, 20),
            process(21, 20, 20),
            process(22, 1, 22),
            process(30, 31, 30),
            process(31, 30, 30),
        ];
        let roots = [Pid::from_raw(10).unwrap()];
        let all = others.iter().chain(&branch).copied().collect();
        assert_eq!(split(all, &roots), (branch.to_vec(), others.to_vec()));
    }

    #[test]
    fn a_branch_is_told_and_the_others_are_not() {
        if in_own_process("a_branch_is_told_and_the_others_are_not") == Where::Outside {
            return;
        }
        become_subreaper().unwrap();
        let mut command = Command::new("/bin/sh");
        command.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
        command.session = crate::spawn::Session::New;
        command.args = vec!["-c".into(), "sleep 1000 & wait".into()];
        let (one, other) = (spawn(&command).unwrap(), spawn(&command).unwrap());
        wait_for(4);
        assert_eq!(others(&[one, other]), []);
        assert_eq!(others(&[one]).len(), 2);
        assert_eq!(signal_branch(one, Signal::KILL), 2);
        while descendants(Pid::current()).unwrap().len() > 2 {
            std::thread::yield_now();
        }
        assert_eq!(others(&[other]), []);
        assert_eq!(signal_others(&[other], Signal::KILL), 0);
        assert_eq!(kill_others(&[other]), 0);
        assert_eq!(kill_others(&[one]), 2);
        end_all();
    }

    /// Runs the named test of this file in a process of its own, where it may be a subreaper and kill all
    /// that descends from it. Inside it returns `Where::Inside`.
    fn in_own_process(name: &str) -> Where {
        const INSIDE: &str = "TRACTORUN_SYS_TEST_INSIDE";
        if std::env::var_os(INSIDE).is_some() {
            return Where::Inside;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args = vec!["--exact".into(), format!("tree::tests::{name}").into(), "--nocapture".into()];
        command.environment = std::env::vars_os().chain([(INSIDE.into(), "1".into())]).collect();
        command.stdout = Stdio::Inherit;
        command.stderr = Stdio::Inherit;
        let child = spawn(&command).unwrap();
        assert_eq!(reap::wait_pid(child).unwrap(), ExitReason::Code(0));
        Where::Outside
    }

    #[derive(PartialEq)]
    enum Where {
        Inside,
        Outside,
    }

    fn shell(script: &str) -> Pid {
        let mut command = Command::new("/bin/sh");
        command.args = vec!["-c".into(), script.into()];
        command.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
        spawn(&command).unwrap()
    }

    /// Kills and reaps until nobody is left; how many were reaped.
    fn end_all() -> usize {
        let mut reaped = 0;
        loop {
            kill_descendants().unwrap();
            loop {
                match reap_any().unwrap() {
                    Reaped::Child(..) => reaped += 1,
                    Reaped::NoneEnded => break std::thread::yield_now(),
                    Reaped::NoChildren => return reaped,
                }
            }
        }
    }

    /// Waits until this many descendants live.
    fn wait_for(count: usize) {
        while descendants(Pid::current()).unwrap().len() < count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn without_proc_children_are_found_and_their_orphans_after_them() {
        if in_own_process("without_proc_children_are_found_and_their_orphans_after_them") == Where::Outside {
            return;
        }
        become_subreaper().unwrap();
        let first = shell("setsid sh -c 'trap \"\" TERM; setsid sleep 1000 & wait' & wait");
        wait_for(3);
        // All ids would take a while.
        let all = descendants(Pid::current()).unwrap();
        let pids = all.iter().map(|process| process.pid.as_raw());
        let range = pids.clone().min().unwrap()..=pids.max().unwrap();
        assert_eq!(children(range.clone()).iter().map(|process| process.pid).collect::<Vec<_>>(), [first]);
        let mut reaped = 0;
        loop {
            send_each_or_group(&children(range.clone()), Signal::KILL);
            loop {
                match reap_any().unwrap() {
                    Reaped::Child(..) => reaped += 1,
                    Reaped::NoneEnded => break std::thread::yield_now(),
                    Reaped::NoChildren => return assert_eq!(reaped, 3),
                }
            }
        }
    }

    #[test]
    fn orphans_in_sessions_of_their_own_are_found_and_killed() {
        if in_own_process("orphans_in_sessions_of_their_own_are_found_and_killed") == Where::Outside {
            return;
        }
        become_subreaper().unwrap();
        let first = shell("(setsid sh -c 'trap \"\" TERM HUP INT; sleep 1000 & wait' &) ; exit 0");
        // The two in the new session stay; the others come and go.
        let is_new = |process: &&Process| process.session != first.as_raw();
        while descendants(Pid::current()).unwrap().iter().filter(is_new).count() < 2 {
            std::thread::yield_now();
        }
        assert!(signal_descendants(Signal::CONT).unwrap() >= 2);
        assert!(end_all() >= 2);
        assert_eq!(descendants(Pid::current()).unwrap(), []);
    }

    /// Starts a script that can call itself as `$0`, lets it spread, and ends all.
    fn beat(script: &str, spread: usize) {
        become_subreaper().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("script");
        std::fs::write(&file, script).unwrap();
        shell(&format!("sh {} 5", file.display()));
        wait_for(spread);
        assert!(end_all() >= 1);
        assert_eq!(descendants(Pid::current()).unwrap(), []);
    }

    #[test]
    fn the_lists_of_children_and_a_look_at_everybody_show_the_same() {
        if in_own_process("the_lists_of_children_and_a_look_at_everybody_show_the_same") == Where::Outside {
            return;
        }
        become_subreaper().unwrap();
        // A chain, an orphan in a session of its own, and a child of another thread.
        shell("sleep 1000 & sh -c 'sleep 1000 & wait' & (setsid sleep 1000 &); wait");
        std::thread::scope(|scope| {
            scope.spawn(|| shell("sleep 1000 & wait"));
        });
        wait_for(7);
        // Sessions may still change while they start.
        let sorted = |found: Vec<Process>| {
            let mut pids: Vec<(Pid, i32)> =
                found.iter().map(|process| (process.pid, process.parent)).collect();
            pids.sort_unstable();
            pids
        };
        let listed = sorted(walk(Pid::current()).expect("this kernel has lists of children"));
        assert_eq!(listed, sorted(scan(Pid::current()).unwrap()));
        assert_eq!(listed, sorted(descendants(Pid::current()).unwrap()));
        end_all();
    }

    #[test]
    fn a_fork_bomb_is_beaten() {
        if in_own_process("a_fork_bomb_is_beaten") == Where::Outside {
            return;
        }
        // Each one makes two more; five deep, so that it ends nobody's machine, but then forks on and on.
        let bomb = "n=$(($1 - 1)); [ $n -gt 0 ] && { sh $0 $n & sh $0 $n & }; while :; do (exit 0); done";
        beat(bomb, 20);
    }

    #[test]
    fn a_chain_that_flees_into_new_sessions_is_beaten() {
        if in_own_process("a_chain_that_flees_into_new_sessions_is_beaten") == Where::Outside {
            return;
        }
        beat("setsid sh $0 & exit", 1);
    }
}
