//! Memory: what the control group may use is what a job has, however much the machine has.

use std::path::Path;

use super::{Finding, Grade, finding, size};
use crate::oom::{GroupMemory, group_memory};

/// The control group's memory where it has a limit, and the machine's.
pub(super) fn memory(root: &Path) -> Finding {
    let machine = machine_memory(root);
    let on_machine = |(total, free)| format!("{} of {} available on the machine", size(free), size(total));
    match (group_memory(root), machine) {
        (Some(GroupMemory { limit_bytes, used_bytes }), machine)
            if machine.is_none_or(|(total, _)| limit_bytes < total) =>
        {
            // Of a group's limit no more can be had than the machine has left.
            let free = limit_bytes.saturating_sub(used_bytes);
            let free = machine.map_or(free, |(_, left)| free.min(left));
            let text = format!("{} of {} available to this control group", size(free), size(limit_bytes));
            let machine = machine.map(|machine| format!("\n{}", on_machine(machine)));
            finding("memory", Grade::Fine, text + &machine.unwrap_or_default())
        }
        (_, Some(machine)) => finding("memory", Grade::Fine, on_machine(machine)),
        (_, None) => finding("memory", Grade::Warning, "cannot read /proc/meminfo"),
    }
}

/// All of the machine's and what of it is available, in bytes.
fn machine_memory(root: &Path) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
    };
    Some((bytes("MemTotal")?, bytes("MemAvailable")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::placement::trees::Tree;

    const V2: &str = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    const V1: &str = "35 31 0:32 /job /cg rw - cgroup cgroup rw,memory\n";

    fn machine() -> Tree {
        let tree = Tree::two_sockets();
        tree.file("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\n");
        tree
    }

    #[test]
    fn a_control_group_with_a_limit_has_less_than_the_machine() {
        let tree = machine();
        tree.file("proc/self/cgroup", "0::/job\n").file("proc/self/mountinfo", V2);
        let folder = "sys/fs/cgroup/job";
        tree.file(&format!("{folder}/memory.events"), "oom_kill 0\n")
            .file(&format!("{folder}/memory.max"), "2147483648\n")
            .file(&format!("{folder}/memory.current"), "1610612736\n")
            // What the kernel would give back at once: files that nobody has looked at for long.
            .file(&format!("{folder}/memory.stat"), "anon 1\ninactive_file 536870912\n");
        assert_eq!(
            memory(tree.root()).text,
            "1.0 GiB of 2.0 GiB available to this control group\n6.0 GiB of 8.0 GiB available on the machine"
        );
        // A limit that the machine cannot keep is none.
        tree.file(&format!("{folder}/memory.max"), "9663676416\n");
        assert_eq!(memory(tree.root()).text, "6.0 GiB of 8.0 GiB available on the machine");
    }

    #[test]
    fn the_older_kind_of_control_group_is_read_too() {
        let tree = machine();
        tree.file("proc/self/cgroup", "4:memory:/job\n").file("proc/self/mountinfo", V1);
        tree.file("cg/memory.oom_control", "oom_kill 0\n")
            .file("cg/memory.limit_in_bytes", "1073741824\n")
            .file("cg/memory.usage_in_bytes", "268435456\n")
            .file("cg/memory.stat", "cache 1\ntotal_inactive_file 0\n");
        let text = memory(tree.root()).text;
        assert!(text.starts_with("768 MiB of 1.0 GiB available to this control group\n"), "{text}");
    }

    #[test]
    fn a_machine_that_tells_nothing_is_a_warning() {
        assert_eq!(memory(Tree::two_sockets().root()).grade, Grade::Warning);
    }
}
