//! Commands on operations and jobs: parameters are checked where the operations live; here answers are wrapped.

use std::sync::Arc;

use super::{Output, Request, Source, Stream};
use crate::commands::registry::Command;
use crate::error::YtError;
use crate::server::Server;
use crate::value::{self, YsonMap};

pub(super) async fn run(
    server: &Arc<Server>,
    command: Command,
    request: &Request,
) -> Result<Output, YtError> {
    let operations = server.operations()?;
    let (parameters, user) = (&request.parameters, request.user.as_str());
    if command == Command::StartOperation {
        // The transaction and the prerequisites must be alive at this moment.
        request.with_cypress(server, |cypress, scope| cypress.check_transaction(scope.transaction))?;
    }
    match command {
        Command::StartOperation => {
            let id = operations.start(parameters, user)?;
            return Ok(Output::Named("operation_id", value::string(id.to_string())));
        }
        Command::AbortOperation => operations.abort(parameters, user).await?,
        Command::CompleteOperation => operations.complete(parameters).await?,
        Command::SuspendOperation => operations.suspend(parameters)?,
        Command::ResumeOperation => operations.resume(parameters)?,
        Command::UpdateOperationParameters => {
            operations.update_parameters(parameters)?;
            return Ok(Output::NoBody);
        }
        Command::PatchOperationSpec => operations.patch_spec(parameters)?,
        Command::GetOperation => return operations.get_operation(parameters).map(Output::Bare),
        Command::ListOperations => return operations.list_operations(parameters).map(Output::Bare),
        Command::ListOperationEvents => {
            return operations.list_operation_events(parameters).map(Output::Bare);
        }
        Command::ListJobs => return operations.list_jobs(parameters).map(Output::Bare),
        Command::GetJob => return operations.get_job(parameters).map(Output::Bare),
        Command::GetJobStderr => {
            let source = Source::Bytes(operations.job_stderr(parameters)?);
            return Ok(Output::Stream(Stream { source, response_parameters: YsonMap::new(), etag: None }));
        }
        Command::AbandonJob => operations.abandon_job(parameters, user)?,
        _ => operations.abort_job(parameters, user)?,
    }
    Ok(Output::Nothing)
}
