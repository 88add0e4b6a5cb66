//! The settings of the Python client that concern us: from its configuration file, and from its variables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use ytsaurus_yson::{Scan, YsonError, YsonFormat, YsonNode, YsonValue, scan_value};

use super::proxy::without_credentials;
use super::token::expand_home;
use super::{ConfigError, Environment};
use crate::token::Token;
use crate::value::{self, ValueExt};

const ALIASING: &str = "YT_PROXY_URL_ALIASING_CONFIG";

/// Settings, not yet judged.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) proxy: Option<String>,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) suffix: Option<String>,
    pub(super) prefer_https: bool,
    pub(super) ca_bundle: Option<String>,
    pub(super) proxy_discovery: bool,
    /// The token, and where it was found.
    pub(super) token: Option<(Token, String)>,
    pub(super) token_path: Option<String>,
    pub(super) enable_token: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proxy: None,
            aliases: BTreeMap::new(),
            suffix: None,
            prefer_https: false,
            ca_bundle: None,
            proxy_discovery: true,
            token: None,
            token_path: None,
            enable_token: true,
        }
    }
}

impl Settings {
    /// Settings of the configuration file, or defaults if there is none.
    pub(super) fn from_file(
        environment: &Environment<'_>,
        home: Option<&Path>,
        global_file: &Path,
    ) -> Result<Self, ConfigError> {
        let Some(path) = find_file(environment, home, global_file) else { return Ok(Self::default()) };
        let content = match fs::read(&path) {
            Ok(content) => content,
            // Nobody asked for the global file, so that it is no fault if it is not for everybody.
            Err(error) if path == global_file && error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Self::default());
            }
            Err(error) => return Err(ConfigError::Unreadable { what: "YT config", path, error }),
        };
        let document = match environment("YT_CONFIG_FORMAT").as_deref() {
            None | Some("yson") => parse_yson(&content, &path)?,
            Some("json") => parse_json(&content, &path)?,
            Some(other) => {
                return Err(ConfigError::BadVariable {
                    name: "YT_CONFIG_FORMAT",
                    value: other.to_owned(),
                    expected: "yson or json",
                });
            }
        };
        Reader { path: &path }.settings(&document, environment("YT_CONFIG_PROFILE").as_deref())
    }

    /// Lets the variables win over the file.
    pub(super) fn take_environment(&mut self, environment: &Environment<'_>) -> Result<(), ConfigError> {
        let take = |name: &str, setting: &mut Option<String>| {
            if let Some(value) = environment(name) {
                *setting = Some(value);
            }
        };
        take("YT_PROXY", &mut self.proxy);
        take("YT_PROXY_SUFFIX", &mut self.suffix);
        take("YT_TOKEN_PATH", &mut self.token_path);
        take("YT_CA_BUNDLE", &mut self.ca_bundle);
        if let Some(token) = environment("YT_TOKEN") {
            self.token = Some((Token::new(token), "YT_TOKEN".to_owned()));
        }
        flag(environment, "YT_PREFER_HTTPS", &mut self.prefer_https)?;
        flag(environment, "YT_USE_TOKEN", &mut self.enable_token)?;
        flag(environment, "YT_USE_HOSTS", &mut self.proxy_discovery)?;
        // Tools that export every variable they know of leave some of them empty: that is no file's name.
        self.token_path.take_if(|path| path.is_empty());
        self.ca_bundle.take_if(|path| path.is_empty());

        if let Some(text) = environment(ALIASING).filter(|text| !text.is_empty()) {
            self.aliases = ytsaurus_yson::from_slice::<YsonValue>(text.as_bytes(), YsonFormat::Text)
                .ok()
                .and_then(|value| string_map(&value))
                .ok_or(ConfigError::BadVariable {
                    name: ALIASING,
                    value: without_credentials(&text),
                    expected: "a YSON map of names to proxies, e.g. {\"primary\"=\"localhost:8000\"}",
                })?;
        }
        Ok(())
    }
}

fn flag(environment: &Environment<'_>, name: &'static str, setting: &mut bool) -> Result<(), ConfigError> {
    match environment(name) {
        None => {}
        Some(value) if value == "1" => *setting = true,
        Some(value) if value == "0" => *setting = false,
        Some(value) => return Err(ConfigError::BadVariable { name, value, expected: "0 or 1" }),
    }
    Ok(())
}

fn find_file(environment: &Environment<'_>, home: Option<&Path>, global_file: &Path) -> Option<PathBuf> {
    if let Some(path) = environment("YT_CONFIG_PATH") {
        let path = expand_home(&path, home);
        if path.is_file() {
            return Some(path);
        }
        tracing::warn!("YT_CONFIG_PATH names `{}`, which is no file: it is passed over", path.display());
    }
    home.map(|home| home.join(".yt/config"))
        .filter(|path| path.is_file())
        .or_else(|| global_file.is_file().then(|| global_file.to_owned()))
}

fn parse_yson(content: &[u8], path: &Path) -> Result<YsonValue, ConfigError> {
    ytsaurus_yson::from_slice(content, YsonFormat::Text).map_err(|error| {
        // The parser of values does not always know where it is; the one that only scans does.
        let position = position(&error, content).or_else(|| match scan_value(content, YsonFormat::Text) {
            Err(error) => position(&error, content),
            Ok(Scan::Complete { len }) => Some(len),
            Ok(Scan::Incomplete) => Some(content.len()),
        });
        let line = position.map(|at| content[..at.min(content.len())].split(|byte| *byte == b'\n').count());
        ConfigError::BadFile {
            path: path.to_owned(),
            line,
            reason: format!("it is not YSON: {}", reason(&error)),
        }
    })
}

fn position(error: &YsonError, content: &[u8]) -> Option<usize> {
    match error {
        YsonError::UnexpectedEof(at)
        | YsonError::InvalidMarker(_, at)
        | YsonError::MalformedVarint(at)
        | YsonError::InvalidUtf8(at)
        | YsonError::UnexpectedToken { pos: at, .. } => Some(*at),
        YsonError::Eof => Some(content.len()),
        YsonError::Custom(_) => None,
    }
}

/// The parser's words, without what it found: that may be a token.
fn reason(error: &YsonError) -> String {
    match error {
        YsonError::UnexpectedToken { expected, .. } => format!("expected {expected}"),
        YsonError::Eof | YsonError::UnexpectedEof(_) => "it ends too soon".to_owned(),
        YsonError::InvalidMarker(..) => "there is a character that starts no value".to_owned(),
        YsonError::MalformedVarint(_) => "a number is malformed".to_owned(),
        YsonError::InvalidUtf8(_) => "a string is not UTF-8".to_owned(),
        YsonError::Custom(_) => "its syntax is wrong".to_owned(),
    }
}

fn parse_json(content: &[u8], path: &Path) -> Result<YsonValue, ConfigError> {
    let json: serde_json::Value = serde_json::from_slice(content).map_err(|error| ConfigError::BadFile {
        path: path.to_owned(),
        line: Some(error.line()),
        reason: "it is not JSON".to_owned(),
    })?;
    Ok(value::from_json(&json))
}

fn string_map(value: &YsonValue) -> Option<BTreeMap<String, String>> {
    let YsonNode::Map(map) = &value.node else { return None };
    map.iter()
        .map(|(key, value)| Some((String::from_utf8(key.clone()).ok()?, value.as_str()?.to_owned())))
        .collect()
}

/// Reads one document.
struct Reader<'a> {
    path: &'a Path,
}

impl Reader<'_> {
    fn settings(&self, document: &YsonValue, profile: Option<&str>) -> Result<Settings, ConfigError> {
        if !matches!(document.node, YsonNode::Map(_)) {
            return Err(self.bad("it is not a map"));
        }
        let document = self.profile(document, profile)?;
        let mut settings = Settings::default();
        if let Some(token) = self.text(document, "token")? {
            settings.token = Some((Token::new(token), format!("`token` of `{}`", self.path.display())));
        }
        settings.token_path = self.text(document, "token_path")?;
        self.flag(document, "enable_token", &mut settings.enable_token)?;

        if let Some(proxy) = document.get("proxy").filter(|proxy| !proxy.is_entity()) {
            if !matches!(proxy.node, YsonNode::Map(_)) {
                return Err(self.bad("`proxy` is not a map: expected {url=\"...\"}"));
            }
            settings.proxy = self.text(proxy, "url")?;
            settings.suffix = self.text(proxy, "default_suffix")?;
            settings.ca_bundle = self.text(proxy, "ca_bundle_path")?;
            self.flag(proxy, "prefer_https", &mut settings.prefer_https)?;
            self.flag(proxy, "enable_proxy_discovery", &mut settings.proxy_discovery)?;
            if let Some(aliases) = proxy.get("aliases").filter(|aliases| !aliases.is_entity()) {
                settings.aliases =
                    string_map(aliases).ok_or_else(|| self.bad("`proxy/aliases` is not a map of strings"))?;
            }
        }
        Ok(settings)
    }

    /// The settings themselves: version 2 of the file has several profiles.
    fn profile<'d>(
        &self,
        document: &'d YsonValue,
        wanted: Option<&str>,
    ) -> Result<&'d YsonValue, ConfigError> {
        match document.get("config_version").filter(|version| !version.is_entity()) {
            None => Ok(document),
            Some(version) if version.as_int() == Some(2) => {
                let name = wanted.or_else(|| document.get("default_profile")?.as_str()).ok_or_else(|| {
                    self.bad("it has no `default_profile`, and YT_CONFIG_PROFILE is not set")
                })?;
                let profiles = document.get("profiles").ok_or_else(|| self.bad("it has no `profiles`"))?;
                profiles.get(name).ok_or_else(|| {
                    self.bad(&format!("it has no profile `{name}`, only: {}", profiles.keys().join(", ")))
                })
            }
            Some(_) => Err(self.bad("its `config_version` is unknown: expected 2, or none")),
        }
    }

    fn text(&self, map: &YsonValue, key: &str) -> Result<Option<String>, ConfigError> {
        match map.get(key) {
            None => Ok(None),
            Some(value) if value.is_entity() => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(self.bad(&format!("`{key}` is not a string"))),
            },
        }
    }

    fn flag(&self, map: &YsonValue, key: &str, setting: &mut bool) -> Result<(), ConfigError> {
        if let Some(value) = map.get(key).filter(|value| !value.is_entity()) {
            *setting = match value.node {
                YsonNode::Boolean(flag) => flag,
                YsonNode::Int64(0) => false,
                YsonNode::Int64(1) => true,
                _ => return Err(self.bad(&format!("`{key}` is not a boolean: expected %true or %false"))),
            };
        }
        Ok(())
    }

    fn bad(&self, reason: &str) -> ConfigError {
        ConfigError::BadFile { path: self.path.to_owned(), line: None, reason: reason.to_owned() }
    }
}
