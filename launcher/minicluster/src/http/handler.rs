//! From an HTTP request to its answer: routes, users, parameters, and what goes around a command.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use ytsaurus_yson::YsonNode;

use super::body::{self, Encoding};
use super::faults::{self, Fate, Subject};
use super::io::RequestStart;
use super::parameters::{self, header};
use super::response::{self, Body, Trailers};
use crate::commands::registry::{self, ApiVersion, DataType, Descriptor};
use crate::commands::{self, Input, Output, Source, Stream, WrittenFile, format_of};
use crate::error::{YtError, code};
use crate::faults::wire::WireControl;
use crate::formats::{Format, json};
use crate::guid::Guid;
use crate::server::Server;
use crate::value::{self, YsonMap};

/// A refusal with its HTTP status. Failures of commands are all 400.
struct Refusal {
    status: StatusCode,
    error: YtError,
}

impl From<YtError> for Refusal {
    fn from(error: YtError) -> Refusal {
        Refusal { status: StatusCode::BAD_REQUEST, error }
    }
}

fn refuse(status: StatusCode, error: YtError) -> Refusal {
    Refusal { status, error }
}

/// What a request needs of its connection.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) start: RequestStart,
    pub(super) wire: Arc<WireControl>,
}

/// Answers one request. Never fails and never leaves a body unread.
pub(super) async fn handle(server: Arc<Server>, request: Request<Incoming>, link: Link) -> Response<Body> {
    let (head, body) = request.into_parts();
    let mut account = Account { command: OTHER, user: String::new() };
    let path = head.uri.path().to_ascii_lowercase();
    tracing::debug!(method = %head.method, path, "request");
    let command = path.strip_prefix("/api/v4/").map(|name| (ApiVersion::V4, name));
    let command = command.or_else(|| path.strip_prefix("/api/v3/").map(|name| (ApiVersion::V3, name)));
    let mut answer = match command.filter(|(_, name)| !name.is_empty()) {
        Some((version, name)) if head.method != Method::OPTIONS => {
            match run_command(&server, version, name, &head, body, &link, &mut account).await {
                Ok(answer) => answer,
                Err(refusal) => response::error(refusal.status, &refusal.error),
            }
        }
        _ => {
            body::drain(body).await;
            link.start.expect();
            account.command = route_name(&path);
            match faults::before_route(&server, &link.wire, &path, user_agent(&head.headers)).await {
                Ok(Fate::Run) => route(&server, &path, &head),
                Ok(Fate::Answer(answer)) => answer,
                Err(error) => response::error(StatusCode::BAD_REQUEST, &error),
            }
        }
    };
    add_common_headers(answer.headers_mut(), &head.headers, &server);
    let user_agent = user_agent(&head.headers);
    link.wire.account(server.faults.counters.tally(account.command, &account.user, user_agent));
    if server.faults.is_quiet() { answer } else { faults::tell_end(answer, &link.wire) }
}

/// Under what a request is counted.
struct Account {
    command: &'static str,
    user: String,
}

/// Everything that is counted together.
const OTHER: &str = "other";

fn route_name(path: &str) -> &'static str {
    const KNOWN: [&str; 9] = [
        "/api",
        "/api/v3",
        "/api/v4",
        "/hosts",
        "/hosts/all",
        "/ping",
        "/version",
        "/service",
        "/auth/whoami",
    ];
    let path = path.trim_end_matches('/');
    KNOWN.into_iter().find(|known| *known == path).unwrap_or(OTHER)
}

fn user_agent(headers: &HeaderMap) -> &str {
    headers.get(hyper::header::USER_AGENT).and_then(|name| name.to_str().ok()).unwrap_or_default()
}

fn add_common_headers(answer: &mut HeaderMap, request: &HeaderMap, server: &Server) {
    answer.insert("cache-control", HeaderValue::from_static("no-store"));
    answer.insert("x-yt-proxy", response::header_value(&proxy_name(request, server)));
    let request_id = Guid::random_untyped().to_string();
    let trace_id = request.get("traceparent").and_then(|given| trace_id(given.to_str().ok()?));
    answer.insert("x-yt-trace-id", response::header_value(trace_id.as_ref().unwrap_or(&request_id)));
    answer.insert("x-yt-request-id", response::header_value(&request_id));
}

/// `00-<32 hexadecimal digits>-<16>-<flags>`: the trace id as a GUID.
fn trace_id(traceparent: &str) -> Option<String> {
    let digits = traceparent.split('-').nth(1).filter(|digits| digits.len() == 32 && digits.is_ascii())?;
    let mut parts = [0; 4];
    for (part, start) in parts.iter_mut().zip((0..32).step_by(8)) {
        *part = u32::from_str_radix(&digits[start..start + 8], 16).ok()?;
    }
    Some(Guid::from_parts(parts).to_string())
}

/// The name under which the client reached us: what it must be told as the name of a proxy.
fn proxy_name(headers: &HeaderMap, server: &Server) -> String {
    let host = headers.get(hyper::header::HOST).and_then(|host| host.to_str().ok());
    host.filter(|host| !host.is_empty()).map_or_else(|| server.address.to_string(), str::to_owned)
}

// === everything that is no command ===

fn route(server: &Server, path: &str, head: &http::request::Parts) -> Response<Body> {
    let document = |value: &ytsaurus_yson::YsonValue| match json::write(value, json::Strings::Utf8) {
        Ok(text) => response::full(StatusCode::OK, "application/json", text),
        Err(error) => response::error(StatusCode::INTERNAL_SERVER_ERROR, &error),
    };
    let proxy = proxy_name(&head.headers, server);
    match path.trim_end_matches('/') {
        "/api" => document(&value::list(["v3", "v4"].map(value::string))),
        "/api/v3" => document(&registry::describe(ApiVersion::V3)),
        "/api/v4" => document(&registry::describe(ApiVersion::V4)),
        "/hosts" => {
            let accept = head.headers.get(hyper::header::ACCEPT).and_then(|accept| accept.to_str().ok());
            if accept.is_some_and(|accept| accept.contains("text/plain")) {
                return response::full(StatusCode::OK, "text/plain", format!("{proxy}\n"));
            }
            document(&value::list([value::string(proxy)]))
        }
        "/hosts/all" => document(&value::list([value::map([
            ("host", value::string(&proxy)),
            ("name", value::string(&proxy)),
            ("role", value::string("data")),
            ("banned", value::boolean(false)),
            ("ban_message", value::entity()),
            ("dead", value::boolean(false)),
            ("liveness", value::map::<&str>([])),
        ])])),
        "/ping" => response::full(StatusCode::OK, "text/plain", ""),
        "/version" => response::full(StatusCode::OK, "text/plain", commands::version()),
        "/service" => document(&value::map([
            ("start_time", value::string(&server.start_time)),
            ("version", value::string(commands::version())),
        ])),
        "/auth/whoami" => match user_of(server, &head.headers) {
            Ok(user) => document(&value::map([
                ("login", value::string(user)),
                ("realm", value::string("minicluster")),
                ("csrf_token", value::string("")),
            ])),
            Err(refusal) => response::error(refusal.status, &refusal.error),
        },
        other => {
            let text = match other.strip_prefix("/api/") {
                Some(version) => format!("Unsupported API version {version:?}: v3 and v4 are known"),
                None => format!("There is nothing at {other:?}"),
            };
            response::error(StatusCode::NOT_FOUND, &YtError::generic(text))
        }
    }
}

fn user_of(server: &Server, headers: &HeaderMap) -> Result<String, Refusal> {
    let unauthorized =
        |text: &str| refuse(StatusCode::UNAUTHORIZED, YtError::new(code::INVALID_CREDENTIALS, text));
    let authorization = headers.get(hyper::header::AUTHORIZATION).map(HeaderValue::to_str);
    let token = match authorization {
        None => None,
        Some(Ok(text)) => match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("oauth") => Some(token.trim()),
            _ => return Err(unauthorized("Invalid \"Authorization\" header: \"OAuth <token>\" is expected")),
        },
        Some(Err(_)) => return Err(unauthorized("Invalid \"Authorization\" header")),
    };
    let user = server.tokens.user(token).map_err(unauthorized)?;
    match header(headers, "x-yt-user-name")? {
        Some(other) if other != user && user != "root" => Err(refuse(
            StatusCode::FORBIDDEN,
            YtError::new(code::AUTHORIZATION_ERROR, format!("User {user:?} may not act as user {other:?}")),
        )),
        Some(other) => Ok(other.to_owned()),
        None => Ok(user),
    }
}

// === commands ===

async fn run_command(
    server: &Arc<Server>,
    version: ApiVersion,
    name: &str,
    head: &http::request::Parts,
    mut body: Incoming,
    link: &Link,
    account: &mut Account,
) -> Result<Response<Body>, Refusal> {
    let begun = begin(server, version, name, head);
    let (descriptor, mut request, header_format) = match begun {
        Ok(begun) => begun,
        Err(refusal) => {
            body::drain(body).await;
            link.start.expect();
            return Err(refusal);
        }
    };
    let newest = descriptor.name(ApiVersion::V4).or_else(|| descriptor.name(ApiVersion::V3));
    account.command = newest.unwrap_or(OTHER);
    account.user.clone_from(&request.user);
    let user_agent = user_agent(&head.headers);
    let subject = Subject { descriptor, parameters: &request.parameters, user: &request.user, user_agent };
    if faults::before_body(server, &link.wire, &subject, &mut body).await {
        return Ok(faults::nothing());
    }
    let input = read_input(server, descriptor, &mut request, head, header_format, body).await;
    link.start.expect();
    request.input = input?;
    let subject = Subject { descriptor, parameters: &request.parameters, user: &request.user, user_agent };
    if let Fate::Answer(answer) = faults::before_run(server, &link.wire, &subject).await? {
        return Ok(answer);
    }
    let output_type = descriptor.output(version);
    let from_headers =
        parameters::format_from_headers(&head.headers, "x-yt-output-format", "accept", header_format)?;
    let format = format_of(&request.parameters, "output_format", from_headers, output_type)?;
    let output = commands::execute(server, descriptor, request).await;
    // Errors wait, too: what they tell of the state must be as safe as the rest.
    server.settle().await?;
    let output = output?;
    answer(version, output, format, output_type, head, header_format).await
}

/// Everything that is known before the body is read.
fn begin(
    server: &Server,
    version: ApiVersion,
    name: &str,
    head: &http::request::Parts,
) -> Result<(&'static Descriptor, commands::Request, Format), Refusal> {
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
        return Err(refuse(
            StatusCode::NOT_FOUND,
            YtError::generic(format!("Malformed command name {name:?}")),
        ));
    }
    let descriptor = registry::find(version, name).ok_or_else(|| {
        refuse(StatusCode::NOT_FOUND, YtError::generic(format!("Command \"{name}\" is not registered")))
    })?;
    let user = user_of(server, &head.headers)?;
    let header_format = parameters::header_format(&head.headers)?;
    let request = commands::Request {
        version,
        parameters: parameters::from_head(head.uri.query(), &head.headers, header_format)?,
        user,
        input: Input::Nothing,
        known_etag: header(&head.headers, "if-none-match")?.map(str::to_owned),
        proxy: proxy_name(&head.headers, server),
        journaled: None,
    };
    Ok((descriptor, request, header_format))
}

/// Reads the body to its end, as what the command takes.
async fn read_input(
    server: &Server,
    descriptor: &Descriptor,
    request: &mut commands::Request,
    head: &http::request::Parts,
    header_format: Format,
    body: Incoming,
) -> Result<Input, Refusal> {
    let unsupported = |error| refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, error);
    let encoding = match Encoding::of(&head.headers) {
        Ok(encoding) => encoding,
        Err(error) => {
            body::drain(body).await;
            return Err(unsupported(error));
        }
    };
    let format_from_headers =
        || parameters::format_from_headers(&head.headers, "x-yt-input-format", "content-type", header_format);
    match descriptor.input {
        DataType::Null => {
            let bytes = body::collect(body, encoding).await?;
            if !bytes.is_empty() && encoding != Encoding::Identity {
                return Err(YtError::generic("Content-Encoding is not supported in POST bodies").into());
            }
            // Commands that take no data have YSON as their format of data, and so do their parameters.
            let format = format_from_headers()?.unwrap_or(Format::YsonText);
            request.parameters.extend(parameters::from_body(&bytes, format)?);
            Ok(Input::Nothing)
        }
        DataType::Structured | DataType::Tabular => {
            let bytes = body::collect(body, encoding).await?;
            let format =
                format_of(&request.parameters, "input_format", format_from_headers()?, descriptor.input)?;
            Ok(if descriptor.input == DataType::Structured {
                Input::Structured(format.parse(&bytes)?)
            } else {
                Input::Rows(format.parse_rows(&bytes)?)
            })
        }
        DataType::Binary => match commands::plan_write(server, request) {
            Ok(mut plan) => {
                let written = body::store(body, encoding, server, plan.hash.take()).await?;
                Ok(Input::File(Box::new(WrittenFile { written, plan })))
            }
            Err(error) => {
                body::drain(body).await;
                Err(error.into())
            }
        },
    }
}

async fn answer(
    version: ApiVersion,
    output: Output,
    format: Format,
    output_type: DataType,
    head: &http::request::Parts,
    header_format: Format,
) -> Result<Response<Body>, Refusal> {
    let (mut response, response_parameters) = match output {
        Output::Stream(Stream { source, response_parameters, etag }) => {
            let mut response = if matches!(source, Source::NotModified) {
                let mut response = response::full(StatusCode::NOT_MODIFIED, "application/octet-stream", "");
                response.headers_mut().remove(hyper::header::CONTENT_TYPE);
                response
            } else {
                let omit = head.headers.contains_key("x-yt-omit-trailers");
                let trailers = if omit { Trailers::Omit } else { Trailers::Send };
                let content_type =
                    if output_type == DataType::Binary { "application/octet-stream" } else { format.mime() };
                response::streamed(source, format, content_type, trailers).await?
            };
            if let Some(etag) = etag {
                response.headers_mut().insert(hyper::header::ETAG, response::header_value(&etag));
            }
            (response, response_parameters)
        }
        other => {
            let body = match other.document(version) {
                Some(document) => format.write(&document)?,
                None => Vec::new(),
            };
            (response::full(StatusCode::OK, format.mime(), body), YsonMap::new())
        }
    };
    let response_parameters = header_format.write(&value::plain(YsonNode::Map(response_parameters)))?;
    let text = String::from_utf8_lossy(&response_parameters).into_owned();
    response.headers_mut().insert("x-yt-response-parameters", response::header_value(&text));
    Ok(response)
}
