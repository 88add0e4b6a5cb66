//! The configuration against a table of what people have set.

use std::fs;

use super::*;

/// A home folder and variables.
struct Machine {
    home: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Machine {
    fn new(variables: &[(&str, &str)]) -> Self {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { home: tempfile::tempdir().unwrap(), variables }
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn load(&self) -> Result<ClientConfig, ConfigError> {
        let home = self.home.path();
        let environment = |name: &str| {
            let found = self.variables.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.replace("HOME", &home.display().to_string()))
        };
        ClientConfig::from_sources(&environment, Some(home), &home.join("global.conf"))
    }

    fn token(&self) -> Option<String> {
        self.load().unwrap().token.map(|token| token.expose().to_owned())
    }

    /// The error's text, the home folder's path taken out.
    fn error(&self) -> String {
        self.load().unwrap_err().to_string().replace(&self.home.path().display().to_string(), "HOME")
    }
}

#[test]
fn a_proxy_is_what_the_python_client_takes_it_for() {
    const ALIASES: &str = r#"{"primary"="localhost:8000"; "secure"="https://Far.example.com/"}"#;
    // Proxy, suffix, prefer https, URL.
    let table = [
        ("http://h.example.com", "", "0", "http://h.example.com"),
        ("https://h.example.com/", "", "0", "https://h.example.com"),
        ("https://h.example.com:9443/path?x", "", "0", "https://h.example.com:9443"),
        ("h.example.com", "", "0", "http://h.example.com"),
        ("h.example.com", "", "1", "https://h.example.com"),
        ("h.example.com:8080", ".suffix", "0", "http://h.example.com:8080"),
        ("//h.example.com", "", "0", "http://h.example.com"),
        ("HTTP://H.Example.com", "", "0", "http://h.example.com"),
        ("hahn", "", "0", "http://hahn"),
        ("hahn", ".yt.example.com", "0", "http://hahn.yt.example.com"),
        ("hahn", ".yt.example.com", "1", "https://hahn.yt.example.com"),
        ("hahn:80", ".yt.example.com", "0", "http://hahn:80"),
        ("http://hahn", ".yt.example.com", "0", "http://hahn"),
        ("localhost", ".yt.example.com", "0", "http://localhost"),
        ("localhost:8000", ".yt.example.com", "0", "http://localhost:8000"),
        ("127.0.0.1:8000", "", "0", "http://127.0.0.1:8000"),
        ("[::1]:8000", ".suffix", "0", "http://[::1]:8000"),
        ("https://[2001:db8::7]", "", "0", "https://[2001:db8::7]"),
        ("primary", ".yt.example.com", "0", "http://localhost:8000"),
        ("secure", "", "0", "https://far.example.com"),
        ("http://user:password@h.example.com", "", "0", "http://h.example.com"),
    ];
    for (proxy, suffix, https, url) in table {
        let machine = Machine::new(&[
            ("YT_PROXY", proxy),
            ("YT_PROXY_SUFFIX", suffix),
            ("YT_PREFER_HTTPS", https),
            ("YT_PROXY_URL_ALIASING_CONFIG", ALIASES),
        ]);
        assert_eq!(machine.load().unwrap().proxy, url, "{proxy}");
    }
}

#[test]
fn what_is_no_proxy_is_refused_by_name() {
    let table = [
        ("ftp://h", "its scheme is neither http nor https"),
        ("http://", "it names no host"),
        (":80", "it names no host"),
        ("h:80x", "its port is not a number up to 65535"),
        ("h:70000", "its port is not a number up to 65535"),
        ("::1", "an IPv6 address needs brackets"),
        ("[::1", "its IPv6 address has no closing bracket"),
        ("[::1]x", "there is text behind its IPv6 address"),
        ("my cluster", "it has whitespace in it"),
        ("http://[zz]", "invalid IPv6 address"),
    ];
    for (proxy, reason) in table {
        assert_eq!(
            Machine::new(&[("YT_PROXY", proxy)]).error(),
            format!(
                "YT proxy `{proxy}` is not an address: {reason}\n\
                 hint: expected `https://host`, `host:port` or a cluster name"
            )
        );
    }
}

#[test]
fn no_proxy_at_all() {
    let text = "no YT proxy is given\n\
                hint: set YT_PROXY, e.g. YT_PROXY=https://cluster.example.com, or `{proxy={url=\"...\"}}` in ~/.yt/config";
    assert_eq!(Machine::new(&[]).error(), text);
    assert_eq!(Machine::new(&[("YT_PROXY", "")]).error(), text);
    assert_eq!(Machine::new(&[]).file(".yt/config", "{proxy={url=#}}").error(), text);
}

#[test]
fn tokens_are_found_in_order() {
    let proxy = ("YT_PROXY", "h");
    let home_file = |variables: &[(&str, &str)]| Machine::new(variables).file(".yt/token", " from-home\n");
    assert_eq!(home_file(&[proxy]).token().unwrap(), "from-home");
    assert_eq!(home_file(&[proxy, ("YT_TOKEN", "")]).token().unwrap(), "from-home", "empty is none");
    assert_eq!(home_file(&[proxy, ("YT_TOKEN", "given")]).token().unwrap(), "given");
    assert_eq!(home_file(&[proxy, ("YT_USE_TOKEN", "0")]).token(), None);
    let named = home_file(&[proxy, ("YT_TOKEN_PATH", "~/named")]).file("named", "from-named");
    assert_eq!(named.token().unwrap(), "from-named");
    let config = home_file(&[proxy]).file(".yt/config", "{token=from-config; token_path=\"/nowhere\"}");
    assert_eq!(config.token().unwrap(), "from-config");
    assert_eq!(Machine::new(&[proxy]).token(), None);
    assert_eq!(Machine::new(&[proxy]).file(".yt/token", "\n").token(), None);
}

#[test]
fn bad_tokens_are_refused_and_never_shown() {
    let proxy = ("YT_PROXY", "h");
    let named =
        |content: &str| Machine::new(&[proxy, ("YT_TOKEN_PATH", "HOME/named")]).file("named", content);
    let hint = "hint: remove spaces, tabs and line breaks";
    let table = [
        (
            Machine::new(&[proxy, ("YT_TOKEN", "s3cret ")]),
            format!("YT_TOKEN has whitespace around the token\n{hint}"),
        ),
        (
            Machine::new(&[proxy, ("YT_TOKEN", "  ")]),
            format!("YT_TOKEN has whitespace around the token\n{hint}"),
        ),
        (
            Machine::new(&[proxy, ("YT_TOKEN", "s3\tcret")]),
            "YT_TOKEN has characters that a token cannot have: expected printable ASCII without blanks"
                .to_owned(),
        ),
        (
            Machine::new(&[proxy]).file(".yt/config", "{token=\" s3cret\"}"),
            format!("`token` of `HOME/.yt/config` has whitespace around the token\n{hint}"),
        ),
        (
            named("s3cret\nagain"),
            "token file `HOME/named` has characters that a token cannot have: \
             expected printable ASCII without blanks"
                .to_owned(),
        ),
        (named(" \n"), "token file `HOME/named` is empty".to_owned()),
        (
            Machine::new(&[proxy, ("YT_TOKEN_PATH", "HOME/nowhere")]),
            "token file `HOME/nowhere` cannot be read: no such file or directory".to_owned(),
        ),
        (
            Machine::new(&[proxy, ("YT_TOKEN_PATH", "HOME/folder")]).file("folder/file", ""),
            "token file `HOME/folder` cannot be read: is a directory".to_owned(),
        ),
    ];
    for (machine, text) in table {
        assert_eq!(machine.error(), text);
    }
    let config = Machine::new(&[proxy, ("YT_TOKEN", "s3cret")]).load().unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn the_file_gives_what_the_variables_do_not() {
    let file = "{\n  proxy={url=\"from-file\"; default_suffix=\".x\"; prefer_https=%true; \
                aliases={a=\"alias.example.com\"}; ca_bundle_path=\"/ca\"; enable_proxy_discovery=%false;\n  };\n \
                unknown=[1;2]; pool=#;\n}\n";
    let config = Machine::new(&[]).file(".yt/config", file).load().unwrap();
    assert_eq!(config.proxy, "https://from-file.x");
    assert_eq!(config.ca_bundle.as_deref(), Some(Path::new("/ca")));
    assert!(!config.proxy_discovery);

    let variables =
        [("YT_PROXY", "a"), ("YT_CA_BUNDLE", "/other"), ("YT_USE_HOSTS", "1"), ("YT_PREFER_HTTPS", "0")];
    let config = Machine::new(&variables).file(".yt/config", file).load().unwrap();
    assert_eq!(config.proxy, "http://alias.example.com");
    assert_eq!(config.ca_bundle.as_deref(), Some(Path::new("/other")));
    assert!(config.proxy_discovery);
}

#[test]
fn files_are_looked_for_in_order() {
    let url = |machine: Machine| machine.load().unwrap().proxy;
    let files = |variables: &[(&str, &str)]| {
        Machine::new(variables)
            .file("global.conf", "{proxy={url=global}}")
            .file("named", "{proxy={url=named}}")
    };
    assert_eq!(url(files(&[])), "http://global");
    assert_eq!(url(files(&[]).file(".yt/config", "{proxy={url=user}}")), "http://user");
    assert_eq!(url(files(&[("YT_CONFIG_PATH", "HOME/named")]).file(".yt/config", "{}")), "http://named");
    assert_eq!(url(files(&[("YT_CONFIG_PATH", "HOME/nowhere")])), "http://global");
    let json = files(&[("YT_CONFIG_FORMAT", "json")]).file(".yt/config", r#"{"proxy": {"url": "json"}}"#);
    assert_eq!(url(json), "http://json");
}

#[test]
fn profiles_of_the_second_version() {
    let file = "{config_version=2; default_profile=a; profiles={a={proxy={url=a}}; b={proxy={url=b}}}}";
    let load = |variables: &[(&str, &str)]| Machine::new(variables).file(".yt/config", file);
    assert_eq!(load(&[]).load().unwrap().proxy, "http://a");
    assert_eq!(load(&[("YT_CONFIG_PROFILE", "b")]).load().unwrap().proxy, "http://b");
    assert_eq!(
        load(&[("YT_CONFIG_PROFILE", "c")]).error(),
        "YT config `HOME/.yt/config`: it has no profile `c`, only: a, b"
    );
}

#[test]
fn bad_files_and_variables_are_refused() {
    let config = |content: &str| Machine::new(&[("YT_PROXY", "h")]).file(".yt/config", content).error();
    assert_eq!(
        config("{\n  proxy={url=x};\n  token=s3cret=;\n}"),
        "YT config `HOME/.yt/config`, line 3: it is not YSON: its syntax is wrong"
    );
    assert_eq!(
        config("{\n  proxy={\n"),
        "YT config `HOME/.yt/config`, line 3: it is not YSON: it ends too soon"
    );
    assert_eq!(config("[1]"), "YT config `HOME/.yt/config`: it is not a map");
    assert_eq!(
        config("{proxy=x}"),
        "YT config `HOME/.yt/config`: `proxy` is not a map: expected {url=\"...\"}"
    );
    assert_eq!(config("{proxy={url=1}}"), "YT config `HOME/.yt/config`: `url` is not a string");
    assert_eq!(
        config("{enable_token=yes}"),
        "YT config `HOME/.yt/config`: `enable_token` is not a boolean: expected %true or %false"
    );
    assert_eq!(
        config("{config_version=3}"),
        "YT config `HOME/.yt/config`: its `config_version` is unknown: expected 2, or none"
    );
    assert_eq!(
        Machine::new(&[("YT_PROXY", "h"), ("YT_PREFER_HTTPS", "yes")]).error(),
        "YT_PREFER_HTTPS is `yes`: expected 0 or 1"
    );
    assert_eq!(
        Machine::new(&[("YT_PROXY", "h"), ("YT_PROXY_URL_ALIASING_CONFIG", "primary")]).error(),
        "YT_PROXY_URL_ALIASING_CONFIG is `primary`: \
         expected a YSON map of names to proxies, e.g. {\"primary\"=\"localhost:8000\"}"
    );
    let json =
        Machine::new(&[("YT_PROXY", "h"), ("YT_CONFIG_FORMAT", "json")]).file(".yt/config", "{\n\n\"a\": }");
    assert_eq!(json.error(), "YT config `HOME/.yt/config`, line 3: it is not JSON");
}

#[test]
fn a_given_token_is_checked_too() {
    assert!(matches!(
        ClientConfig::new("h", Some(Token::new("a b"))),
        Err(ConfigError::TokenCharacters { .. })
    ));
}
