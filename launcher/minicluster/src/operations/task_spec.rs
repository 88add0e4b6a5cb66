//! One task of a spec in its checked form.

use std::fmt;
use std::path::{Component, Path};
use std::time::Duration;

use tractorun_sys::Signal;
use tractorun_sys::jobroot::{Interruption, Receivers, Tmpfs};
use ytsaurus_yson::YsonValue;

use super::DEFAULT_MEMORY_LIMIT;
use super::fields::Fields;
use super::spec::OnJobRestart;
use crate::error::YtError;
use crate::formats::yson;
use crate::value::{self, YsonMap};

const MAX_JOBS: i64 = 10_000;
/// Of YT's own.
const MAX_PORTS: i64 = 50;
const DEFAULT_MAX_STDERR_BYTES: u64 = 5 << 20;
const DEFAULT_MAX_STATISTICS: u64 = 128;
const MAX_STATISTICS: i64 = 1024;
const MAX_STDERR_BYTES: i64 = 1 << 30;

/// Kept and shown, without another effect.
const ACCEPTED_IN_TASK: [&str; 33] = [
    "check_input_fully_consumed",
    "cpu_limit",
    "cuda_toolkit_version",
    "deterministic",
    "disk_request",
    "disk_space_limit",
    "enable_fuse",
    "enable_gpu_layers",
    "enable_porto",
    "enable_setup_commands",
    "fail_job_on_core_dump",
    "force_core_dump",
    "format",
    "gpu_limit",
    "ignore_memory_reserve_factor_less_than_one",
    "inode_limit",
    "input_format",
    "job_io",
    "job_proxy_memory_digest",
    "job_speculation_timeout",
    "make_rootfs_writable",
    "memory_reserve_factor",
    "monitoring",
    "output_format",
    "prepare_time_limit",
    "set_container_cpu_limit",
    "task_title",
    "title",
    "user_job_memory_digest_default_value",
    "user_job_memory_digest_lower_bound",
    "use_porto_memory_tracking",
    "use_smaps_memory_tracker",
    "waiting_job_timeout",
];

/// Would change what a job finds or what becomes of it.
const REFUSED_IN_TASK: [&str; 12] = [
    "collective_options",
    "enable_rpc_proxy_in_job_proxy",
    "extra_environment",
    "layer_paths",
    "network_project",
    "output_paths",
    "output_table_paths",
    "profilers",
    "restart_completed_jobs",
    "sidecars",
    "system_layer_path",
    "use_yamr_descriptors",
];

/// Where the standard output of a job goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stdout {
    /// Nowhere.
    Discarded,
    /// To its stderr.
    ToStderr,
}

/// Whether a job may write to the files that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileAccess {
    /// Without write permission.
    ReadOnly,
    /// With it.
    Writable,
}

/// One task of a spec.
#[derive(Debug)]
pub(super) struct TaskSpec {
    pub(super) name: String,
    pub(super) command: String,
    pub(super) job_count: u32,
    pub(super) port_count: usize,
    pub(super) files: Vec<FileSpec>,
    pub(super) file_access: FileAccess,
    pub(super) environment: Vec<(String, String)>,
    pub(super) max_stderr_bytes: usize,
    pub(super) job_time_limit: Option<Duration>,
    pub(super) stdout: Stdout,
    pub(super) on_job_restart: OnJobRestart,
    /// How many names of custom statistics a job may use.
    pub(super) max_statistics: usize,
    /// Without it the default of the cluster holds.
    pub(super) memory_limit: Option<u64>,
    pub(super) tmpfs: Vec<Tmpfs>,
    pub(super) docker_image: Option<String>,
    pub(super) gang: Option<GangOptions>,
    /// `None`: such a job cannot be interrupted, only aborted.
    pub(super) interruption: Option<Interruption>,
    /// A job that ends with this code after an interruption runs again and has not failed.
    pub(super) restart_exit_code: Option<u8>,
}

/// That a task is a gang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GangOptions {
    /// How many of the task's jobs have a rank; the others are in reserve.
    pub(super) size: u32,
}

/// One of `file_paths`.
#[derive(Debug, Clone)]
pub(super) struct FileSpec {
    pub(super) path: String,
    /// A relative path inside the sandbox; the node's own name if `None`.
    pub(super) file_name: Option<String>,
    /// The node's own if `None`.
    pub(super) executable: Option<bool>,
}

// === impl TaskSpec ===

impl TaskSpec {
    /// The task and what of it nobody knows.
    pub(super) fn parse(
        operation: &Fields<'_>,
        name: &[u8],
        task: &YsonValue,
        operation_restart: OnJobRestart,
    ) -> Result<(Self, YsonMap), YtError> {
        let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| operation.error("tasks", "a task needs a name"))?;
        let map = value::as_map(task)
            .ok_or_else(|| operation.error("tasks", format_args!("task {name:?} is expected to be a map")))?;
        let mut fields = Fields::new(format!("/tasks/{name}"), map);
        for name in REFUSED_IN_TASK {
            fields.refuse(name)?;
        }
        fields.accept(&ACCEPTED_IN_TASK);

        let command = fields.string("command")?.ok_or_else(|| fields.error("command", "missing"))?.to_owned();
        let job_count =
            fields.integer("job_count", 1, MAX_JOBS)?.ok_or_else(|| fields.error("job_count", "missing"))?;
        let port_count = fields.integer("port_count", 0, MAX_PORTS)?.unwrap_or(0);
        let max_stderr_bytes = fields.integer("max_stderr_size", 0, MAX_STDERR_BYTES)?;
        let memory_limit = fields.integer("memory_limit", 1, i64::MAX)?;
        let max_statistics = fields.integer("custom_statistics_count_limit", 1, MAX_STATISTICS)?;
        let mut files = Vec::new();
        for file in fields.list("file_paths")? {
            files.push(FileSpec::parse(&fields, file)?);
        }
        let mut environment = Vec::new();
        for (name, text) in fields.map("environment")?.into_iter().flatten() {
            environment.push(variable(&fields, name, text)?);
        }
        let job_count = u32::try_from(job_count).unwrap_or(u32::MAX);
        let on_job_restart =
            if fields.flag("fail_on_job_restart")? { OnJobRestart::Fail } else { operation_restart };
        let task = TaskSpec {
            name: name.to_owned(),
            command,
            job_count,
            port_count: usize::try_from(port_count).unwrap_or(usize::MAX),
            files,
            file_access: if fields.flag("copy_files")? { FileAccess::Writable } else { FileAccess::ReadOnly },
            environment,
            max_stderr_bytes: usize::try_from(max_stderr_bytes.unwrap_or(DEFAULT_MAX_STDERR_BYTES))
                .unwrap_or(usize::MAX),
            job_time_limit: match fields.milliseconds("job_time_limit")? {
                // Its older name.
                None => fields.milliseconds("exec_time_limit")?,
                given => given,
            },
            stdout: if fields.flag("redirect_stdout_to_stderr")? {
                Stdout::ToStderr
            } else {
                Stdout::Discarded
            },
            on_job_restart,
            max_statistics: usize::try_from(max_statistics.unwrap_or(DEFAULT_MAX_STATISTICS))
                .unwrap_or(usize::MAX),
            memory_limit,
            docker_image: docker_image(&mut fields)?,
            tmpfs: tmpfs(&mut fields, memory_limit.unwrap_or(DEFAULT_MEMORY_LIMIT))?,
            gang: gang_options(&mut fields, name, job_count)?,
            interruption: interruption(&mut fields)?,
            restart_exit_code: fields
                .integer("restart_exit_code", 1, 255)?
                .and_then(|code| u8::try_from(code).ok()),
        };
        Ok((task, fields.unrecognized()))
    }
}

fn gang_options(fields: &mut Fields<'_>, task: &str, job_count: u32) -> Result<Option<GangOptions>, YtError> {
    let Some(options) = fields.map("gang_options")? else { return Ok(None) };
    let size = Fields::new(format!("/tasks/{task}/gang_options"), options).integer(
        "size",
        1,
        i64::from(job_count),
    )?;
    Ok(Some(GangOptions { size: size.and_then(|size| u32::try_from(size).ok()).unwrap_or(job_count) }))
}

fn docker_image(fields: &mut Fields<'_>) -> Result<Option<String>, YtError> {
    let image = fields.string("docker_image")?;
    if image.is_some_and(|image| image.is_empty() || image.starts_with('-')) {
        return Err(fields.error("docker_image", "the name of an image is expected"));
    }
    Ok(image.map(str::to_owned))
}

/// `tmpfs_volumes`, or the only one as `tmpfs_path` and `tmpfs_size`, which is as large as the job's memory by
/// default.
fn tmpfs(fields: &mut Fields<'_>, memory_limit: u64) -> Result<Vec<Tmpfs>, YtError> {
    let mut volumes = Vec::new();
    let size = fields.integer("tmpfs_size", 1, i64::MAX)?;
    if let Some(path) = fields.string("tmpfs_path")? {
        volumes.push(("tmpfs_path", path.to_owned(), size.unwrap_or(memory_limit)));
    } else if size.is_some() {
        return Err(fields.error("tmpfs_size", "tmpfs_path is missing"));
    }
    for volume in fields.list("tmpfs_volumes")? {
        let wrong = || fields.error("tmpfs_volumes", "a list of maps with `path` and `size` is expected");
        let map = value::as_map(volume).ok_or_else(wrong)?;
        let path = map.get(b"path".as_slice()).and_then(YsonValue::as_str).ok_or_else(wrong)?;
        let size = map.get(b"size".as_slice()).and_then(value::as_i64).filter(|size| *size > 0);
        let size = size.and_then(|size| u64::try_from(size).ok()).ok_or_else(wrong)?;
        volumes.push(("tmpfs_volumes", path.to_owned(), size));
    }
    let mut checked: Vec<Tmpfs> = Vec::new();
    for (field, path, bytes) in volumes {
        let plain = |component| matches!(component, Component::Normal(_) | Component::CurDir);
        if path.is_empty() || path.contains('\0') || !Path::new(&path).components().all(plain) {
            return Err(fields.error(field, format_args!("{path:?} must be a relative path in the sandbox")));
        }
        let known = checked
            .iter()
            .find(|known| is_below(Path::new(&path), &known.path) || is_below(&known.path, Path::new(&path)));
        if let Some(known) = known {
            let other = known.path.display();
            return Err(fields.error(field, format_args!("{path:?} and \"{other}\" are in each other")));
        }
        checked.push(Tmpfs { path: path.into(), bytes });
    }
    let total = checked.iter().fold(0u64, |sum, volume| sum.saturating_add(volume.bytes));
    if total > memory_limit {
        let text =
            format!("{total} bytes of tmpfs volumes do not fit into the memory limit of {memory_limit}");
        return Err(fields.error("tmpfs_volumes", text));
    }
    Ok(checked)
}

/// Whether a path is in a folder, or is it; both relative to the same one.
pub(super) fn is_below(path: &Path, folder: &Path) -> bool {
    let plain = |path: &Path| -> std::path::PathBuf {
        path.components().filter(|part| *part != Component::CurDir).collect()
    };
    plain(path).starts_with(plain(folder))
}

fn interruption(fields: &mut Fields<'_>) -> Result<Option<Interruption>, YtError> {
    let receivers =
        if fields.flag("signal_root_process_only")? { Receivers::Program } else { Receivers::Everybody };
    let Some(name) = fields.string("interruption_signal")? else { return Ok(None) };
    let signal = (1..=31).filter_map(Signal::from_number).find(|signal| signal.name() == name);
    let signal = signal.ok_or_else(|| {
        fields.error(
            "interruption_signal",
            format_args!("a signal's name such as SIGTERM is expected, got {name:?}"),
        )
    })?;
    Ok(Some(Interruption { signal, receivers }))
}

/// One variable of `environment`.
fn variable(fields: &Fields<'_>, name: &[u8], text: &YsonValue) -> Result<(String, String), YtError> {
    let shown = String::from_utf8_lossy(name);
    let wrong = |what: &str| fields.error("environment", format_args!("variable {shown:?}: {what}"));
    let name = std::str::from_utf8(name).map_err(|_| wrong("a name in UTF-8 is expected"))?;
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(wrong("a name without `=` is expected"));
    }
    let text = text.as_str().ok_or_else(|| wrong("a string is expected"))?;
    if text.contains('\0') {
        return Err(wrong("a string without NUL bytes is expected"));
    }
    Ok((name.to_owned(), text.to_owned()))
}

// === impl FileSpec ===

impl FileSpec {
    fn parse(fields: &Fields<'_>, file: &YsonValue) -> Result<Self, YtError> {
        let wrong = |what: &dyn fmt::Display| fields.error("file_paths", what);
        let text = file.as_str().ok_or_else(|| wrong(&"a list of paths is expected"))?;
        let (mut attributes, path) = yson::parse_leading_attributes(text.as_bytes())?;
        attributes.extend(file.attributes.clone().unwrap_or_default());
        let path = String::from_utf8_lossy(path).trim().to_owned();
        let file_name = match value::optional_str(&attributes, "file_name")? {
            Some(name) if is_inside(Path::new(name)) => Some(name.to_owned()),
            Some(name) => {
                return Err(wrong(&format_args!(
                    "{path}: file name {name:?} must be a relative path in the sandbox"
                )));
            }
            None => None,
        };
        let executable = attributes.get(b"executable".as_slice()).and_then(value::as_bool);
        Ok(FileSpec { path, file_name, executable })
    }
}

/// Whether a name is a path that stays in the folder it is relative to.
pub(super) fn is_inside(name: &Path) -> bool {
    let plain = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    name.components().all(plain) && name.file_name().is_some()
}
