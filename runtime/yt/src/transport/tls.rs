//! Whom to trust: `YT_CA_BUNDLE`, else the system's roots, else those that are built in.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use crate::config::{ClientConfig, ConfigError};

/// The TLS set-up for that configuration.
pub(crate) fn set_up(config: &ClientConfig) -> Result<rustls::ClientConfig, ConfigError> {
    let roots = match &config.ca_bundle {
        Some(path) => bundle(path)?,
        // Reading a system's roots takes longer than a request; plain HTTP has no use for them.
        None if config.proxy.starts_with("http://") => RootCertStore::empty(),
        None => system_or_built_in(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::SetUp { reason: error.to_string() })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn bundle(path: &Path) -> Result<RootCertStore, ConfigError> {
    let none = || ConfigError::NoCertificates { path: path.to_owned() };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| match error {
        pem::Error::Io(error) => ConfigError::Unreadable { what: "CA bundle", path: path.to_owned(), error },
        _ => none(),
    })?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() { Err(none()) } else { Ok(roots) }
}

fn system_or_built_in() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::debug!("this system has no certificates of its own: the built-in ones are used");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn error_of(path: &Path) -> String {
        let mut config = ClientConfig::new("https://h", None).unwrap();
        config.ca_bundle = Some(path.to_owned());
        set_up(&config).unwrap_err().to_string()
    }

    #[test]
    fn without_a_bundle_there_are_roots_all_the_same() {
        assert!(!system_or_built_in().is_empty());
    }

    #[test]
    fn a_bundle_must_be_there_and_hold_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert_eq!(
            error_of(&path),
            format!("CA bundle `{}` cannot be read: no such file or directory", path.display())
        );
        for content in
            ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            fs::write(&path, content).unwrap();
            assert_eq!(
                error_of(&path),
                format!(
                    "CA bundle `{}` holds no certificate\nhint: YT_CA_BUNDLE names a file with PEM certificates",
                    path.display()
                ),
                "{content:?}"
            );
        }
    }
}
