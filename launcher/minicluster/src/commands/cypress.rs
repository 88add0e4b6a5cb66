//! Commands on the tree and on locks.

use ytsaurus_yson::YsonNode;

use super::rich_path::RichPath;
use super::{Input, Output, Request};
use crate::commands::registry::Command;
use crate::cypress::{
    AttributeFilter, CopyKind, CopyOptions, CreateOptions, Cypress, Existing, LockKey, LockMode, LockRequest,
    NodeType, Permission, Recursive, Scope, Waitable,
};
use crate::error::YtError;
use crate::formats::unsupported;
use crate::guid::Guid;
use crate::server::Server;
use crate::value::{self, YsonMap};

pub(super) fn run(server: &Server, command: Command, request: Request) -> Result<Output, YtError> {
    match command {
        Command::Get | Command::List => read(server, command, &request),
        Command::Exists => {
            let path = request.path("path")?;
            let exists = request.with_cypress(server, |cypress, scope| cypress.exists(&path, scope))?;
            named_or_bare(&request, value::boolean(exists))
        }
        Command::Set | Command::MultisetAttributes => write(server, command, request),
        Command::Remove => {
            let path = request.path("path")?;
            let recursive = value::flag(&request.parameters, "recursive", true)?;
            let force = value::flag(&request.parameters, "force", false)?;
            change(server, &request, |cypress, scope| cypress.remove(&path, scope, recursive, force))
        }
        Command::Create => create(server, &request),
        Command::Copy | Command::Move => copy(server, command, &request),
        Command::Link => link(server, &request),
        Command::Lock => lock(server, &request),
        Command::Unlock => {
            let path = request.path("path")?;
            change(server, &request, |cypress, scope| cypress.unlock(&path, scope))
        }
        Command::Concatenate => concatenate(server, &request),
        _ => check_permission(server, &request),
    }
}

fn named_or_bare(request: &Request, value: ytsaurus_yson::YsonValue) -> Result<Output, YtError> {
    Ok(if value::flag(&request.parameters, "return_only_value", false)? {
        Output::Bare(value)
    } else {
        Output::Named("value", value)
    })
}

/// `attributes` is a list of names; newer clients may also send `{keys=[..]}`.
fn attribute_filter(parameters: &YsonMap) -> Result<AttributeFilter, YtError> {
    let Some(given) = parameters.get(b"attributes".as_slice()) else { return Ok(AttributeFilter::None) };
    if let YsonNode::Map(entries) = &given.node {
        if entries.keys().any(|key| key != b"keys") {
            return Err(unsupported("\"attributes\" with \"paths\""));
        }
        return Ok(AttributeFilter::Named(value::optional_strings(entries, "keys")?.unwrap_or_default()));
    }
    Ok(match value::optional_strings(parameters, "attributes")? {
        None => AttributeFilter::None,
        Some(names) => AttributeFilter::Named(names),
    })
}

fn read(server: &Server, command: Command, request: &Request) -> Result<Output, YtError> {
    let path = request.path("path")?;
    let filter = attribute_filter(&request.parameters)?;
    let max_size =
        value::optional_i64(&request.parameters, "max_size")?.and_then(|size| usize::try_from(size).ok());
    let found = request.with_cypress(server, |cypress, scope| match command {
        Command::Get => cypress.get(&path, scope, &filter),
        _ => cypress.list(&path, scope, &filter, max_size),
    })?;
    named_or_bare(request, found)
}

fn write(server: &Server, command: Command, mut request: Request) -> Result<Output, YtError> {
    let path = request.path("path")?;
    let Input::Structured(new) = std::mem::replace(&mut request.input, Input::Nothing) else {
        return Err(YtError::generic("A value is expected in the body of the request"));
    };
    if command == Command::MultisetAttributes {
        let YsonNode::Map(attributes) = new.node else {
            return Err(YtError::generic("\"multiset_attributes\" takes a map of attributes"));
        };
        return change(server, &request, |cypress, scope| cypress.set_attributes(&path, scope, attributes));
    }
    let recursive = recursive(&request.parameters)?;
    let force = value::flag(&request.parameters, "force", false)?;
    change(server, &request, |cypress, scope| cypress.set(&path, scope, new, recursive, force))
}

/// A change that has nothing to say.
fn change(
    server: &Server,
    request: &Request,
    step: impl FnOnce(&mut Cypress, Scope<'_>) -> Result<(), YtError>,
) -> Result<Output, YtError> {
    request.change(server, |cypress, scope| step(cypress, scope).map(|()| Output::Nothing))
}

fn node_id(id: Guid) -> Output {
    Output::Named("node_id", value::string(id.to_string()))
}

fn recursive(parameters: &YsonMap) -> Result<Recursive, YtError> {
    Ok(if value::flag(parameters, "recursive", false)? { Recursive::Yes } else { Recursive::No })
}

fn existing(parameters: &YsonMap) -> Result<Existing, YtError> {
    let flag = |name| value::flag(parameters, name, false);
    let (ignore, force, lock, any_type) =
        (flag("ignore_existing")?, flag("force")?, flag("lock_existing")?, flag("ignore_type_mismatch")?);
    match (ignore, force) {
        (true, true) => Err(YtError::generic(
            "Cannot specify both \"ignore_existing\" and \"force\" options simultaneously",
        )),
        (false, _) if lock => {
            Err(YtError::generic("Cannot specify \"lock_existing\" without \"ignore_existing\""))
        }
        (false, _) if any_type => {
            Err(YtError::generic("Cannot specify \"ignore_type_mismatch\" without \"ignore_existing\""))
        }
        (true, false) => Ok(Existing::Ignore { any_type, lock }),
        (false, true) => Ok(Existing::Replace),
        (false, false) => Ok(Existing::Fail),
    }
}

fn create(server: &Server, request: &Request) -> Result<Output, YtError> {
    let parameters = &request.parameters;
    let type_name = value::required_str(parameters, "type")?;
    if value::optional_str(parameters, "path")?.is_none() {
        return Err(unsupported(&format!(
            "creating objects of type {type_name:?} that are no Cypress nodes"
        )));
    }
    let path = request.path("path")?;
    let node_type = NodeType::from_name(type_name)
        .ok_or_else(|| unsupported(&format!("creating nodes of type {type_name:?}")))?;
    let options = CreateOptions {
        recursive: recursive(parameters)?,
        existing: existing(parameters)?,
        attributes: value::optional_map(parameters, "attributes")?,
    };
    request.change(server, |cypress, scope| cypress.create(&path, scope, node_type, options).map(node_id))
}

fn link(server: &Server, request: &Request) -> Result<Output, YtError> {
    let parameters = &request.parameters;
    let link_path = request.path("link_path")?;
    let target_path = request.path("target_path")?;
    let mut attributes = value::optional_map(parameters, "attributes")?;
    attributes.insert(b"target_path".to_vec(), value::string(target_path.text()));
    let options =
        CreateOptions { recursive: recursive(parameters)?, existing: existing(parameters)?, attributes };
    request.change(server, |cypress, scope| {
        cypress.create(&link_path, scope, NodeType::Link, options).map(node_id)
    })
}

fn copy(server: &Server, command: Command, request: &Request) -> Result<Output, YtError> {
    let parameters = &request.parameters;
    let (source, destination) = (request.path("source_path")?, request.path("destination_path")?);
    let kind = if command == Command::Move { CopyKind::Move } else { CopyKind::Copy };
    let existing = existing(parameters)?;
    if kind == CopyKind::Move && matches!(existing, Existing::Ignore { .. }) {
        return Err(YtError::generic("\"ignore_existing\" is not allowed in \"move\""));
    }
    let flag = |name| value::flag(parameters, name, false);
    let options = CopyOptions {
        recursive: recursive(parameters)?,
        existing,
        preserve_creation_time: flag("preserve_creation_time")?,
        preserve_modification_time: flag("preserve_modification_time")?,
        preserve_expiration: flag("preserve_expiration_time")? || flag("preserve_expiration_timeout")?,
    };
    request.change(server, |cypress, scope| {
        cypress.copy(&source, &destination, scope, kind, &options).map(node_id)
    })
}

fn lock(server: &Server, request: &Request) -> Result<Output, YtError> {
    let parameters = &request.parameters;
    let path = request.path("path")?;
    let mode = value::optional_str(parameters, "mode")?.unwrap_or("exclusive");
    let mode = LockMode::from_name(mode).ok_or_else(|| {
        YtError::generic(format!("Unknown lock mode {mode:?}: exclusive, shared and snapshot are known"))
    })?;
    let key = match (
        value::optional_str(parameters, "child_key")?,
        value::optional_str(parameters, "attribute_key")?,
    ) {
        (None, None) => LockKey::None,
        (Some(key), None) => LockKey::Child(key.to_owned()),
        (None, Some(key)) => LockKey::Attribute(key.to_owned()),
        (Some(_), Some(_)) => {
            return Err(YtError::generic("Cannot specify both \"child_key\" and \"attribute_key\""));
        }
    };
    let waitable = if value::flag(parameters, "waitable", false)? { Waitable::Yes } else { Waitable::No };
    let lock_request = LockRequest { mode, key, waitable };
    request.change(server, |cypress, scope| {
        let locked = cypress.lock(&path, scope, lock_request)?;
        let lock_id = value::string(locked.lock.to_string());
        Ok(Output::PerVersion {
            v3: lock_id.clone(),
            v4: value::map([
                ("lock_id", lock_id),
                ("node_id", value::string(locked.node.to_string())),
                ("revision", value::uint64(locked.revision)),
            ]),
        })
    })
}

fn concatenate(server: &Server, request: &Request) -> Result<Output, YtError> {
    let sources = value::required(&request.parameters, "source_paths")?;
    let sources = value::as_list(sources)
        .ok_or_else(|| YtError::generic("\"source_paths\" must be a list of paths"))?;
    let mut paths = Vec::new();
    for source in sources {
        let source = RichPath::parse(source)?;
        if source.attributes.contains_key(b"ranges".as_slice())
            || source.attributes.contains_key(b"columns".as_slice())
        {
            return Err(YtError::generic("\"concatenate\" takes no ranges and no columns"));
        }
        paths.push(source.path);
    }
    let destination = RichPath::parse(value::required(&request.parameters, "destination_path")?)?;
    let append = destination.append()?;
    change(server, request, |cypress, scope| cypress.concatenate(&paths, &destination.path, scope, append))
}

/// By the access control lists, which keep nobody from anything else.
fn check_permission(server: &Server, request: &Request) -> Result<Output, YtError> {
    const PERMISSIONS: [&str; 11] = [
        "read",
        "write",
        "use",
        "administer",
        "create",
        "remove",
        "mount",
        "manage",
        "modify_children",
        "register_queue_consumer",
        "full_read",
    ];
    let permission = value::required_str(&request.parameters, "permission")?;
    if !PERMISSIONS.contains(&permission) {
        return Err(YtError::generic(format!("Unknown permission {permission:?}")));
    }
    let user = value::required_str(&request.parameters, "user")?;
    let path = request.path("path")?;
    let answer = request
        .with_cypress(server, |cypress, scope| cypress.check_permission(&path, scope, user, permission))?;
    let action = |word: &str| ("action", value::string(word));
    Ok(Output::Bare(match answer {
        Permission::Allowed => value::map([action("allow")]),
        Permission::NotMentioned => value::map([action("deny")]),
        Permission::Denied { object, path, subject } => value::map([
            action("deny"),
            ("object_id", value::string(object.to_string())),
            ("object_name", value::string(format!("node {path}"))),
            ("subject_name", value::string(subject)),
        ]),
    }))
}
