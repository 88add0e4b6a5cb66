//! The table of commands: names in both versions of the API, what goes in, what comes out.

use ytsaurus_yson::YsonValue;

use crate::value;

/// A version of the API.
#[allow(missing_docs, reason = "the names are the API's")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiVersion {
    V3,
    V4,
}

/// What a command reads or writes.
#[allow(missing_docs, reason = "the names are the API's")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    Null,
    Structured,
    Tabular,
    Binary,
}

impl DataType {
    fn name(self) -> &'static str {
        match self {
            DataType::Null => "null",
            DataType::Structured => "structured",
            DataType::Tabular => "tabular",
            DataType::Binary => "binary",
        }
    }
}

/// A command, whatever it is called.
#[allow(missing_docs, reason = "the names are the API's")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    StartTransaction,
    PingTransaction,
    CommitTransaction,
    AbortTransaction,
    GenerateTimestamp,
    Get,
    List,
    Exists,
    Set,
    MultisetAttributes,
    Remove,
    Create,
    Copy,
    Move,
    Link,
    Lock,
    Unlock,
    Concatenate,
    ParseYPath,
    CheckPermission,
    WriteFile,
    ReadFile,
    GetFileFromCache,
    PutFileToCache,
    WriteTable,
    ReadTable,
    AlterTable,
    StartOperation,
    AbortOperation,
    CompleteOperation,
    SuspendOperation,
    ResumeOperation,
    UpdateOperationParameters,
    PatchOperationSpec,
    GetOperation,
    ListOperations,
    ListOperationEvents,
    ListJobs,
    GetJob,
    GetJobStderr,
    AbortJob,
    AbandonJob,
    ExecuteBatch,
    GetVersion,
    GetSupportedFeatures,
    GetCurrentUser,
    DiscoverProxies,
}

/// Whether a command changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volatile {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// Whether a command moves much data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heavy {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    /// The command.
    pub command: Command,
    v3: Option<&'static str>,
    v4: Option<&'static str>,
    /// What it reads from the body.
    pub input: DataType,
    output: (DataType, DataType),
    /// Whether it changes something.
    pub volatile: Volatile,
    /// Whether it moves much data.
    pub heavy: Heavy,
}

impl Descriptor {
    /// The command's name in a version, if it has one there.
    pub fn name(&self, version: ApiVersion) -> Option<&'static str> {
        match version {
            ApiVersion::V3 => self.v3,
            ApiVersion::V4 => self.v4,
        }
    }

    /// What it answers with.
    pub fn output(&self, version: ApiVersion) -> DataType {
        match version {
            ApiVersion::V3 => self.output.0,
            ApiVersion::V4 => self.output.1,
        }
    }

    /// Whether answers are remembered under the request's mutation id.
    pub fn is_light_mutation(&self) -> bool {
        self.volatile == Volatile::Yes && self.heavy == Heavy::No
    }
}

/// What a command answers with when it has nothing to say: nothing in v3, `{}` in v4.
const SILENT: (DataType, DataType) = (DataType::Null, DataType::Structured);
const STRUCTURED: (DataType, DataType) = (DataType::Structured, DataType::Structured);

const fn line(
    command: Command,
    v3: Option<&'static str>,
    v4: Option<&'static str>,
    input: DataType,
    output: (DataType, DataType),
    volatile: Volatile,
    heavy: Heavy,
) -> Descriptor {
    Descriptor { command, v3, v4, input, output, volatile, heavy }
}

const fn read(command: Command, name: &'static str) -> Descriptor {
    line(command, Some(name), Some(name), DataType::Null, STRUCTURED, Volatile::No, Heavy::No)
}

const fn write(
    command: Command,
    v3: &'static str,
    v4: &'static str,
    output: (DataType, DataType),
) -> Descriptor {
    line(command, Some(v3), Some(v4), DataType::Null, output, Volatile::Yes, Heavy::No)
}

const fn upload(command: Command, name: &'static str, input: DataType) -> Descriptor {
    line(command, Some(name), Some(name), input, SILENT, Volatile::Yes, Heavy::Yes)
}

const fn download(command: Command, name: &'static str, output: DataType) -> Descriptor {
    line(command, Some(name), Some(name), DataType::Null, (output, output), Volatile::No, Heavy::Yes)
}

/// Every command that this server knows.
pub const COMMANDS: [Descriptor; 47] = [
    write(Command::StartTransaction, "start_tx", "start_transaction", STRUCTURED),
    write(Command::PingTransaction, "ping_tx", "ping_transaction", SILENT),
    write(Command::CommitTransaction, "commit_tx", "commit_transaction", SILENT),
    write(Command::AbortTransaction, "abort_tx", "abort_transaction", SILENT),
    read(Command::GenerateTimestamp, "generate_timestamp"),
    read(Command::Get, "get"),
    read(Command::List, "list"),
    read(Command::Exists, "exists"),
    line(Command::Set, Some("set"), Some("set"), DataType::Structured, SILENT, Volatile::Yes, Heavy::No),
    line(
        Command::MultisetAttributes,
        Some("multiset_attributes"),
        Some("multiset_attributes"),
        DataType::Structured,
        SILENT,
        Volatile::Yes,
        Heavy::No,
    ),
    write(Command::Remove, "remove", "remove", SILENT),
    write(Command::Create, "create", "create", STRUCTURED),
    write(Command::Copy, "copy", "copy", STRUCTURED),
    write(Command::Move, "move", "move", STRUCTURED),
    write(Command::Link, "link", "link", STRUCTURED),
    write(Command::Lock, "lock", "lock", STRUCTURED),
    write(Command::Unlock, "unlock", "unlock", SILENT),
    write(Command::Concatenate, "concatenate", "concatenate", SILENT),
    read(Command::ParseYPath, "parse_ypath"),
    read(Command::CheckPermission, "check_permission"),
    upload(Command::WriteFile, "write_file", DataType::Binary),
    download(Command::ReadFile, "read_file", DataType::Binary),
    read(Command::GetFileFromCache, "get_file_from_cache"),
    write(Command::PutFileToCache, "put_file_to_cache", "put_file_to_cache", STRUCTURED),
    upload(Command::WriteTable, "write_table", DataType::Tabular),
    download(Command::ReadTable, "read_table", DataType::Tabular),
    write(Command::AlterTable, "alter_table", "alter_table", SILENT),
    write(Command::StartOperation, "start_op", "start_operation", STRUCTURED),
    write(Command::AbortOperation, "abort_op", "abort_operation", SILENT),
    write(Command::CompleteOperation, "complete_op", "complete_operation", SILENT),
    write(Command::SuspendOperation, "suspend_op", "suspend_operation", SILENT),
    write(Command::ResumeOperation, "resume_op", "resume_operation", SILENT),
    write(Command::UpdateOperationParameters, "update_op_parameters", "update_operation_parameters", SILENT),
    write(Command::PatchOperationSpec, "patch_op_spec", "patch_operation_spec", SILENT),
    read(Command::GetOperation, "get_operation"),
    read(Command::ListOperations, "list_operations"),
    read(Command::ListOperationEvents, "list_operation_events"),
    read(Command::ListJobs, "list_jobs"),
    read(Command::GetJob, "get_job"),
    download(Command::GetJobStderr, "get_job_stderr", DataType::Binary),
    line(
        Command::AbortJob,
        Some("abort_job"),
        Some("abort_job"),
        DataType::Null,
        SILENT,
        Volatile::No,
        Heavy::No,
    ),
    line(
        Command::AbandonJob,
        Some("abandon_job"),
        Some("abandon_job"),
        DataType::Null,
        SILENT,
        Volatile::No,
        Heavy::No,
    ),
    write(Command::ExecuteBatch, "execute_batch", "execute_batch", STRUCTURED),
    read(Command::GetVersion, "get_version"),
    read(Command::GetSupportedFeatures, "get_supported_features"),
    read(Command::GetCurrentUser, "get_current_user"),
    line(
        Command::DiscoverProxies,
        None,
        Some("discover_proxies"),
        DataType::Null,
        STRUCTURED,
        Volatile::No,
        Heavy::No,
    ),
];

/// The command of this name.
pub fn find(version: ApiVersion, name: &str) -> Option<&'static Descriptor> {
    COMMANDS.iter().find(|descriptor| descriptor.name(version) == Some(name))
}

/// The answer to `/api/v4` and `/api/v3`. Clients build objects of it: exactly these five keys.
pub fn describe(version: ApiVersion) -> YsonValue {
    let described = COMMANDS.iter().filter_map(|descriptor| {
        let name = descriptor.name(version)?;
        Some(value::map([
            ("name", value::string(name)),
            ("input_type", value::string(descriptor.input.name())),
            ("output_type", value::string(descriptor.output(version).name())),
            ("is_volatile", value::boolean(descriptor.volatile == Volatile::Yes)),
            ("is_heavy", value::boolean(descriptor.heavy == Heavy::Yes)),
        ]))
    });
    value::list(described)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_differ_between_versions_where_they_should() {
        for version in [ApiVersion::V3, ApiVersion::V4] {
            let mut names: Vec<_> =
                COMMANDS.iter().filter_map(|descriptor| descriptor.name(version)).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
        }
        assert!(find(ApiVersion::V3, "start_tx").is_some() && find(ApiVersion::V4, "start_tx").is_none());
        assert!(find(ApiVersion::V4, "start_transaction").is_some());
        assert!(find(ApiVersion::V3, "start_transaction").is_none());
    }

    #[test]
    fn descriptors_have_exactly_five_keys() {
        for descriptor in value::as_list(&describe(ApiVersion::V4)).unwrap() {
            let keys: Vec<_> = value::as_map(descriptor).unwrap().keys().cloned().collect();
            assert_eq!(keys, [&b"input_type"[..], b"is_heavy", b"is_volatile", b"name", b"output_type"]);
        }
    }
}
