//! The spec of a vanilla operation in its checked form.
//!
//! Three kinds of fields: those that have their effect here; those that are kept and shown but change nothing on
//! one machine (pools, limits of CPU and GPUs, the image, hints); and those whose effect a job or a user
//! would miss, which are refused. Fields that YT does not know go to `unrecognized_spec`, as on a cluster.

use std::fmt;
use std::time::Duration;

use ytsaurus_yson::{YsonNode, YsonValue};

use super::fields::Fields;
use super::task_spec::TaskSpec;
use crate::error::YtError;
use crate::formats::yson;
use crate::value::{self, YsonMap};

const DEFAULT_MAX_FAILED_JOBS: u64 = 10;
const DEFAULT_MAX_STDERRS: u64 = 10;
const MAX_STDERRS: i64 = 150;

/// Kept and shown, without another effect.
const ACCEPTED: [&str; 18] = [
    "acl",
    "description",
    "enable_compatible_storage_mode",
    "is_gang",
    "job_node_account",
    "job_proxy_memory_overcommit_limit",
    "job_proxy_ref_counted_tracker_log_period",
    "max_unavailable_chunk_agents",
    "omit_inaccessible_columns",
    "omit_inaccessible_rows",
    "resource_limits",
    "scheduling_options",
    "scheduling_options_per_pool_tree",
    "scheduling_tag_filter",
    "started_by",
    "try_avoid_duplicating_jobs",
    "unavailable_chunk_strategy",
    "use_default_tentative_pool_trees",
];

/// Would change what the operation does.
const REFUSED: [&str; 7] = [
    "core_table_path",
    "issue_temporary_token",
    "probing_ratio",
    "restart_completed_jobs",
    "stderr_table_path",
    "suspend_on_job_failure",
    "suspend_operation_if_account_limit_exceeded",
];

/// What happens when a job has failed or was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnJobRestart {
    /// It runs again.
    Again,
    /// The operation fails.
    Fail,
}

/// A checked spec.
#[derive(Debug)]
pub(super) struct OperationSpec {
    /// As it was given, without the secure vault.
    pub(super) provided: YsonMap,
    pub(super) unrecognized: YsonMap,
    pub(super) title: Option<String>,
    pub(super) alias: Option<String>,
    pub(super) pool: Option<String>,
    pub(super) pool_trees: Vec<String>,
    pub(super) weight: Option<YsonValue>,
    pub(super) acl: Option<YsonValue>,
    pub(super) annotations: YsonMap,
    pub(super) max_failed_job_count: u64,
    pub(super) max_stderr_count: u64,
    pub(super) time_limit: Option<Duration>,
    pub(super) secure_vault: SecureVault,
    pub(super) tasks: Vec<TaskSpec>,
}

/// Name and value of a variable.
type Variable = (Vec<u8>, Vec<u8>);

/// The secrets of an operation. They reach its jobs and nobody else.
#[derive(Default)]
pub(super) struct SecureVault(YsonMap);

impl fmt::Debug for SecureVault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecureVault(...)")
    }
}

// === impl OperationSpec ===

impl OperationSpec {
    /// Checks a spec. Errors name the field.
    pub(super) fn parse(spec: &YsonMap) -> Result<Self, YtError> {
        let mut fields = Fields::new("", spec);
        for name in REFUSED {
            fields.refuse(name)?;
        }
        fields.accept(&ACCEPTED);
        let max_failed_job_count = fields.integer("max_failed_job_count", 0, i64::MAX)?;
        let max_stderr_count = fields.integer("max_stderr_count", 0, MAX_STDERRS)?;
        let time_limit = fields.milliseconds("time_limit")?;
        let on_job_restart =
            if fields.flag("fail_on_job_restart")? { OnJobRestart::Fail } else { OnJobRestart::Again };
        let alias = fields.string("alias")?.map(str::to_owned);
        if let Some(alias) = alias.as_deref().filter(|alias| !alias.starts_with('*')) {
            return Err(
                fields.error("alias", format_args!("a name that starts with `*` is expected, got {alias:?}"))
            );
        }
        let mut pool_trees = Vec::new();
        for tree in fields.list("pool_trees")? {
            let name =
                tree.as_str().ok_or_else(|| fields.error("pool_trees", "a list of strings is expected"))?;
            pool_trees.push(name.to_owned());
        }
        let secure_vault = fields.map("secure_vault")?.cloned().unwrap_or_default();
        let secure_vault = SecureVault::new(&fields, secure_vault)?;
        let annotations = fields.map("annotations")?.cloned().unwrap_or_default();
        let (title, pool) = (fields.string("title")?, fields.string("pool")?);
        let (weight, acl) = (fields.take("weight"), fields.take("acl"));

        let tasks =
            fields.map("tasks")?.ok_or_else(|| fields.error("tasks", "a vanilla operation needs tasks"))?;
        if tasks.is_empty() {
            return Err(fields.error("tasks", "a vanilla operation needs at least one task"));
        }
        let mut unrecognized = fields.unrecognized();
        let mut unrecognized_tasks = YsonMap::new();
        let mut parsed_tasks = Vec::new();
        for (name, task) in tasks {
            let (task, rest) = TaskSpec::parse(&fields, name, task, on_job_restart)?;
            if !rest.is_empty() {
                unrecognized_tasks.insert(name.clone(), value::map(rest));
            }
            parsed_tasks.push(task);
        }
        let is_gang = parsed_tasks.iter().any(|task| task.gang.is_some());
        if is_gang && parsed_tasks.iter().any(|task| task.on_job_restart == OnJobRestart::Fail) {
            return Err(fields.error("fail_on_job_restart", "not possible in an operation with gang_options"));
        }
        if !unrecognized_tasks.is_empty() {
            unrecognized.insert(b"tasks".to_vec(), value::map(unrecognized_tasks));
        }
        let mut provided = spec.clone();
        provided.remove(b"secure_vault".as_slice());
        Ok(OperationSpec {
            provided,
            unrecognized,
            title: title.map(str::to_owned),
            alias,
            pool: pool.map(str::to_owned),
            pool_trees,
            weight: weight.cloned(),
            acl: acl.cloned(),
            annotations,
            max_failed_job_count: max_failed_job_count.unwrap_or(DEFAULT_MAX_FAILED_JOBS),
            max_stderr_count: max_stderr_count.unwrap_or(DEFAULT_MAX_STDERRS),
            time_limit,
            secure_vault,
            tasks: parsed_tasks,
        })
    }

    /// The spec with the defaults of what was not given.
    pub(super) fn full(&self) -> YsonMap {
        let mut full = self.provided.clone();
        let number = |number: u64| value::int64(i64::try_from(number).unwrap_or(i64::MAX));
        full.entry(b"max_failed_job_count".to_vec()).or_insert_with(|| number(self.max_failed_job_count));
        full.entry(b"max_stderr_count".to_vec()).or_insert_with(|| number(self.max_stderr_count));
        full.entry(b"fail_on_job_restart".to_vec()).or_insert_with(|| value::boolean(false));
        full.entry(b"annotations".to_vec()).or_insert_with(|| value::map(YsonMap::new()));
        full
    }

    /// How many jobs complete the operation.
    pub(super) fn total_jobs(&self) -> usize {
        self.tasks.iter().map(|task| task.job_count as usize).sum()
    }
}

/// The number of failed jobs that an operation may have, from a patch of its spec.
pub(super) fn max_failed_job_count(new: &YsonValue) -> Result<u64, YtError> {
    let map = YsonMap::from([(b"max_failed_job_count".to_vec(), new.clone())]);
    let given = Fields::new("", &map).integer("max_failed_job_count", 0, i64::MAX)?;
    Ok(given.unwrap_or(DEFAULT_MAX_FAILED_JOBS))
}

// === impl SecureVault ===

impl SecureVault {
    fn new(fields: &Fields<'_>, map: YsonMap) -> Result<Self, YtError> {
        let name_is_good = |name: &Vec<u8>| !name.is_empty() && !name.contains(&b'=') && !name.contains(&0);
        let has_nul = |value: &YsonValue| matches!(&value.node, YsonNode::String(text) if text.contains(&0));
        for (name, secret) in &map {
            if !name_is_good(name) || has_nul(secret) {
                let name = String::from_utf8_lossy(name).into_owned();
                let text = "a name without `=` and a value without NUL bytes are expected";
                return Err(fields.error("secure_vault", format_args!("{name:?}: {text}")));
            }
        }
        Ok(SecureVault(map))
    }

    /// The variables that bring the secrets to a job, as bytes.
    pub(super) fn variables(&self) -> Result<Vec<Variable>, YtError> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let mut variables = vec![(b"YT_SECURE_VAULT".to_vec(), yson::to_text(&value::map(self.0.clone()))?)];
        for (name, secret) in &self.0 {
            let text = match &secret.node {
                YsonNode::Entity => continue,
                YsonNode::String(text) => text.clone(),
                YsonNode::Boolean(flag) => flag.to_string().into_bytes(),
                YsonNode::Int64(number) => number.to_string().into_bytes(),
                YsonNode::Uint64(number) => number.to_string().into_bytes(),
                YsonNode::Double(number) => number.to_string().into_bytes(),
                YsonNode::List(_) | YsonNode::Map(_) => yson::to_text(secret)?,
            };
            variables.push(([b"YT_SECURE_VAULT_".as_slice(), name].concat(), text));
        }
        Ok(variables)
    }
}
