//! Files and the file cache. The bytes of a write are on disk before anything here runs.

use md5::Md5;

use super::rich_path::RichPath;
use super::{Input, Output, Request, Source, Stream, WrittenFile};
use crate::commands::registry::Command;
use crate::cypress::{Append, FileContent, NodeType};
use crate::error::YtError;
use crate::server::Server;
use crate::value::{self, YsonMap};

/// What is known before the bytes of a write are read.
#[derive(Debug)]
pub(crate) struct WritePlan {
    path: RichPath,
    append: Append,
    /// The hash to go on with, if one is wanted.
    pub(crate) hash: Option<Md5>,
    /// The length of the file that the hash is over so far.
    pub(super) hashed_revision: u64,
}

/// Looks whether a write would be refused, before its bytes are read.
pub(crate) fn plan_write(server: &Server, request: &Request) -> Result<WritePlan, YtError> {
    let path = RichPath::parse(value::required(&request.parameters, "path")?)?;
    let append = path.append()?;
    let wanted = value::flag(&request.parameters, "compute_md5", false)?;
    let (hashed_revision, old) = request.with_cypress(server, |cypress, scope| {
        cypress.check_write(&path.path, scope, append, NodeType::File)?;
        if append == Append::No {
            return Ok((0, FileContent::default()));
        }
        let (_, revision, old) = cypress.file(&path.path, scope)?;
        Ok((revision, old))
    })?;
    // An append goes on with the hash of what is there; without one there is nothing to go on with.
    let hash = match (wanted, old.data.length()) {
        (false, _) => None,
        (true, 0) => Some(Md5::default()),
        (true, _) => {
            let unreadable = |error| YtError::generic(format!("Error reading from the storage: {error}"));
            old.growing_hash().map_err(unreadable)?
        }
    };
    Ok(WritePlan { path, append, hash, hashed_revision })
}

impl WritePlan {
    /// The plan of a write whose bytes are there and hashed.
    pub(super) fn again(parameters: &YsonMap, hashed_revision: u64) -> Result<WritePlan, YtError> {
        let path = RichPath::parse(value::required(parameters, "path")?)?;
        let append = path.append()?;
        Ok(WritePlan { path, append, hash: None, hashed_revision })
    }
}

pub(super) fn run(server: &Server, command: Command, mut request: Request) -> Result<Output, YtError> {
    match command {
        Command::WriteFile => {
            let Input::File(file) = std::mem::replace(&mut request.input, Input::Nothing) else {
                return Err(YtError::generic(
                    "The bytes of the file are expected in the body of the request",
                ));
            };
            let WrittenFile { written, plan } = *file;
            request.change(server, |cypress, scope| {
                cypress.write_file(&plan.path.path, scope, plan.append, written, plan.hashed_revision)?;
                Ok(Output::Nothing)
            })
        }
        Command::ReadFile => read(server, &request),
        Command::GetFileFromCache => {
            let md5 = value::required_str(&request.parameters, "md5")?;
            let cache = value::required_str(&request.parameters, "cache_path")?;
            request.change(server, |cypress, scope| {
                let found = cypress.file_from_cache(cache, md5, scope)?;
                Ok(Output::Bare(value::string(found.unwrap_or_default())))
            })
        }
        _ => {
            let path = request.path("path")?;
            let md5 = value::required_str(&request.parameters, "md5")?;
            let cache = value::required_str(&request.parameters, "cache_path")?;
            let preserve = value::flag(&request.parameters, "preserve_expiration_timeout", false)?;
            request.change(server, |cypress, scope| {
                // One step under the mutex is as good as the transaction that the real proxy makes for it.
                let place = cypress.put_file_to_cache(&path, cache, md5, preserve, scope)?;
                Ok(Output::Bare(value::string(place)))
            })
        }
    }
}

fn read(server: &Server, request: &Request) -> Result<Output, YtError> {
    let path = RichPath::parse(value::required(&request.parameters, "path")?)?;
    let unsigned = |name: &str| -> Result<Option<u64>, YtError> {
        value::optional_i64(&request.parameters, name)?
            .map(|number| {
                u64::try_from(number)
                    .map_err(|_| YtError::generic(format!("\"{name}\" cannot be negative: {number}")))
            })
            .transpose()
    };
    let (offset, length) = (unsigned("offset")?.unwrap_or(0), unsigned("length")?);
    let (id, revision, file) =
        request.with_cypress(server, |cypress, scope| cypress.file(&path.path, scope))?;
    let etag = format!("\"{id}-{revision:x}\"");
    let known = request.known_etag.as_ref().is_some_and(|known| known.trim_start_matches("W/") == etag);
    let source = if known { Source::NotModified } else { Source::File(file.data.reader(offset, length)) };
    let response_parameters: YsonMap =
        [(b"id".to_vec(), value::string(id.to_string())), (b"revision".to_vec(), value::uint64(revision))]
            .into();
    Ok(Output::Stream(Stream { source, response_parameters, etag: Some(etag) }))
}
