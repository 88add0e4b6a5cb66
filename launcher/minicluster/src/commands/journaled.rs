//! Commands as records of a journal: what is written before a change is answered, and how it is done again after a
//! restart. A record holds the request; ids and times follow from the state and the moment that stands beside it.

use super::registry::{self, ApiVersion, Command};
use super::{Input, Output, Request, WritePlan, WrittenFile, cypress, files, tables, transactions};
use crate::cypress::FileContent;
use crate::error::YtError;
use crate::server::Server;
use crate::storage::codec::{Malformed, Persist, Reader, Writer};
use crate::value::{self, YsonMap};

/// What a change leaves in the journal.
#[derive(Debug)]
pub(crate) struct Journaled {
    /// The record. Empty when the change comes from the journal.
    pub(crate) record: Vec<u8>,
    /// Under which its answer is remembered.
    pub(crate) mutation_id: Option<String>,
}

/// Whether a command changes Cypress beyond what a restart may forget: pings and times of access.
fn is_journaled(command: Command) -> bool {
    matches!(
        command,
        Command::StartTransaction
            | Command::CommitTransaction
            | Command::AbortTransaction
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
            | Command::WriteFile
            | Command::GetFileFromCache
            | Command::PutFileToCache
            | Command::WriteTable
            | Command::AlterTable
    )
}

/// The record of a request, before it is carried out. Nothing for one that changes nothing.
pub(super) fn record(command: Command, request: &Request) -> Result<Option<Journaled>, YtError> {
    if !is_journaled(command) {
        return Ok(None);
    }
    let descriptor = registry::COMMANDS.iter().find(|descriptor| descriptor.command == command);
    let Some(descriptor) = descriptor else { return Ok(None) };
    let name = descriptor.name(ApiVersion::V4).unwrap_or_default();
    let mut writer = Writer::default();
    name.to_owned().put(&mut writer);
    request.user.put(&mut writer);
    request.parameters.put(&mut writer);
    match &request.input {
        Input::Nothing => 0u8.put(&mut writer),
        Input::Structured(value) => {
            1u8.put(&mut writer);
            value.put(&mut writer);
        }
        Input::Rows(rows) => {
            2u8.put(&mut writer);
            rows.put(&mut writer);
        }
        Input::File(file) => {
            3u8.put(&mut writer);
            file.written.put(&mut writer);
            file.plan.hashed_revision.put(&mut writer);
        }
    }
    Ok(Some(Journaled { record: writer.bytes, mutation_id: mutation_id(command, &request.parameters)? }))
}

fn mutation_id(command: Command, parameters: &YsonMap) -> Result<Option<String>, YtError> {
    let remembered =
        registry::COMMANDS.iter().any(|known| known.command == command && known.is_light_mutation());
    if !remembered {
        return Ok(None);
    }
    value::optional_str(parameters, "mutation_id").map(|id| id.map(str::to_owned))
}

/// Does a recorded command again. Its outcome is what it was, an error included, so nobody asks for it.
pub(crate) fn replay(server: &Server, reader: &mut Reader<'_>) -> Result<(), Malformed> {
    let name = String::take(reader)?;
    let user = String::take(reader)?;
    let parameters = YsonMap::take(reader)?;
    let descriptor = registry::find(ApiVersion::V4, &name).filter(|known| is_journaled(known.command));
    let command = descriptor.ok_or_else(|| reader.malformed("command"))?.command;
    let input = match u8::take(reader)? {
        0 => Input::Nothing,
        1 => Input::Structured(Persist::take(reader)?),
        2 => Input::Rows(Persist::take(reader)?),
        3 => {
            let written: FileContent = Persist::take(reader)?;
            let hashed_revision = Persist::take(reader)?;
            let plan = WritePlan::again(&parameters, hashed_revision);
            let plan = plan.map_err(|_| reader.malformed("path of a file"))?;
            Input::File(Box::new(WrittenFile { written, plan }))
        }
        _ => return Err(reader.malformed("input")),
    };
    let mutation_id = mutation_id(command, &parameters).map_err(|_| reader.malformed("mutation id"))?;
    let request = Request {
        version: ApiVersion::V4,
        parameters,
        user,
        input,
        known_etag: None,
        proxy: String::new(),
        journaled: Some(Journaled { record: Vec::new(), mutation_id }),
    };
    let _outcome = carry_out(server, command, request);
    Ok(())
}

/// A change that the server itself makes, as a client would: it goes into the journal, too.
pub(crate) fn change_unasked(
    server: &Server,
    command: Command,
    parameters: YsonMap,
) -> Result<Output, YtError> {
    let mut request = Request {
        version: ApiVersion::V4,
        parameters,
        user: "root".to_owned(),
        input: Input::Nothing,
        known_etag: None,
        proxy: String::new(),
        journaled: None,
    };
    if server.keeps_state() {
        request.journaled = record(command, &request)?;
    }
    carry_out(server, command, request)
}

fn carry_out(server: &Server, command: Command, request: Request) -> Result<Output, YtError> {
    match command {
        Command::StartTransaction | Command::CommitTransaction | Command::AbortTransaction => {
            transactions::run(server, command, &request)
        }
        Command::WriteFile | Command::GetFileFromCache | Command::PutFileToCache => {
            files::run(server, command, request)
        }
        Command::WriteTable | Command::AlterTable => tables::run(server, command, request),
        _ => cypress::run(server, command, request),
    }
}

// === answers ===

impl Persist for Output {
    fn put(&self, writer: &mut Writer) {
        match self {
            // No answer to a change is a stream.
            Output::Nothing | Output::Stream(_) => 0u8.put(writer),
            Output::NoBody => 1u8.put(writer),
            Output::Bare(value) => {
                2u8.put(writer);
                value.put(writer);
            }
            Output::Named(name, value) => {
                3u8.put(writer);
                value.put(writer);
                value::map([(name, value.clone())]).put(writer);
            }
            Output::PerVersion { v3, v4 } => {
                3u8.put(writer);
                v3.put(writer);
                v4.put(writer);
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match u8::take(reader)? {
            0 => Output::Nothing,
            1 => Output::NoBody,
            2 => Output::Bare(Persist::take(reader)?),
            3 => Output::PerVersion { v3: Persist::take(reader)?, v4: Persist::take(reader)? },
            _ => return Err(reader.malformed("answer")),
        })
    }
}
