//! The guard's namespaces: id maps, private mounts, the private root. System calls only.
//!
//! The private root is memory with one entry for each entry of `/`: folders by overlayfs (the machine's below,
//! the job's writes above, in memory), links as links, files and shared folders by bind mounts. Where an ordinary
//! user's overlay is refused, because another file system is mounted inside that folder, the folder is shared.

use super::guard::{Failure, errno};
use super::plan::{BindKind, Entry, Plan, RootPlan, TmpfsPlan};
use super::{Isolation, JobStep, UserNamespace};

use std::ffi::CStr;

/// Goes into the namespaces that the clone made, and into the root.
pub(super) fn enter(plan: &Plan) -> Result<(), Failure> {
    let (Isolation::PrivateRoot(user) | Isolation::PrivateProcesses(user)) = plan.isolation else {
        return Ok(());
    };
    if user == UserNamespace::Own {
        let failed = |errno| (JobStep::UserNamespace, errno);
        // An ordinary user may map its group only after it has given up changing groups.
        write_file(c"/proc/self/setgroups", c"deny").map_err(failed)?;
        write_file(c"/proc/self/uid_map", &plan.uid_map).map_err(failed)?;
        write_file(c"/proc/self/gid_map", &plan.gid_map).map_err(failed)?;
    }
    mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)
        .map_err(|errno| (JobStep::PrivateMounts, errno))?;
    match &plan.root {
        None => {
            mount_memory(&plan.tmpfs)?;
            mount_proc(c"/proc")
        }
        Some(root) => enter_root(root, &plan.tmpfs),
    }
}

fn enter_root(plan: &RootPlan, memory: &[TmpfsPlan]) -> Result<(), Failure> {
    let at_scratch = |errno| (JobStep::Scratch, errno);
    let flags = libc::MS_NOSUID;
    mount(Some(c"tmpfs"), &plan.scratch, Some(c"tmpfs"), flags, Some(c"mode=0755")).map_err(at_scratch)?;
    for folder in [&plan.root, &plan.uppers, &plan.works] {
        make_folder(folder, 0o755).map_err(at_scratch)?;
    }
    // A root must be a mount of its own.
    mount(Some(&plan.root), &plan.root, None, libc::MS_BIND, None).map_err(at_scratch)?;
    for entry in &plan.entries {
        show(entry).map_err(|errno| (JobStep::Root, errno))?;
    }
    make_folder(&plan.slot_target, 0o755).map_err(|errno| (JobStep::Slot, errno))?;
    mount(Some(&plan.slot_source), &plan.slot_target, None, libc::MS_BIND, None)
        .map_err(|errno| (JobStep::Slot, errno))?;
    mount_memory(memory)?;
    make_folder(&plan.proc_target, 0o555).map_err(|errno| (JobStep::Proc, errno))?;
    mount_proc(&plan.proc_target)?;
    pivot(&plan.root).map_err(|errno| (JobStep::Pivot, errno))
}

/// Mounts memory in the sandbox.
fn mount_memory(memory: &[TmpfsPlan]) -> Result<(), Failure> {
    for TmpfsPlan { target, options } in memory {
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        mount(Some(c"tmpfs"), target, Some(c"tmpfs"), flags, Some(options))
            .map_err(|errno| (JobStep::Tmpfs, errno))?;
    }
    Ok(())
}

/// Puts one entry of `/` into the new root.
fn show(entry: &Entry) -> Result<(), i32> {
    match entry {
        Entry::Symlink { target, path } => {
            // SAFETY: two C strings of the plan.
            check(unsafe { libc::symlink(target.as_ptr(), path.as_ptr()) })
        }
        Entry::Bind { source, target, kind: BindKind::Folder } => {
            make_folder(target, 0o755)?;
            bind(source, target)
        }
        Entry::Bind { source, target, kind: BindKind::File } => {
            make_file(target)?;
            bind(source, target)
        }
        Entry::Bind { source, target, kind: BindKind::Below } => {
            // Hidden by another mount, or gone since the list was read: then the machine does not show it either.
            let _ = bind(source, target);
            Ok(())
        }
        Entry::Overlay { source, target, upper, work, options, mode, owner } => {
            make_folder(target, 0o755)?;
            make_folder(work, 0o755)?;
            // The folder's own mode and owner are those of the upper one. An ordinary user cannot give it away.
            make_folder(upper, *mode)?;
            // SAFETY: a C string of the plan.
            let _ = unsafe { libc::chown(upper.as_ptr(), owner.0, owner.1) };
            mount(Some(c"overlay"), target, Some(c"overlay"), 0, Some(options))
                .or_else(|_| bind(source, target))
        }
    }
}

/// Binds one file system. What is mounted below comes by entries of its own, except for an ordinary user, who
/// must not see what a mount hides and therefore has to take all of it.
fn bind(source: &CStr, target: &CStr) -> Result<(), i32> {
    mount(Some(source), target, None, libc::MS_BIND, None)
        .or_else(|_| mount(Some(source), target, None, libc::MS_BIND | libc::MS_REC, None))
}

fn mount_proc(target: &CStr) -> Result<(), Failure> {
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount(Some(c"proc"), target, Some(c"proc"), flags, None).map_err(|errno| (JobStep::Proc, errno))
}

/// Makes a mount the root and lets go of the old one.
fn pivot(root: &CStr) -> Result<(), i32> {
    // SAFETY: C strings; with `.` twice the old root is stacked upon the new one, from where it is taken off.
    unsafe {
        check(libc::chdir(root.as_ptr()))?;
        if libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) < 0 {
            return Err(errno());
        }
        check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
        check(libc::chdir(c"/".as_ptr()))
    }
}

fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    data: Option<&CStr>,
) -> Result<(), i32> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: each pointer is null or a C string that lives over the call.
    check(unsafe {
        libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(data).cast())
    })
}

fn make_folder(path: &CStr, mode: libc::mode_t) -> Result<(), i32> {
    // SAFETY: a C string of the plan.
    check(unsafe { libc::mkdir(path.as_ptr(), mode) })
}

fn make_file(path: &CStr) -> Result<(), i32> {
    // SAFETY: a C string of the plan; the descriptor is closed at once.
    unsafe {
        let file =
            libc::open(path.as_ptr(), libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC, 0o644);
        check(file)?;
        check(libc::close(file))
    }
}

fn write_file(path: &CStr, content: &CStr) -> Result<(), i32> {
    let bytes = content.to_bytes();
    // SAFETY: a C string, and a buffer with its own length.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(file)?;
        let written = libc::write(file, bytes.as_ptr().cast(), bytes.len());
        let result = if written < 0 { Err(errno()) } else { Ok(()) };
        libc::close(file);
        result
    }
}

fn check(result: libc::c_int) -> Result<(), i32> {
    if result < 0 { Err(errno()) } else { Ok(()) }
}
