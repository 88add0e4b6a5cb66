//! Where the token is, and whether it can be one.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::ConfigError;
use super::file::Settings;
use crate::token::Token;

/// Finds the token and where it is: the setting itself, then the file that a setting names, then `~/.yt/token`.
pub(super) fn find(settings: &Settings, home: Option<&Path>) -> Result<Option<(Token, String)>, ConfigError> {
    // As in the Python client, an empty token counts as none.
    if let Some((token, place)) = &settings.token
        && !token.expose().is_empty()
    {
        check(token, place)?;
        return Ok(Some((token.clone(), place.clone())));
    }
    if let Some(path) = &settings.token_path {
        let path = expand_home(path, home);
        let token = read(&path)?;
        return if token.expose().is_empty() {
            Err(ConfigError::TokenFileEmpty { path })
        } else {
            Ok(Some((token, file_place(&path))))
        };
    }
    let Some(home) = home else { return Ok(None) };
    let path = home.join(".yt/token");
    match read(&path) {
        Ok(token) => Ok((!token.expose().is_empty()).then(|| (token, file_place(&path)))),
        Err(ConfigError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses what cannot be sent as a token.
pub(super) fn check(token: &Token, place: &str) -> Result<(), ConfigError> {
    let text = token.expose();
    if text != text.trim() {
        return Err(ConfigError::TokenWhitespace { place: place.to_owned() });
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ConfigError::TokenCharacters { place: place.to_owned() });
    }
    Ok(())
}

/// Reads a token's file. Blanks around the token do not count.
fn read(path: &Path) -> Result<Token, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
        what: "token file",
        path: path.to_owned(),
        error,
    })?;
    warn_if_others_can_read(path);
    let token = Token::new(text.trim());
    check(&token, &file_place(path))?;
    Ok(token)
}

fn file_place(path: &Path) -> String {
    format!("token file `{}`", path.display())
}

#[cfg(unix)]
fn warn_if_others_can_read(path: &Path) {
    use std::os::unix::fs::PermissionsExt;

    if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0) {
        tracing::warn!("token file `{}` can be read by others: `chmod 600` it", path.display());
    }
}

#[cfg(not(unix))]
fn warn_if_others_can_read(_path: &Path) {}

/// `~/x` below the home folder, as a shell would have it.
pub(super) fn expand_home(path: &str, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}
