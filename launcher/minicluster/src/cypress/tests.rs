//! The rules of the tree, of transactions and of locks, without a server around them.

use super::*;
use crate::error::YtError;
use crate::formats::yson;
use crate::value::{self, YsonMap};
use ytsaurus_yson::YsonValue;

struct World {
    cypress: Cypress,
    seconds: u64,
}

fn path(text: &str) -> YPath {
    YPath::parse(text).unwrap()
}

fn value_of(text: &str) -> YsonValue {
    yson::parse(text.as_bytes()).unwrap()
}

fn scope(transaction: Option<Guid>) -> Scope<'static> {
    Scope { transaction, user: "tester" }
}

impl World {
    fn new() -> World {
        let mut world = World {
            cypress: Cypress::new(Now { wall_us: 0, monotonic: Duration::ZERO }),
            seconds: 1_000_000,
        };
        world.wait(0);
        world
    }

    fn wait(&mut self, seconds: u64) {
        self.seconds += seconds;
        let now = Now { wall_us: self.seconds * 1_000_000, monotonic: Duration::from_secs(self.seconds) };
        self.cypress.advance(now);
    }

    fn begin(&mut self, parent: Option<Guid>) -> Guid {
        self.begin_for(parent, 30, &[])
    }

    fn begin_for(&mut self, parent: Option<Guid>, timeout: u64, prerequisites: &[Guid]) -> Guid {
        let options = TransactionOptions {
            timeout: Some(Duration::from_secs(timeout)),
            prerequisites: prerequisites.to_vec(),
            ..TransactionOptions::default()
        };
        self.cypress.start_transaction(scope(parent), options).unwrap()
    }

    fn create(&mut self, at: &str, transaction: Option<Guid>, node_type: NodeType) -> Result<Guid, YtError> {
        let options =
            CreateOptions { recursive: Recursive::No, existing: Existing::Fail, attributes: YsonMap::new() };
        self.cypress.create(&path(at), scope(transaction), node_type, options)
    }

    fn set(&mut self, at: &str, transaction: Option<Guid>, text: &str) -> Result<(), YtError> {
        self.cypress.set(&path(at), scope(transaction), value_of(text), Recursive::No, false)
    }

    fn get(&mut self, at: &str, transaction: Option<Guid>) -> Result<String, YtError> {
        let got = self.cypress.get(&path(at), scope(transaction), &AttributeFilter::None)?;
        Ok(String::from_utf8(yson::to_text(&got)?).unwrap())
    }

    fn remove(&mut self, at: &str, transaction: Option<Guid>) -> Result<(), YtError> {
        self.cypress.remove(&path(at), scope(transaction), true, false)
    }

    fn lock(
        &mut self,
        at: &str,
        transaction: Guid,
        mode: LockMode,
        waitable: Waitable,
    ) -> Result<Locked, YtError> {
        let request = LockRequest { mode, key: LockKey::None, waitable };
        self.cypress.lock(&path(at), scope(Some(transaction)), request)
    }

    fn write(
        &mut self,
        at: &str,
        transaction: Option<Guid>,
        append: Append,
        rows: &str,
    ) -> Result<(), YtError> {
        let schema = self.cypress.table(&path(at), scope(transaction))?.schema;
        let rows = CheckedRows::new(yson::encode_rows(rows.as_bytes()).unwrap(), schema)?;
        self.cypress.write_table(&path(at), scope(transaction), append, rows)
    }

    fn lock_state(&mut self, lock: Guid) -> String {
        self.get(&format!("#{lock}/@state"), None).unwrap()
    }
}

// === the tree ===

#[test]
fn set_makes_nodes_by_the_type_of_the_value() {
    let mut world = World::new();
    for (text, node_type) in [
        ("x", "string_node"),
        ("-5", "int64_node"),
        ("5u", "uint64_node"),
        ("1.5", "double_node"),
        ("%true", "boolean_node"),
        ("{a={b=1}}", "map_node"),
    ] {
        world.set("//tmp/n", None, text).unwrap();
        assert_eq!(world.get("//tmp/n", None).unwrap(), text);
        assert_eq!(world.get("//tmp/n/@type", None).unwrap(), node_type);
        world.remove("//tmp/n", None).unwrap();
    }
    assert!(world.set("//tmp/n", None, "[1]").is_err());
    assert!(world.set("//tmp/n", None, "{a=#}").is_err());
    assert_eq!(world.get("//tmp", None).unwrap(), "{}", "what is refused leaves nothing behind");
}

#[test]
fn set_keeps_types_and_asks_for_force_on_maps() {
    let mut world = World::new();
    world.set("//tmp/n", None, "x").unwrap();
    assert!(world.set("//tmp/n", None, "5").is_err());
    world.set("//tmp/m", None, "{a=1;b={c=2}}").unwrap();
    let error = world.set("//tmp/m", None, "{d=1}").unwrap_err();
    assert_eq!(error.message, "\"set\" command without \"force\" flag is forbidden; use \"create\" instead");
    let id = world.get("//tmp/m/@id", None).unwrap();
    world.cypress.set(&path("//tmp/m"), scope(None), value_of("{d=1}"), Recursive::No, true).unwrap();
    assert_eq!(world.get("//tmp/m", None).unwrap(), "{d=1}");
    assert_eq!(world.get("//tmp/m/@id", None).unwrap(), id);
}

#[test]
fn errors_name_what_is_missing() {
    let mut world = World::new();
    let error = world.get("//tmp/a/b", None).unwrap_err();
    assert_eq!(error.to_string(), "Error resolving path //tmp/a/b: Node //tmp has no child with key \"a\"");
    assert_eq!((error.code, error.inner[0].code), (500, 500));
    let error = world.get("//tmp/@a", None).unwrap_err();
    assert_eq!(error.to_string(), "Error resolving path //tmp/@a: Attribute \"a\" is not found");
    world.set("//tmp/s", None, "x").unwrap();
    assert_eq!(world.create("//tmp/s", None, NodeType::MapNode).unwrap_err().code, 501);
    let error = world.create("//tmp/s/t", None, NodeType::MapNode).unwrap_err();
    assert!(error.to_string().contains("Node //tmp/s cannot have children"), "{error}");
    let error = world.get("#1-2-3-4", None).unwrap_err();
    assert!(error.to_string().ends_with("Unknown cell tag 0"), "{error}");
}

#[test]
fn attributes_are_read_changed_and_written_in_one_step() {
    let mut world = World::new();
    world.set("//tmp/@topology", None, "[{a=1};{a=2}]").unwrap();
    world.set("//tmp/@topology/1", None, "{b=3}").unwrap();
    world.set("//tmp/@topology/0/c", None, "4").unwrap();
    assert_eq!(world.get("//tmp/@topology", None).unwrap(), "[{a=1;c=4};{b=3}]");
    assert!(world.set("//tmp/@topology/2", None, "1").is_err());
    assert!(world.set("//tmp/@nothing/x", None, "1").is_err());
    assert!(world.set("//tmp/@id", None, "x").is_err());
    world.set("//tmp/@", None, "{only=1}").unwrap();
    assert_eq!(world.get("//tmp/@user_attribute_keys", None).unwrap(), "[only]");
    world.remove("//tmp/@only", None).unwrap();
    assert_eq!(world.remove("//tmp/@only", None).unwrap_err().code, 500);
}

#[test]
fn all_attributes_hide_the_opaque_ones() {
    let mut world = World::new();
    let all = world.cypress.get(&path("//tmp/@"), scope(None), &AttributeFilter::None).unwrap();
    assert_eq!(value::get(&all, "path"), Some(&value::entity()));
    assert_eq!(value::get(&all, "type"), Some(&value::string("map_node")));
    let filter = AttributeFilter::Named(vec!["path".into(), "nothing".into()]);
    let some = world.cypress.get(&path("//tmp/@"), scope(None), &filter).unwrap();
    assert_eq!(some, value_of("{path=\"//tmp\"}"));
}

#[test]
fn links_stand_for_their_targets_except_where_they_are_replaced() {
    let mut world = World::new();
    world.set("//tmp/m", None, "{a=1}").unwrap();
    let link = |world: &mut World, at: &str, target: &str| {
        let options = CreateOptions {
            recursive: Recursive::No,
            existing: Existing::Fail,
            attributes: [(b"target_path".to_vec(), value::string(target))].into(),
        };
        world.cypress.create(&path(at), scope(None), NodeType::Link, options).unwrap()
    };
    link(&mut world, "//tmp/l", "//tmp/m");
    assert_eq!(world.get("//tmp/l/a", None).unwrap(), "1");
    assert_eq!(world.get("//tmp/l/@type", None).unwrap(), "map_node");
    assert_eq!(world.get("//tmp/l&/@type", None).unwrap(), "link");
    assert_eq!(world.get("//tmp/l&/@broken", None).unwrap(), "%false");
    world.remove("//tmp/l", None).unwrap();
    assert_eq!(world.get("//tmp/m", None).unwrap(), "{a=1}");
    link(&mut world, "//tmp/x", "//tmp/y");
    link(&mut world, "//tmp/y", "//tmp/x");
    assert!(world.get("//tmp/x", None).is_err());
    assert!(!world.cypress.exists(&path("//tmp/x/z"), scope(None)).unwrap());
    assert_eq!(world.get("//tmp/x&/@broken", None).unwrap(), "%true");
}

#[test]
fn copies_and_moves_take_everything_with_them() {
    let mut world = World::new();
    world.set("//tmp/a", None, "<x=1>{b=<y=2>{c=3}}").unwrap();
    let options = |existing| CopyOptions {
        recursive: Recursive::Yes,
        existing,
        preserve_creation_time: false,
        preserve_modification_time: false,
        preserve_expiration: false,
    };
    let copy = |world: &mut World, from: &str, to: &str, kind, existing| {
        world.cypress.copy(&path(from), &path(to), scope(None), kind, &options(existing))
    };
    copy(&mut world, "//tmp/a", "//tmp/p/q", CopyKind::Copy, Existing::Fail).unwrap();
    assert_eq!(world.get("//tmp/p/q/b/c", None).unwrap(), "3");
    assert_eq!(world.get("//tmp/p/q/b/@y", None).unwrap(), "2");
    copy(&mut world, "//tmp/a", "//tmp/z", CopyKind::Move, Existing::Fail).unwrap();
    assert!(world.get("//tmp/a", None).is_err());
    assert_eq!(world.get("//tmp/z", None).unwrap(), "{b={c=3}}");
    assert_eq!(copy(&mut world, "//tmp/z", "//tmp/p", CopyKind::Copy, Existing::Fail).unwrap_err().code, 501);
    for (from, to) in [("//tmp/z", "//tmp/z"), ("//tmp/z", "//tmp/z/b/d"), ("//tmp/p/q", "//tmp/p")] {
        assert!(copy(&mut world, from, to, CopyKind::Copy, Existing::Replace).is_err(), "{from} {to}");
    }
    assert_eq!(world.get("//tmp", None).unwrap(), "{p={q={b={c=3}}};z={b={c=3}}}");
}

#[test]
fn removed_trees_are_forgotten_whole() {
    let mut world = World::new();
    let before = world.cypress.nodes.len();
    world.set("//tmp/a", None, "{b={c={d=1};e=2}}").unwrap();
    world.remove("//tmp/a", None).unwrap();
    let transaction = world.begin(None);
    world.set("//tmp/a", Some(transaction), "{b={c={d=1};e=2}}").unwrap();
    world.remove("//tmp/a/b/c", Some(transaction)).unwrap();
    world.cypress.commit_transaction(transaction).unwrap();
    assert_eq!(world.get("//tmp/a", None).unwrap(), "{b={e=2}}");
    let transaction = world.begin(None);
    world.remove("//tmp/a", Some(transaction)).unwrap();
    world.cypress.commit_transaction(transaction).unwrap();
    let transaction = world.begin(None);
    world.set("//tmp/a", Some(transaction), "{b={c={d=1};e=2}}").unwrap();
    world.cypress.abort_transaction(transaction).unwrap();
    assert_eq!(world.cypress.nodes.len(), before);
    assert!(world.cypress.locks.is_empty());
}

#[test]
fn system_nodes_stay() {
    let mut world = World::new();
    for at in ["/", "//tmp", "//sys", "//home", "//sys/transactions"] {
        assert!(world.remove(at, None).is_err(), "{at}");
    }
    assert!(world.create("//sys/transactions/x", None, NodeType::MapNode).is_err());
}

#[test]
fn trees_have_a_limit_of_depth() {
    let mut world = World::new();
    let deep = format!("//tmp{}", "/a".repeat(500));
    let result = world.cypress.set(&path(&deep), scope(None), value_of("1"), Recursive::Yes, false);
    assert!(result.unwrap_err().message.contains("Depth limit"));
}

#[test]
fn the_deepest_tree_with_the_deepest_values_fits_the_stack() {
    let mut world = World::new();
    let deepest = format!("//tmp{}", "/a".repeat(127));
    world.cypress.set(&path(&deepest), scope(None), value_of("{}"), Recursive::Yes, false).unwrap();
    let value = format!("{}{}", "[".repeat(120), "]".repeat(120));
    world.set(&format!("{deepest}/@v"), None, &value).unwrap();
    for _ in 0..20 {
        let inner = "/0".repeat(119);
        let _ = world.set(&format!("{deepest}/@v{inner}/end"), None, &value);
    }
    let all = world.cypress.get(&path("/"), scope(None), &AttributeFilter::Named(vec!["v".into()])).unwrap();
    yson::to_text(&all).unwrap();
    crate::formats::json::write(&all, crate::formats::json::Strings::Utf8).unwrap();
    world.get("//sys/@recursive_resource_usage", None).unwrap();
    world.get("//tmp/@recursive_resource_usage", None).unwrap();
    world.remove("//tmp/a", None).unwrap();
}

#[test]
fn nodes_expire_unless_somebody_holds_them() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.set(&format!("//tmp/{name}"), None, "x").unwrap();
        world.set(&format!("//tmp/{name}/@expiration_timeout"), None, "10000").unwrap();
    }
    let transaction = world.begin_for(None, 1000, &[]);
    world.lock("//tmp/c", transaction, LockMode::Exclusive, Waitable::No).unwrap();
    world.wait(6);
    world.get("//tmp/b", None).unwrap();
    world.wait(6);
    assert_eq!(world.get("//tmp", None).unwrap(), "{b=x;c=x}", "an access renews the timeout");
}

// === transactions ===

#[test]
fn changes_are_seen_inside_and_move_up_level_by_level() {
    let mut world = World::new();
    world.set("//tmp/v", None, "old").unwrap();
    let outer = world.begin(None);
    let inner = world.begin(Some(outer));
    world.set("//tmp/v", Some(inner), "new").unwrap();
    world.set("//tmp/@a", Some(inner), "1").unwrap();
    world.set("//tmp/m", Some(inner), "{k=1}").unwrap();
    let see = |world: &mut World, transaction| {
        (
            world.get("//tmp/v", transaction).unwrap(),
            world.get("//tmp/@a", transaction).ok(),
            world.get("//tmp/m/k", transaction).ok(),
        )
    };
    let (old, new) = (("old".to_owned(), None, None), ("new".to_owned(), Some("1".into()), Some("1".into())));
    assert_eq!(see(&mut world, Some(inner)), new);
    assert_eq!(see(&mut world, Some(outer)), old);
    world.cypress.commit_transaction(inner).unwrap();
    assert_eq!(see(&mut world, Some(outer)), new);
    assert_eq!(see(&mut world, None), old);
    world.cypress.commit_transaction(outer).unwrap();
    assert_eq!(see(&mut world, None), new);
}

#[test]
fn an_abort_undoes_everything() {
    let mut world = World::new();
    world.set("//tmp/a", None, "<x=1>{b=1}").unwrap();
    let transaction = world.begin(None);
    world.set("//tmp/a/@x", Some(transaction), "2").unwrap();
    world.remove("//tmp/a/b", Some(transaction)).unwrap();
    world.set("//tmp/a/c", Some(transaction), "3").unwrap();
    assert_eq!(world.get("//tmp/a", Some(transaction)).unwrap(), "{c=3}");
    world.cypress.abort_transaction(transaction).unwrap();
    assert_eq!(world.get("//tmp/a", None).unwrap(), "{b=1}");
    assert_eq!(world.get("//tmp/a/@x", None).unwrap(), "1");
    world.cypress.abort_transaction(transaction).unwrap();
    assert_eq!(world.cypress.commit_transaction(transaction).unwrap_err().code, 11000);
}

#[test]
fn a_node_of_a_transaction_is_nobody_elses_by_id_either() {
    let mut world = World::new();
    let transaction = world.begin(None);
    let id = world.create("//tmp/n", Some(transaction), NodeType::MapNode).unwrap();
    assert!(world.get(&format!("#{id}"), Some(transaction)).is_ok());
    assert!(world.get(&format!("#{id}"), None).is_err());
    world.cypress.commit_transaction(transaction).unwrap();
    assert!(world.get(&format!("#{id}"), None).is_ok());
}

#[test]
fn a_transaction_ends_when_nobody_pings() {
    let mut world = World::new();
    let outer = world.begin_for(None, 10, &[]);
    let inner = world.begin_for(Some(outer), 10, &[]);
    world.wait(6);
    world.cypress.ping_transaction(inner, true).unwrap();
    world.wait(6);
    assert!(world.cypress.is_alive(outer) && world.cypress.is_alive(inner));
    world.cypress.ping_transaction(inner, false).unwrap();
    world.wait(6);
    assert!(
        !world.cypress.is_alive(outer) && !world.cypress.is_alive(inner),
        "the parent takes its children along"
    );
    let error = world.get("//tmp", Some(inner)).unwrap_err();
    assert_eq!((error.code, error.inner[0].code), (500, 11000));
    assert_eq!(world.cypress.ping_transaction(inner, false).unwrap_err().code, 11000);
    let mut ended = world.cypress.take_ended();
    ended.sort();
    let mut expected = vec![outer, inner];
    expected.sort();
    assert_eq!(ended, expected);
    assert_eq!(world.cypress.next_deadline(), None);
}

#[test]
fn a_commit_aborts_what_is_still_nested() {
    let mut world = World::new();
    let outer = world.begin(None);
    let inner = world.begin(Some(outer));
    world.set("//tmp/@a", Some(outer), "1").unwrap();
    world.set("//tmp/@b", Some(inner), "1").unwrap();
    world.cypress.commit_transaction(outer).unwrap();
    assert_eq!(world.get("//tmp/@user_attribute_keys", None).unwrap(), "[a]");
    assert!(!world.cypress.is_alive(inner));
}

#[test]
fn dependents_end_with_their_prerequisites() {
    let mut world = World::new();
    let first = world.begin(None);
    let second = world.begin_for(None, 30, &[first]);
    let third = world.begin_for(None, 30, &[second]);
    world.cypress.check_prerequisites(&[first, third]).unwrap();
    world.cypress.abort_transaction(first).unwrap();
    assert!(!world.cypress.is_alive(second) && !world.cypress.is_alive(third));
    let error = world.cypress.check_prerequisites(&[first]).unwrap_err();
    assert_eq!(error.code, 1000);
    assert_eq!(error.message, format!("Prerequisite check failed: transaction {first} is missing"));
}

// === locks ===

#[test]
fn who_conflicts_with_whom() {
    use LockMode::{Exclusive, Shared, Snapshot};
    let child = |key: &str| LockKey::Child(key.to_owned());
    let attribute = |key: &str| LockKey::Attribute(key.to_owned());
    let none = || LockKey::None;
    for (held, held_key, new, new_key, wanted) in [
        (Exclusive, none(), Exclusive, none(), Some(402)),
        (Exclusive, none(), Shared, none(), Some(402)),
        (Exclusive, none(), Shared, child("a"), Some(402)),
        (Exclusive, none(), Snapshot, none(), None),
        (Shared, none(), Exclusive, none(), Some(402)),
        (Shared, none(), Shared, none(), None),
        (Shared, child("a"), Shared, child("a"), Some(402)),
        (Shared, child("a"), Shared, child("b"), None),
        (Shared, child("a"), Shared, attribute("a"), None),
        (Shared, attribute("a"), Shared, attribute("a"), Some(402)),
        (Shared, attribute("a"), Exclusive, none(), Some(402)),
        (Snapshot, none(), Exclusive, none(), None),
    ] {
        let mut world = World::new();
        let (holder, other) = (world.begin(None), world.begin(None));
        let take = |world: &mut World, transaction, mode, key| {
            let request = LockRequest { mode, key, waitable: Waitable::No };
            world.cypress.lock(&path("//tmp"), scope(Some(transaction)), request)
        };
        take(&mut world, holder, held, held_key.clone()).unwrap();
        let conflict = take(&mut world, other, new, new_key.clone()).err().map(|error| error.code);
        assert_eq!(conflict, wanted, "{held:?} {held_key:?} against {new:?} {new_key:?}");
        world.cypress.abort_transaction(other).unwrap();
        let nested = world.begin(Some(holder));
        let nested_result = take(&mut world, nested, new, new_key).err().map(|error| error.code);
        let expected = if held == Snapshot { Some(400) } else { None };
        assert_eq!(nested_result, expected, "nested, {held:?} against {new:?}");
    }
}

#[test]
fn a_conflict_names_the_winner() {
    let mut world = World::new();
    world.set("//tmp/d", None, "x").unwrap();
    let (winner, loser) = (world.begin(None), world.begin(None));
    world.lock("//tmp/d", winner, LockMode::Exclusive, Waitable::No).unwrap();
    let error = world.lock("//tmp/d", loser, LockMode::Exclusive, Waitable::No).unwrap_err();
    let wanted = format!(
        "Cannot take \"exclusive\" lock for node //tmp/d since \"exclusive\" lock is taken by concurrent transaction {winner}"
    );
    assert_eq!((error.code, error.message.as_str()), (402, wanted.as_str()));
    let id = value::get(&error.attributes["winner_transaction"], "id");
    assert_eq!(id.and_then(YsonValue::as_str), Some(winner.to_string().as_str()));
    assert_eq!(
        world.set("//tmp/d", None, "y").unwrap_err().code,
        402,
        "writes outside transactions conflict, too"
    );
    assert_eq!(world.remove("//tmp/d", None).unwrap_err().code, 402);
}

#[test]
fn changes_lock_no_more_than_they_touch() {
    let mut world = World::new();
    let (first, second) = (world.begin(None), world.begin(None));
    world.set("//tmp/@a", Some(first), "1").unwrap();
    world.set("//tmp/@b", Some(second), "1").unwrap();
    world.create("//tmp/x", Some(first), NodeType::MapNode).unwrap();
    world.create("//tmp/y", Some(second), NodeType::MapNode).unwrap();
    assert_eq!(world.set("//tmp/@a", Some(second), "2").unwrap_err().code, 402);
    assert_eq!(world.create("//tmp/x", Some(second), NodeType::MapNode).unwrap_err().code, 402);
    world.cypress.commit_transaction(first).unwrap();
    world.cypress.commit_transaction(second).unwrap();
    assert_eq!(world.get("//tmp", None).unwrap(), "{x={};y={}}");
    assert_eq!(world.get("//tmp/@user_attribute_keys", None).unwrap(), "[a;b]");
}

#[test]
fn waiting_locks_are_served_in_order() {
    let mut world = World::new();
    let transactions: Vec<Guid> = (0..4).map(|_| world.begin(None)).collect();
    let locks: Vec<Locked> = transactions
        .iter()
        .map(|transaction| world.lock("//tmp", *transaction, LockMode::Exclusive, Waitable::Yes).unwrap())
        .collect();
    assert_eq!(world.lock_state(locks[0].lock), "acquired");
    assert_eq!((world.lock_state(locks[1].lock).as_str(), locks[1].revision), ("pending", 0));
    let other = world.begin(None);
    assert_eq!(world.lock("//tmp", other, LockMode::Exclusive, Waitable::No).unwrap_err().code, 402);
    world.cypress.abort_transaction(transactions[2]).unwrap();
    world.cypress.commit_transaction(transactions[0]).unwrap();
    assert_eq!(world.lock_state(locks[1].lock), "acquired");
    assert_eq!(world.lock_state(locks[3].lock), "pending");
    world.cypress.unlock(&path("//tmp"), scope(Some(transactions[1]))).unwrap();
    assert_eq!(world.lock_state(locks[3].lock), "acquired");
}

#[test]
fn nobody_overtakes_those_who_wait() {
    let mut world = World::new();
    let (reader, writer, late) = (world.begin(None), world.begin(None), world.begin(None));
    world.lock("//tmp", reader, LockMode::Shared, Waitable::No).unwrap();
    world.lock("//tmp", writer, LockMode::Exclusive, Waitable::Yes).unwrap();
    assert_eq!(world.lock("//tmp", late, LockMode::Shared, Waitable::No).unwrap_err().code, 403);
    let waiting = world.lock("//tmp", late, LockMode::Shared, Waitable::Yes).unwrap();
    assert_eq!(world.lock_state(waiting.lock), "pending");
    let fourth = world.begin(None);
    world.lock("//tmp", fourth, LockMode::Snapshot, Waitable::No).unwrap();
}

#[test]
fn a_lock_is_released_by_expiry_alone() {
    let mut world = World::new();
    let (dead, next) = (world.begin_for(None, 10, &[]), world.begin_for(None, 100, &[]));
    world.lock("//tmp", dead, LockMode::Exclusive, Waitable::No).unwrap();
    let waiting = world.lock("//tmp", next, LockMode::Exclusive, Waitable::Yes).unwrap();
    world.wait(9);
    assert_eq!(world.lock_state(waiting.lock), "pending");
    world.wait(2);
    assert_eq!(world.lock_state(waiting.lock), "acquired");
}

#[test]
fn locks_pass_to_the_parent_at_a_commit() {
    let mut world = World::new();
    let outer = world.begin(None);
    let inner = world.begin(Some(outer));
    world.lock("//tmp", inner, LockMode::Exclusive, Waitable::No).unwrap();
    let error = world.lock("//tmp", outer, LockMode::Exclusive, Waitable::No).unwrap_err();
    assert_eq!(error.code, 401);
    world.cypress.commit_transaction(inner).unwrap();
    assert_eq!(world.get("//tmp/@lock_mode", Some(outer)).unwrap(), "exclusive");
    assert_eq!(world.set("//tmp/@a", None, "1").unwrap_err().code, 402);
    world.cypress.commit_transaction(outer).unwrap();
    world.set("//tmp/@a", None, "1").unwrap();
}

#[test]
fn a_snapshot_keeps_what_it_saw_even_when_the_node_is_gone() {
    let mut world = World::new();
    world.set("//tmp/d", None, "<a=1>{k=1}").unwrap();
    let reader = world.begin(None);
    let id = world.lock("//tmp/d", reader, LockMode::Snapshot, Waitable::No).unwrap().node;
    world.set("//tmp/d/@a", None, "2").unwrap();
    world.set("//tmp/d/l", None, "2").unwrap();
    assert_eq!(world.get("//tmp/d/@a", Some(reader)).unwrap(), "1");
    assert_eq!(world.get("//tmp/d", Some(reader)).unwrap(), "{k=1}");
    assert_eq!(world.set("//tmp/d/@a", Some(reader), "3").unwrap_err().code, 400);
    world.remove("//tmp/d", None).unwrap();
    assert_eq!(world.get(&format!("#{id}/@a"), Some(reader)).unwrap(), "1");
    assert!(world.get(&format!("#{id}/@a"), None).is_err());
    world.cypress.commit_transaction(reader).unwrap();
    assert!(!world.cypress.nodes.contains_key(&id));
}

#[test]
fn a_frozen_folder_keeps_its_children() {
    let mut world = World::new();
    world.set("//tmp/d", None, "{k=1;l={m=2}}").unwrap();
    let nodes = world.cypress.nodes.len();
    let reader = world.begin(None);
    world.lock("//tmp/d", reader, LockMode::Snapshot, Waitable::No).unwrap();
    world.remove("//tmp/d/k", None).unwrap();
    world.remove("//tmp/d/l", None).unwrap();
    assert_eq!(world.get("//tmp/d", Some(reader)).unwrap(), "{k=1;l={m=2}}");
    assert_eq!(world.get("//tmp/d/l/m", Some(reader)).unwrap(), "2");
    assert_eq!(world.get("//tmp/d", None).unwrap(), "{}");
    world.cypress.abort_transaction(reader).unwrap();
    assert_eq!(world.cypress.nodes.len(), nodes - 3, "nobody sees them any more");
}

#[test]
fn a_node_cannot_be_frozen_over_changes_that_are_still_to_come() {
    let mut world = World::new();
    world.set("//tmp/n", None, "1").unwrap();
    let outer = world.begin(None);
    let inner = world.begin(Some(outer));
    world.set("//tmp/n", Some(inner), "2").unwrap();
    let error = world.lock("//tmp/n", outer, LockMode::Snapshot, Waitable::No).unwrap_err();
    assert_eq!(error.code, 401);
    assert!(error.message.contains("taken by descendant transaction"), "{error}");
    world.cypress.commit_transaction(inner).unwrap();
    assert_eq!(world.get("//tmp/n", Some(outer)).unwrap(), "2");
}

#[test]
fn an_expired_node_that_is_locked_goes_when_it_is_not() {
    let mut world = World::new();
    world.set("//tmp/n", None, "1").unwrap();
    let holder = world.begin_for(None, 3000, &[]);
    world.lock("//tmp/n", holder, LockMode::Exclusive, Waitable::No).unwrap();
    world.set("//tmp/n/@expiration_timeout", Some(holder), "5000").unwrap();
    world.wait(10);
    assert_eq!(world.get("//tmp/n", None).unwrap(), "1", "not committed yet");
    world.cypress.commit_transaction(holder).unwrap();
    let holder = world.begin_for(None, 3000, &[]);
    world.lock("//tmp/n", holder, LockMode::Exclusive, Waitable::No).unwrap();
    world.wait(10);
    assert_eq!(world.get("//tmp/n", None).unwrap(), "1", "locked");
    world.cypress.abort_transaction(holder).unwrap();
    assert!(world.cypress.wake_at().is_some(), "it is tried again");
    world.wait(10);
    assert!(world.get("//tmp/n", None).is_err());
}

#[test]
fn a_forced_set_that_is_refused_changes_nothing() {
    let mut world = World::new();
    world.set("//tmp/m", None, "{a=1}").unwrap();
    let refused =
        world.cypress.set(&path("//tmp/m"), scope(None), value_of("{b=2;c=[]}"), Recursive::No, true);
    assert!(refused.is_err());
    assert_eq!(world.get("//tmp/m", None).unwrap(), "{a=1}");
}

// === tables ===

#[test]
fn appends_of_two_transactions_both_land() {
    let mut world = World::new();
    world.create("//tmp/t", None, NodeType::Table).unwrap();
    let (first, second) = (world.begin(None), world.begin(None));
    let nested = world.begin(Some(first));
    for (transaction, text) in [(nested, "{n=1}"), (second, "{n=2}"), (nested, "{n=3}")] {
        world.write("//tmp/t", Some(transaction), Append::Yes, text).unwrap();
    }
    let count = |world: &mut World, transaction| world.get("//tmp/t/@row_count", transaction).unwrap();
    assert_eq!((count(&mut world, Some(nested)), count(&mut world, None)), ("2".to_owned(), "0".to_owned()));
    let overwrite = world.write("//tmp/t", None, Append::No, "{n=9}");
    assert_eq!(overwrite.unwrap_err().code, 402);
    world.cypress.commit_transaction(nested).unwrap();
    world.cypress.commit_transaction(second).unwrap();
    world.cypress.commit_transaction(first).unwrap();
    let table = world.cypress.table(&path("//tmp/t"), scope(None)).unwrap();
    let numbers: Vec<_> = table
        .chunks
        .iter()
        .flat_map(|chunk| chunk.rows.iter())
        .map(|row| crate::formats::rows::decode(row)[b"n".as_slice()].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, [2, 1, 3]);
}

#[test]
fn ranges_select_rows_by_number_and_by_key() {
    let mut world = World::new();
    let options = CreateOptions {
        recursive: Recursive::No,
        existing: Existing::Fail,
        attributes: [(
            b"schema".to_vec(),
            value_of("[{name=a;type=int64;sort_order=ascending};{name=b;type=string;sort_order=ascending}]"),
        )]
        .into(),
    };
    world.cypress.create(&path("//tmp/t"), scope(None), NodeType::Table, options).unwrap();
    world.write("//tmp/t", None, Append::No, "{a=1;b=x};{a=1;b=y};{a=2;b=x}").unwrap();
    world.write("//tmp/t", None, Append::Yes, "{a=3;b=x};{a=3;b=z}").unwrap();
    assert_eq!(world.write("//tmp/t", None, Append::Yes, "{a=3;b=y}").unwrap_err().code, 301);
    let table = world.cypress.table(&path("//tmp/t"), scope(None)).unwrap();
    for (range, wanted) in [
        ("{}", 0..5),
        ("{lower_limit={row_index=1};upper_limit={row_index=3}}", 1..3),
        ("{lower_limit={row_index=-7};upper_limit={row_index=99}}", 0..5),
        ("{lower_limit={row_index=3};upper_limit={row_index=1}}", 3..3),
        ("{exact={row_index=2}}", 2..3),
        ("{lower_limit={key=[1]};upper_limit={key=[3]}}", 0..3),
        ("{lower_limit={key=[1;y]}}", 1..5),
        ("{exact={key=[1]}}", 0..2),
        ("{exact={key=[3;z]}}", 4..5),
        ("{lower_limit={key_bound=[\">\";[1]]}}", 2..5),
        ("{upper_limit={key_bound=[\"<=\";[2]]}}", 0..3),
        ("{lower_limit={key=[1];row_index=1};upper_limit={key=[2]}}", 1..2),
    ] {
        assert_eq!(RowRange::parse(&value_of(range)).unwrap().rows(&table).unwrap(), wanted, "{range}");
    }
}

// === the file cache ===

#[test]
fn the_cache_wants_the_hash_of_the_file() {
    use md5::Digest;
    let mut world = World::new();
    let hash = "900150983cd24fb0d6963f7d28e17f72";
    let cache = "//tmp/cache";
    assert_eq!(world.cypress.file_from_cache(cache, hash, scope(None)).unwrap(), None);
    world.create(cache, None, NodeType::MapNode).unwrap();
    world.create("//tmp/f", None, NodeType::File).unwrap();
    let put = |world: &mut World, md5: &str| {
        world.cypress.put_file_to_cache(&path("//tmp/f"), cache, md5, false, scope(None))
    };
    assert!(put(&mut world, hash).unwrap_err().message.contains("has no MD5 hash"));
    let mut md5 = md5::Md5::new();
    md5.update(b"abc");
    let written = FileContent { md5: Some(FileHash::Growing(md5)), ..FileContent::default() };
    world.cypress.write_file(&path("//tmp/f"), scope(None), Append::No, written, 0).unwrap();
    assert!(put(&mut world, &hash.replace('9', "8")).unwrap_err().message.contains("MD5 hash mismatch"));
    let place = put(&mut world, hash).unwrap();
    assert_eq!(place, format!("{cache}/72/{hash}"));
    assert_eq!(world.cypress.file_from_cache(cache, hash, scope(None)).unwrap(), Some(place.clone()));
    assert_eq!(put(&mut world, hash).unwrap(), place);
    assert_eq!(world.get(&format!("{place}/@touched"), None).unwrap(), "%true");
}

// === hashes of files ===

/// Bytes with the hash over what was there before and them.
fn hashed(storage: &crate::storage::Storage, before: &str, more: &str) -> FileContent {
    use md5::Digest;
    let mut writer = storage.writer().unwrap();
    std::io::Write::write_all(&mut writer, more.as_bytes()).unwrap();
    let mut md5 = md5::Md5::new();
    md5.update(before);
    md5.update(more);
    let data = crate::storage::Content::from_blob(writer.finish());
    FileContent { data, md5: Some(FileHash::Growing(md5)) }
}

#[test]
fn a_hash_is_kept_only_if_the_file_is_what_was_hashed() {
    let folder = tempfile::tempdir().unwrap();
    let storage = crate::storage::Storage::open(folder.path().join("blobs")).unwrap();
    let mut world = World::new();
    world.create("//tmp/f", None, NodeType::File).unwrap();
    let file = path("//tmp/f");
    let revision = |world: &World, by| world.cypress.file(&file, scope(by)).unwrap().1;
    let write = |world: &mut World, by, append, written, revision| {
        world.cypress.write_file(&path("//tmp/f"), scope(by), append, written, revision).unwrap();
    };
    let md5 = |world: &mut World| world.get("//tmp/f/@md5", None);
    write(&mut world, None, Append::No, hashed(&storage, "", "a"), 0);

    // One after the other, in a transaction and outside: right.
    let inner = world.begin(None);
    let seen = revision(&world, Some(inner));
    write(&mut world, Some(inner), Append::Yes, hashed(&storage, "a", "b"), seen);
    let seen = revision(&world, Some(inner));
    write(&mut world, Some(inner), Append::Yes, hashed(&storage, "ab", "c"), seen);
    world.cypress.commit_transaction(inner).unwrap();
    assert_eq!(md5(&mut world).unwrap(), "\"900150983cd24fb0d6963f7d28e17f72\"");

    // Two at once: the second to commit has hashed another file.
    let (first, second) = (world.begin(None), world.begin(None));
    for by in [first, second] {
        let seen = revision(&world, Some(by));
        write(&mut world, Some(by), Append::Yes, hashed(&storage, "abc", "d"), seen);
    }
    world.cypress.commit_transaction(first).unwrap();
    assert_eq!(md5(&mut world).unwrap(), "e2fc714c4727ee9395f324cd2e7f331f");
    world.cypress.commit_transaction(second).unwrap();
    assert!(md5(&mut world).is_err(), "no hash is better than a wrong one");

    // Another file of the same length has come while the bytes did.
    write(&mut world, None, Append::No, hashed(&storage, "", "x"), 0);
    let seen = revision(&world, None);
    write(&mut world, None, Append::No, hashed(&storage, "", "y"), 0);
    write(&mut world, None, Append::Yes, hashed(&storage, "x", "z"), seen);
    assert!(md5(&mut world).is_err(), "no hash is better than a wrong one");
}
