//! The commands: from a parameter map to an answer. Nothing here knows HTTP, and nothing here holds state.

mod batch;
mod cypress;
mod files;
mod journaled;
mod misc;
mod mutations;
mod operations;
pub mod registry;
pub mod rich_path;
mod tables;
mod transactions;

use std::sync::Arc;

use ytsaurus_yson::YsonValue;

use crate::cypress::{Cypress, FileContent, Scope, YPath};
use crate::error::YtError;
use crate::formats::rows::EncodedRows;
use crate::formats::{Format, yson};
use crate::guid::Guid;
use crate::server::Server;
use crate::storage::ContentReader;
use crate::value::{self, YsonMap};
use registry::{ApiVersion, Command, DataType, Descriptor};

pub(crate) use files::{WritePlan, plan_write};
pub(crate) use journaled::{Journaled, change_unasked, replay};
pub(crate) use misc::version;
pub(crate) use mutations::Mutations;

/// A command with everything that it needs.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) version: ApiVersion,
    pub(crate) parameters: YsonMap,
    pub(crate) user: String,
    pub(crate) input: Input,
    /// `If-None-Match`, for `read_file`.
    pub(crate) known_etag: Option<String>,
    /// The name and port under which the client reached us.
    pub(crate) proxy: String,
    /// What goes into the journal when the change is made, if there is a journal and this is a change.
    pub(crate) journaled: Option<Journaled>,
}

/// What came in the body.
#[derive(Debug)]
pub(crate) enum Input {
    Nothing,
    Structured(YsonValue),
    Rows(EncodedRows),
    File(Box<WrittenFile>),
}

/// Bytes on disk, and what was planned before they came.
#[derive(Debug)]
pub(crate) struct WrittenFile {
    pub(crate) written: FileContent,
    pub(crate) plan: WritePlan,
}

/// What a command answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Output {
    /// Nothing in v3, `{}` in v4.
    Nothing,
    /// No body in any version.
    NoBody,
    /// The bare value in v3, `{name=value}` in v4.
    Named(&'static str, YsonValue),
    /// The value as it is in both versions.
    Bare(YsonValue),
    /// Two different values.
    PerVersion { v3: YsonValue, v4: YsonValue },
    /// Much data.
    Stream(Stream),
}

impl Output {
    /// The document that goes into the body; nothing for an empty one.
    pub(crate) fn document(self, version: ApiVersion) -> Option<YsonValue> {
        match (self, version) {
            (Output::Nothing, ApiVersion::V4) => Some(value::map::<&str>([])),
            (Output::Nothing, ApiVersion::V3) | (Output::NoBody | Output::Stream(_), _) => None,
            (Output::Named(name, value), ApiVersion::V4) => Some(value::map([(name, value)])),
            (Output::Named(_, value), ApiVersion::V3) | (Output::Bare(value), _) => Some(value),
            (Output::PerVersion { v3, .. }, ApiVersion::V3) => Some(v3),
            (Output::PerVersion { v4, .. }, ApiVersion::V4) => Some(v4),
        }
    }
}

/// An answer that is sent piece by piece. Cloning and comparing are for small answers: a stream is neither kept
/// nor compared, so a clone of it is empty.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) source: Source,
    pub(crate) response_parameters: YsonMap,
    pub(crate) etag: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Source {
    Bytes(bytes::Bytes),
    File(ContentReader),
    Rows(tables::Rows),
    /// The client has it already.
    NotModified,
}

impl Clone for Stream {
    fn clone(&self) -> Stream {
        Stream { source: Source::NotModified, response_parameters: YsonMap::new(), etag: None }
    }
}

impl PartialEq for Stream {
    fn eq(&self, _: &Stream) -> bool {
        false
    }
}

/// Runs a command. A mutation that was answered before gets the same answer.
pub(crate) async fn execute(
    server: &Arc<Server>,
    descriptor: &Descriptor,
    mut request: Request,
) -> Result<Output, YtError> {
    if server.keeps_state() {
        request.journaled = journaled::record(descriptor.command, &request)?;
    }
    if !descriptor.is_light_mutation() {
        return run(server, descriptor.command, request).await;
    }
    let parameters = request.parameters.clone();
    server.mutations.run(&parameters, run(server, descriptor.command, request)).await
}

async fn run(server: &Arc<Server>, command: Command, request: Request) -> Result<Output, YtError> {
    match command {
        Command::StartTransaction
        | Command::PingTransaction
        | Command::CommitTransaction
        | Command::AbortTransaction
        | Command::GenerateTimestamp => transactions::run(server, command, &request),
        Command::Get
        | Command::List
        | Command::Exists
        | Command::Set
        | Command::MultisetAttributes
        | Command::Remove
        | Command::Create
        | Command::Copy
        | Command::Move
        | Command::Link
        | Command::Lock
        | Command::Unlock
        | Command::Concatenate
        | Command::CheckPermission => cypress::run(server, command, request),
        Command::WriteFile | Command::ReadFile | Command::GetFileFromCache | Command::PutFileToCache => {
            files::run(server, command, request)
        }
        Command::WriteTable | Command::ReadTable | Command::AlterTable => {
            tables::run(server, command, request)
        }
        Command::StartOperation
        | Command::AbortOperation
        | Command::CompleteOperation
        | Command::SuspendOperation
        | Command::ResumeOperation
        | Command::UpdateOperationParameters
        | Command::PatchOperationSpec
        | Command::GetOperation
        | Command::ListOperations
        | Command::ListOperationEvents
        | Command::ListJobs
        | Command::GetJob
        | Command::GetJobStderr
        | Command::AbortJob
        | Command::AbandonJob => operations::run(server, command, &request).await,
        Command::ExecuteBatch => batch::run(server, request).await,
        Command::ParseYPath
        | Command::GetVersion
        | Command::GetSupportedFeatures
        | Command::GetCurrentUser
        | Command::DiscoverProxies => misc::run(command, &request),
    }
}

// === what many commands share ===

impl Request {
    /// A plain path. Attributes in front of or beside it are for other commands and passed over.
    fn path(&self, name: &str) -> Result<YPath, YtError> {
        let text = value::required_str(&self.parameters, name)?;
        let (_, rest) = yson::parse_leading_attributes(text.as_bytes())?;
        let rest = std::str::from_utf8(rest).map_err(|_| YtError::generic("A path must be UTF-8"))?;
        YPath::parse(rest)
    }

    fn transaction(&self) -> Result<Option<Guid>, YtError> {
        id_parameter(&self.parameters, "transaction_id")
    }

    /// The transaction that a command on transactions is about.
    fn required_transaction(&self) -> Result<Guid, YtError> {
        self.transaction()?.ok_or_else(|| YtError::generic("Missing required parameter /transaction_id"))
    }

    fn prerequisites(&self) -> Result<Vec<Guid>, YtError> {
        let ids =
            value::optional_strings(&self.parameters, "prerequisite_transaction_ids")?.unwrap_or_default();
        ids.iter().map(|id| id.parse().map_err(|error| YtError::generic(format!("{error}")))).collect()
    }

    /// Runs a step on Cypress after checking what the request depends on, all under one lock. The step may look,
    /// not change.
    fn with_cypress<R>(
        &self,
        server: &Server,
        step: impl FnOnce(&mut Cypress, Scope<'_>) -> Result<R, YtError>,
    ) -> Result<R, YtError> {
        let step = self.conditional(step)?;
        server.with_cypress(step)
    }

    /// The same for a step that changes something. Its outcome is the outcome of the command.
    fn change(
        &self,
        server: &Server,
        step: impl FnOnce(&mut Cypress, Scope<'_>) -> Result<Output, YtError>,
    ) -> Result<Output, YtError> {
        let step = self.conditional(step)?;
        server.change(self.journaled.as_ref(), step)
    }

    /// A step with what the request depends on.
    fn conditional<R>(
        &self,
        step: impl FnOnce(&mut Cypress, Scope<'_>) -> Result<R, YtError>,
    ) -> Result<impl FnOnce(&mut Cypress) -> Result<R, YtError>, YtError> {
        let scope = Scope { transaction: self.transaction()?, user: &self.user };
        let prerequisites = self.prerequisites()?;
        let revisions = match self.parameters.get(b"prerequisite_revisions".as_slice()) {
            None => Vec::new(),
            Some(list) => parse_revisions(list)?,
        };
        Ok(move |cypress: &mut Cypress| {
            cypress.check_prerequisites(&prerequisites)?;
            for (path, transaction, revision) in &revisions {
                cypress.check_prerequisite_revision(
                    path,
                    Scope { transaction: *transaction, ..scope },
                    *revision,
                )?;
            }
            step(cypress, scope)
        })
    }
}

/// An id; `0-0-0-0` is none.
fn id_parameter(parameters: &YsonMap, name: &str) -> Result<Option<Guid>, YtError> {
    let Some(text) = value::optional_str(parameters, name)? else { return Ok(None) };
    let id: Guid = text
        .parse()
        .map_err(|error| YtError::generic(format!("Error reading parameter /{name}: {error}")))?;
    Ok(Some(id).filter(|id| !id.is_null()))
}

fn parse_revisions(list: &YsonValue) -> Result<Vec<(String, Option<Guid>, u64)>, YtError> {
    let wrong =
        || YtError::generic("\"prerequisite_revisions\" must be a list of {path; transaction_id; revision}");
    value::as_list(list)
        .ok_or_else(wrong)?
        .iter()
        .map(|item| {
            let entries = value::as_map(item).ok_or_else(wrong)?;
            let revision = value::required(entries, "revision")?;
            let revision = match revision.node {
                ytsaurus_yson::YsonNode::Uint64(revision) => revision,
                _ => value::as_i64(revision)
                    .and_then(|revision| u64::try_from(revision).ok())
                    .ok_or_else(wrong)?,
            };
            Ok((
                value::required_str(entries, "path")?.to_owned(),
                id_parameter(entries, "transaction_id")?,
                revision,
            ))
        })
        .collect()
}

/// The format of an answer or a body: what the parameters say, else what the headers say, else the default.
pub(crate) fn format_of(
    parameters: &YsonMap,
    name: &str,
    from_headers: Option<Format>,
    data_type: DataType,
) -> Result<Format, YtError> {
    if let Some(format) = parameters.get(name.as_bytes()) {
        return Format::from_yson(format);
    }
    Ok(from_headers.unwrap_or(match data_type {
        DataType::Structured => Format::Json(crate::formats::json::Strings::Bytes),
        DataType::Tabular | DataType::Null | DataType::Binary => Format::YsonText,
    }))
}
