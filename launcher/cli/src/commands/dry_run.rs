//! `--dry-run`: prints what would be submitted. Offline and deterministic, without proxy and token.

use std::path::Path;

use tractorun_contract::job_spec::Links;
use tractorun_yt::{ClientConfig, value};

use crate::dry_run::document;
use crate::operation::{self, CypressFile, SandboxFile, Vault};
use crate::report::ExitStatus;
use crate::settings::{BindAttributes, InitSource, Invocation, Settings};

use super::submit::client_config;

/// Stands for a proxy that is not known.
const UNKNOWN_PROXY: &str = "(YT_PROXY)";

/// Stands for a secret that only the cluster knows; the document masks it anyway.
const UNREAD_SECRET: &str = "";

/// Prints the document on stdout.
pub fn run(invocation: &Invocation) -> anyhow::Result<ExitStatus> {
    let settings = &invocation.settings;
    // A dry run needs no cluster: without a proxy it says so where the proxy would stand.
    let config = client_config().ok();
    let cypress = unexpanded(settings);
    let proxy = config.as_ref().map_or(UNKNOWN_PROXY, |config| &config.proxy);
    let job_spec = operation::job_spec(settings, proxy, &cypress, Links::default());
    let files = files(settings, &cypress);
    let vault = vault(settings, config.as_ref());
    let spec = operation::operation_spec(settings, &files, &Links::default(), vault)?;
    super::print(&document(invocation.configuration(), &spec, &job_spec, None))?;
    Ok(ExitStatus::Success)
}

/// The Cypress binds as the user wrote them: what is inside a map node only the cluster knows.
fn unexpanded(settings: &Settings) -> Vec<CypressFile> {
    let binds = settings.bind_cypress.iter();
    binds
        .map(|bind| CypressFile {
            path: bind.source.clone(),
            destination: bind.destination.clone(),
            attributes: bind.attributes.clone(),
        })
        .collect()
}

/// The sandbox's files; what would be uploaded is named by where it lies here.
fn files(settings: &Settings, cypress: &[CypressFile]) -> Vec<SandboxFile> {
    let upload = |name: String, source: &Path, executable: bool| SandboxFile {
        name,
        path: format!("upload:{}", source.display()),
        attributes: BindAttributes { executable: Some(executable), ..BindAttributes::default() },
    };
    let init = match settings.init {
        InitSource::Bring => {
            Some(upload(operation::INIT_FILE.to_owned(), Path::new(operation::INIT_FILE), true))
        }
        InitSource::Image => None,
    };
    let job_spec = upload(operation::JOB_SPEC_FILE.to_owned(), Path::new(operation::JOB_SPEC_FILE), false);
    let own = init.into_iter().chain([job_spec]);
    let binds = settings.bind_local.iter().enumerate();
    let binds = binds.map(|(index, bind)| upload(operation::bind_archive(index), &bind.source, false));
    let libs = settings.bind_local_lib.iter().enumerate();
    let libs = libs.map(|(index, path)| upload(operation::lib_archive(index), path, false));
    own.chain(binds).chain(libs).chain(operation::cypress_files(settings, cypress)).collect()
}

fn vault(settings: &Settings, config: Option<&ClientConfig>) -> Vault {
    let mut vault = Vault::default();
    if config.is_some_and(|config| config.token.is_some()) {
        vault.insert_yt_token(UNREAD_SECRET);
    }
    if settings.docker_auth_secret.is_some() {
        vault.insert(tractorun_contract::env::VAULT_DOCKER_AUTH, value::string(UNREAD_SECRET));
    }
    vault
}
