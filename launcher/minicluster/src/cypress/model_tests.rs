//! Random interleavings of transactions, locks and changes, against a model that is too simple to be wrong in the
//! same way: layers of changes laid over each other, and one list of locks.

use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::*;
use crate::error::{YtError, code};
use crate::value::{self, YsonMap};
use ytsaurus_yson::YsonValue;

const FOLDERS: [&str; 2] = ["a", "b"];
const LEAVES: [&str; 2] = ["x", "y"];
const ATTRIBUTES: [&str; 2] = ["p", "q"];

/// Something below `//tmp`: a folder, or a leaf in it.
#[derive(Debug, Clone, Copy)]
struct Spot {
    folder: &'static str,
    leaf: Option<&'static str>,
}

impl Spot {
    fn path(self) -> String {
        match self.leaf {
            None => format!("//tmp/{}", self.folder),
            Some(leaf) => format!("//tmp/{}/{leaf}", self.folder),
        }
    }
}

/// One request. Transactions are named by the order in which they were started, modulo their number; `None` is
/// outside of any.
#[derive(Debug, Clone)]
enum Step {
    Begin { parent: Option<usize>, timeout: u64 },
    Ping(usize),
    Wait { seconds: u64 },
    Commit(usize),
    Abort(usize),
    Lock { by: usize, spot: Spot, mode: LockMode, key: LockKey, waitable: Waitable },
    CreateFolder { by: Option<usize>, folder: &'static str },
    SetLeaf { by: Option<usize>, folder: &'static str, leaf: &'static str, number: i64 },
    SetAttribute { by: Option<usize>, spot: Spot, name: &'static str, number: i64 },
    RemoveAttribute { by: Option<usize>, spot: Spot, name: &'static str },
    Remove { by: Option<usize>, spot: Spot },
}

fn step() -> impl Strategy<Value = Step> {
    let folder = || prop::sample::select(&FOLDERS[..]);
    let leaf = || prop::sample::select(&LEAVES[..]);
    let name = || prop::sample::select(&ATTRIBUTES[..]);
    let spot = move || (folder(), prop::option::of(leaf())).prop_map(|(folder, leaf)| Spot { folder, leaf });
    let by = || prop::option::weighted(0.75, 0..8_usize);
    let lock = prop_oneof![
        Just((LockMode::Snapshot, LockKey::None)),
        Just((LockMode::Shared, LockKey::None)),
        leaf().prop_map(|key| (LockMode::Shared, LockKey::Child(key.to_owned()))),
        name().prop_map(|key| (LockMode::Shared, LockKey::Attribute(key.to_owned()))),
        Just((LockMode::Exclusive, LockKey::None)),
    ];
    let waitable = prop::sample::select(&[Waitable::No, Waitable::Yes][..]);
    prop_oneof![
        4 => (prop::option::of(0..8_usize), 5..40_u64)
            .prop_map(|(parent, timeout)| Step::Begin { parent, timeout }),
        1 => (0..8_usize).prop_map(Step::Ping),
        1 => (1..12_u64).prop_map(|seconds| Step::Wait { seconds }),
        2 => (0..8_usize).prop_map(Step::Commit),
        1 => (0..8_usize).prop_map(Step::Abort),
        4 => (0..8_usize, spot(), lock, waitable)
            .prop_map(|(by, spot, (mode, key), waitable)| Step::Lock { by, spot, mode, key, waitable }),
        4 => (by(), folder()).prop_map(|(by, folder)| Step::CreateFolder { by, folder }),
        6 => (by(), folder(), leaf(), 0..100_i64)
            .prop_map(|(by, folder, leaf, number)| Step::SetLeaf { by, folder, leaf, number }),
        4 => (by(), spot(), name(), 0..100_i64)
            .prop_map(|(by, spot, name, number)| Step::SetAttribute { by, spot, name, number }),
        2 => (by(), spot(), name()).prop_map(|(by, spot, name)| Step::RemoveAttribute { by, spot, name }),
        3 => (by(), spot()).prop_map(|(by, spot)| Step::Remove { by, spot }),
    ]
}

// === the model ===

/// A node that was created once. 0 is `//tmp`.
type Instance = usize;

/// Changes, or (of the trunk) everything.
#[derive(Debug, Clone, Default)]
struct Layer {
    children: BTreeMap<(Instance, &'static str), Option<Instance>>,
    numbers: BTreeMap<Instance, i64>,
    attributes: BTreeMap<(Instance, &'static str), Option<i64>>,
}

/// A node as it was when its snapshot lock was taken.
#[derive(Debug, Clone)]
struct Frozen {
    children: BTreeMap<&'static str, Instance>,
    number: Option<i64>,
    attributes: BTreeMap<&'static str, i64>,
}

#[derive(Debug)]
struct ModelTransaction {
    id: Guid,
    parent: Option<usize>,
    alive: bool,
    timeout: u64,
    expires_at: u64,
    layer: Layer,
    frozen: BTreeMap<Instance, Frozen>,
}

#[derive(Debug, Clone, PartialEq)]
struct ModelLock {
    id: Option<Guid>,
    node: Instance,
    holder: usize,
    mode: LockMode,
    key: LockKey,
    acquired: bool,
}

#[derive(Debug, Default)]
struct Model {
    trunk: Layer,
    transactions: Vec<ModelTransaction>,
    locks: Vec<ModelLock>,
    instances: usize,
    now: u64,
}

type Verdict = Result<(), i32>;

impl Model {
    fn chain(&self, by: Option<usize>) -> Vec<usize> {
        std::iter::successors(by, |level| self.transactions[*level].parent).collect()
    }

    fn child(&self, by: Option<usize>, parent: Instance, key: &'static str) -> Option<Instance> {
        for level in self.chain(by) {
            let transaction = &self.transactions[level];
            if let Some(frozen) = transaction.frozen.get(&parent) {
                return frozen.children.get(key).copied();
            }
            if let Some(child) = transaction.layer.children.get(&(parent, key)) {
                return *child;
            }
        }
        self.trunk.children.get(&(parent, key)).copied().flatten()
    }

    fn number(&self, by: Option<usize>, node: Instance) -> Option<i64> {
        for level in self.chain(by) {
            let transaction = &self.transactions[level];
            if let Some(frozen) = transaction.frozen.get(&node) {
                return frozen.number;
            }
            if let Some(number) = transaction.layer.numbers.get(&node) {
                return Some(*number);
            }
        }
        self.trunk.numbers.get(&node).copied()
    }

    fn attribute(&self, by: Option<usize>, node: Instance, name: &'static str) -> Option<i64> {
        for level in self.chain(by) {
            let transaction = &self.transactions[level];
            if let Some(frozen) = transaction.frozen.get(&node) {
                return frozen.attributes.get(name).copied();
            }
            if let Some(number) = transaction.layer.attributes.get(&(node, name)) {
                return *number;
            }
        }
        self.trunk.attributes.get(&(node, name)).copied().flatten()
    }

    fn find(&self, by: Option<usize>, spot: Spot) -> Result<Instance, i32> {
        let folder = self.child(by, 0, spot.folder).ok_or(code::RESOLVE_ERROR)?;
        match spot.leaf {
            None => Ok(folder),
            Some(leaf) => self.child(by, folder, leaf).ok_or(code::RESOLVE_ERROR),
        }
    }

    /// What a reader sees, written down.
    fn picture(&self, by: Option<usize>) -> String {
        let mut text = String::new();
        let mut note = |path: String, node: Instance| {
            let attributes = ATTRIBUTES.map(|name| self.attribute(by, node, name));
            writeln!(text, "{path} {attributes:?} {:?}", self.number(by, node)).unwrap();
        };
        for folder in FOLDERS {
            let Some(parent) = self.child(by, 0, folder) else { continue };
            note(folder.to_owned(), parent);
            for leaf in LEAVES {
                if let Some(node) = self.child(by, parent, leaf) {
                    note(format!("{folder}/{leaf}"), node);
                }
            }
        }
        text
    }

    fn layer(&mut self, by: Option<usize>) -> &mut Layer {
        match by {
            None => &mut self.trunk,
            Some(level) => &mut self.transactions[level].layer,
        }
    }

    fn holds(&self, by: usize, node: Instance, mode: LockMode, key: &LockKey) -> bool {
        self.locks.iter().filter(|lock| lock.acquired && lock.node == node && lock.holder == by).any(|lock| {
            match (lock.mode, mode) {
                (LockMode::Snapshot, LockMode::Snapshot)
                | (LockMode::Exclusive, LockMode::Exclusive | LockMode::Shared) => true,
                (LockMode::Shared, LockMode::Shared) => lock.key == *key,
                _ => false,
            }
        })
    }

    fn may_take(&self, by: Option<usize>, node: Instance, mode: LockMode, key: &LockKey) -> Verdict {
        use LockMode::{Exclusive, Shared, Snapshot};
        for lock in self.locks.iter().filter(|lock| lock.acquired && lock.node == node) {
            if by == Some(lock.holder) {
                if (lock.mode == Snapshot) != (mode == Snapshot) {
                    return Err(code::SAME_TRANSACTION_LOCK_CONFLICT);
                }
                continue;
            }
            if self.chain(by).contains(&lock.holder) {
                if lock.mode == Snapshot {
                    return Err(code::SAME_TRANSACTION_LOCK_CONFLICT);
                }
                continue;
            }
            let holder_is_nested = by.is_some_and(|by| self.chain(Some(lock.holder)).contains(&by));
            let collides = match (lock.mode, mode) {
                (Snapshot, _) => false,
                (_, Snapshot) => holder_is_nested,
                (Exclusive, _) | (_, Exclusive) => true,
                (Shared, Shared) => lock.key == *key && *key != LockKey::None,
            };
            if collides && holder_is_nested {
                return Err(code::DESCENDANT_TRANSACTION_LOCK_CONFLICT);
            }
            if collides {
                return Err(code::CONCURRENT_TRANSACTION_LOCK_CONFLICT);
            }
        }
        Ok(())
    }

    fn acquire(&mut self, by: usize, node: Instance, mode: LockMode, key: LockKey, id: Option<Guid>) {
        self.locks.push(ModelLock { id, node, holder: by, mode, key, acquired: true });
        if mode == LockMode::Snapshot && !self.transactions[by].frozen.contains_key(&node) {
            let by_key = |key: &&'static str| Some((*key, self.child(Some(by), node, key)?));
            let children = FOLDERS.iter().chain(&LEAVES).filter_map(by_key).collect();
            let by_name = |name: &&'static str| Some((*name, self.attribute(Some(by), node, name)?));
            let attributes = ATTRIBUTES.iter().filter_map(by_name).collect();
            let frozen = Frozen { children, number: self.number(Some(by), node), attributes };
            self.transactions[by].frozen.insert(node, frozen);
        }
    }

    /// The lock of a change.
    fn change(&mut self, by: Option<usize>, node: Instance, mode: LockMode, key: LockKey) -> Verdict {
        if by.is_some_and(|by| self.holds(by, node, mode, &key)) {
            return Ok(());
        }
        self.may_take(by, node, mode, &key)?;
        if let Some(by) = by {
            self.acquire(by, node, mode, key, None);
        }
        Ok(())
    }

    fn lock(&mut self, by: usize, node: Instance, mode: LockMode, key: &LockKey, wait: Waitable) -> Verdict {
        let waiting = self.locks.iter().any(|lock| !lock.acquired && lock.node == node);
        let verdict = if self.holds(by, node, mode, key) {
            Ok(())
        } else {
            self.may_take(Some(by), node, mode, key).and_then(|()| {
                if waiting && mode != LockMode::Snapshot { Err(code::PENDING_LOCK_CONFLICT) } else { Ok(()) }
            })
        };
        match verdict {
            Ok(()) => self.acquire(by, node, mode, key.clone(), None),
            Err(_) if wait == Waitable::Yes => {
                let key = key.clone();
                self.locks.push(ModelLock { id: None, node, holder: by, mode, key, acquired: false });
            }
            Err(number) => return Err(number),
        }
        Ok(())
    }

    fn serve_waiting(&mut self) {
        for node in 0..=self.instances {
            while let Some(at) = self.locks.iter().position(|lock| !lock.acquired && lock.node == node) {
                let lock = self.locks[at].clone();
                if self.may_take(Some(lock.holder), node, lock.mode, &lock.key).is_err() {
                    break;
                }
                self.locks.remove(at);
                self.acquire(lock.holder, node, lock.mode, lock.key, lock.id);
            }
        }
    }

    fn end(&mut self, which: usize, commit: bool) {
        for nested in 0..self.transactions.len() {
            if self.transactions[nested].alive && self.transactions[nested].parent == Some(which) {
                self.end(nested, false);
            }
        }
        let transaction = &mut self.transactions[which];
        transaction.alive = false;
        transaction.frozen.clear();
        let (parent, layer) = (transaction.parent, std::mem::take(&mut transaction.layer));
        if commit {
            let target = self.layer(parent);
            target.children.extend(layer.children);
            target.numbers.extend(layer.numbers);
            target.attributes.extend(layer.attributes);
        }
        self.locks.retain_mut(|lock| match parent.filter(|_| commit) {
            _ if lock.holder != which => true,
            Some(parent) if lock.acquired && lock.mode != LockMode::Snapshot => {
                lock.holder = parent;
                true
            }
            _ => false,
        });
        self.serve_waiting();
    }

    fn new_child(&mut self, by: Option<usize>, parent: Instance, key: &'static str) -> Result<Instance, i32> {
        self.change(by, parent, LockMode::Shared, LockKey::Child(key.to_owned()))?;
        self.instances += 1;
        let node = self.instances;
        self.layer(by).children.insert((parent, key), Some(node));
        self.change(by, node, LockMode::Exclusive, LockKey::None)?;
        Ok(node)
    }

    fn set_leaf(
        &mut self,
        by: Option<usize>,
        folder: &'static str,
        leaf: &'static str,
        number: i64,
    ) -> Verdict {
        let parent = self.find(by, Spot { folder, leaf: None })?;
        let node = match self.child(by, parent, leaf) {
            Some(node) => {
                self.change(by, node, LockMode::Exclusive, LockKey::None)?;
                node
            }
            None => self.new_child(by, parent, leaf)?,
        };
        self.layer(by).numbers.insert(node, number);
        Ok(())
    }

    fn set_attribute(
        &mut self,
        by: Option<usize>,
        spot: Spot,
        name: &'static str,
        number: Option<i64>,
    ) -> Verdict {
        let node = self.find(by, spot)?;
        if number.is_none() && self.attribute(by, node, name).is_none() {
            return Err(code::RESOLVE_ERROR);
        }
        self.change(by, node, LockMode::Shared, LockKey::Attribute(name.to_owned()))?;
        self.layer(by).attributes.insert((node, name), number);
        Ok(())
    }

    fn remove(&mut self, by: Option<usize>, spot: Spot) -> Verdict {
        let node = self.find(by, spot)?;
        let (parent, key) = match spot.leaf {
            None => (0, spot.folder),
            Some(leaf) => (self.find(by, Spot { leaf: None, ..spot })?, leaf),
        };
        let below = LEAVES.iter().filter_map(|leaf| self.child(by, node, leaf));
        let all: Vec<Instance> = std::iter::once(node).chain(below).collect();
        let place = LockKey::Child(key.to_owned());
        self.may_take(by, parent, LockMode::Shared, &place)?;
        for node in &all {
            self.may_take(by, *node, LockMode::Exclusive, &LockKey::None)?;
        }
        self.change(by, parent, LockMode::Shared, place)?;
        for node in all {
            self.change(by, node, LockMode::Exclusive, LockKey::None)?;
        }
        self.layer(by).children.insert((parent, key), None);
        Ok(())
    }
}

// === both of them ===

struct Pair {
    model: Model,
    cypress: Cypress,
}

fn path(text: &str) -> YPath {
    YPath::parse(text).unwrap()
}

impl Pair {
    fn new() -> Pair {
        let now = Now { wall_us: 0, monotonic: Duration::ZERO };
        Pair { model: Model::default(), cypress: Cypress::new(now) }
    }

    fn scope(&self, by: Option<usize>) -> Scope<'static> {
        Scope { transaction: by.map(|by| self.model.transactions[by].id), user: "tester" }
    }

    /// The living transaction that a step means.
    fn pick(&self, number: usize) -> Option<usize> {
        let transactions = self.model.transactions.iter().enumerate();
        let alive: Vec<usize> =
            transactions.filter(|(_, transaction)| transaction.alive).map(|(index, _)| index).collect();
        if alive.is_empty() { None } else { Some(alive[number % alive.len()]) }
    }

    /// Does a step in both, and returns both verdicts.
    #[allow(clippy::too_many_lines, reason = "one arm for each kind of step")]
    fn apply(&mut self, step: &Step) -> (Verdict, Verdict) {
        let number = |result: Result<(), YtError>| result.map_err(|error| error.code);
        let pick = |pair: &Pair, by: &Option<usize>| by.and_then(|by| pair.pick(by));
        match step {
            Step::Begin { parent, timeout } => {
                let parent = pick(self, parent);
                let options = TransactionOptions {
                    timeout: Some(Duration::from_secs(*timeout)),
                    ..TransactionOptions::default()
                };
                let id = self.cypress.start_transaction(self.scope(parent), options).unwrap();
                self.model.transactions.push(ModelTransaction {
                    id,
                    parent,
                    alive: true,
                    timeout: *timeout,
                    expires_at: self.model.now + timeout,
                    layer: Layer::default(),
                    frozen: BTreeMap::new(),
                });
                (Ok(()), Ok(()))
            }
            Step::Ping(which) => {
                let Some(which) = self.pick(*which) else { return (Ok(()), Ok(())) };
                let transaction = &mut self.model.transactions[which];
                transaction.expires_at = self.model.now + transaction.timeout;
                (Ok(()), number(self.cypress.ping_transaction(transaction.id, false)))
            }
            Step::Wait { seconds } => {
                self.model.now += seconds;
                let now = self.model.now;
                self.cypress.advance(Now { wall_us: now * 1_000_000, monotonic: Duration::from_secs(now) });
                for which in 0..self.model.transactions.len() {
                    let transaction = &self.model.transactions[which];
                    if transaction.alive && transaction.expires_at <= now {
                        self.model.end(which, false);
                    }
                }
                (Ok(()), Ok(()))
            }
            Step::Commit(which) | Step::Abort(which) => {
                let Some(which) = self.pick(*which) else { return (Ok(()), Ok(())) };
                let (id, commit) = (self.model.transactions[which].id, matches!(step, Step::Commit(_)));
                self.model.end(which, commit);
                let ended = if commit {
                    self.cypress.commit_transaction(id)
                } else {
                    self.cypress.abort_transaction(id)
                };
                (Ok(()), number(ended))
            }
            Step::Lock { by, spot, mode, key, waitable } => {
                let Some(by) = self.pick(*by) else { return (Ok(()), Ok(())) };
                let wanted = self
                    .model
                    .find(Some(by), *spot)
                    .and_then(|node| self.model.lock(by, node, *mode, key, *waitable));
                let request = LockRequest { mode: *mode, key: key.clone(), waitable: *waitable };
                let found = self.cypress.lock(&path(&spot.path()), self.scope(Some(by)), request);
                if let (Ok(()), Ok(locked), Some(lock)) = (wanted, &found, self.model.locks.last_mut()) {
                    lock.id = Some(locked.lock);
                }
                (wanted, found.map(drop).map_err(|error| error.code))
            }
            Step::CreateFolder { by, folder } => {
                let by = pick(self, by);
                let wanted = match self.model.child(by, 0, folder) {
                    Some(_) => Err(code::ALREADY_EXISTS),
                    None => self.model.new_child(by, 0, folder).map(drop),
                };
                let options = CreateOptions {
                    recursive: Recursive::No,
                    existing: Existing::Fail,
                    attributes: YsonMap::new(),
                };
                let at = path(&format!("//tmp/{folder}"));
                let found = self.cypress.create(&at, self.scope(by), NodeType::MapNode, options);
                (wanted, found.map(drop).map_err(|error| error.code))
            }
            Step::SetLeaf { by, folder, leaf, number: new } => {
                let by = pick(self, by);
                let wanted = self.model.set_leaf(by, folder, leaf, *new);
                let at = path(&format!("//tmp/{folder}/{leaf}"));
                (
                    wanted,
                    number(self.cypress.set(&at, self.scope(by), value::int64(*new), Recursive::No, false)),
                )
            }
            Step::SetAttribute { by, spot, name, number: new } => {
                let by = pick(self, by);
                let wanted = self.model.set_attribute(by, *spot, name, Some(*new));
                let at = path(&format!("{}/@{name}", spot.path()));
                (
                    wanted,
                    number(self.cypress.set(&at, self.scope(by), value::int64(*new), Recursive::No, false)),
                )
            }
            Step::RemoveAttribute { by, spot, name } => {
                let by = pick(self, by);
                let wanted = self.model.set_attribute(by, *spot, name, None);
                let at = path(&format!("{}/@{name}", spot.path()));
                (wanted, number(self.cypress.remove(&at, self.scope(by), true, false)))
            }
            Step::Remove { by, spot } => {
                let by = pick(self, by);
                let wanted = self.model.remove(by, *spot);
                (wanted, number(self.cypress.remove(&path(&spot.path()), self.scope(by), true, false)))
            }
        }
    }

    /// Does a step whatever comes of it.
    fn both(&mut self, step: &Step) {
        let (wanted, found) = self.apply(step);
        assert_eq!(found, wanted, "{step:?}");
    }

    /// What a reader sees in Cypress, written down as the model does.
    fn picture(&mut self, by: Option<usize>) -> String {
        let filter = AttributeFilter::Named(ATTRIBUTES.map(str::to_owned).to_vec());
        let tree = self.cypress.get(&path("//tmp"), self.scope(by), &filter).unwrap();
        let mut text = String::new();
        let mut note = |path: String, node: &YsonValue| {
            let attributes = ATTRIBUTES.map(|name| node.attr(name).and_then(value::as_i64));
            writeln!(text, "{path} {attributes:?} {:?}", value::as_i64(node)).unwrap();
        };
        for (folder, node) in value::as_map(&tree).unwrap() {
            let folder = String::from_utf8_lossy(folder).into_owned();
            note(folder.clone(), node);
            for (leaf, node) in value::as_map(node).unwrap() {
                note(format!("{folder}/{}", String::from_utf8_lossy(leaf)), node);
            }
        }
        text
    }

    fn readers(&self) -> Vec<Option<usize>> {
        let alive = (0..self.model.transactions.len()).filter(|which| self.model.transactions[*which].alive);
        std::iter::once(None).chain(alive.map(Some)).collect()
    }

    /// Whether somebody can still get at a node by its path.
    fn is_reachable(&self, node: Instance) -> bool {
        self.readers().into_iter().any(|by| {
            FOLDERS.iter().filter_map(|folder| self.model.child(by, 0, folder)).any(|folder| {
                folder == node || LEAVES.iter().any(|leaf| self.model.child(by, folder, leaf) == Some(node))
            })
        })
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        for by in self.readers() {
            prop_assert_eq!(self.picture(by), self.model.picture(by), "seen by {:?}", by);
        }
        for lock in self.model.locks.clone() {
            let Some(id) = lock.id.filter(|_| self.is_reachable(lock.node)) else { continue };
            let at = path(&format!("#{id}/@state"));
            let state = self.cypress.get(&at, self.scope(None), &AttributeFilter::None).unwrap();
            let wanted = if lock.acquired { "acquired" } else { "pending" };
            prop_assert_eq!(state.as_str(), Some(wanted), "lock {:?}", lock);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn transactions_and_locks_do_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let mut pair = Pair::new();
        for (number, step) in steps.iter().enumerate() {
            let (wanted, found) = pair.apply(step);
            prop_assert_eq!(found, wanted, "step {}: {:?}", number, step);
            pair.check()?;
        }
        // Nothing is left behind once all transactions are gone and everything is removed.
        pair.both(&Step::Wait { seconds: 100 });
        pair.check()?;
        for folder in FOLDERS {
            pair.both(&Step::Remove { by: None, spot: Spot { folder, leaf: None } });
        }
        let cypress = &pair.cypress;
        prop_assert_eq!((cypress.transactions.len(), cypress.locks.len()), (0, 0));
        prop_assert_eq!(cypress.nodes.len(), Cypress::new(cypress.now).nodes.len(), "nodes that nobody can reach");
    }
}

/// The model itself is right about the simplest things.
#[test]
fn the_model_isolates_and_merges() {
    let mut pair = Pair::new();
    let (folder, leaf) = ("a", "x");
    for (step, wanted) in [
        (Step::Begin { parent: None, timeout: 30 }, Ok(())),
        (Step::Begin { parent: None, timeout: 30 }, Ok(())),
        (Step::CreateFolder { by: Some(0), folder }, Ok(())),
        (Step::CreateFolder { by: Some(1), folder }, Err(code::CONCURRENT_TRANSACTION_LOCK_CONFLICT)),
        (Step::SetLeaf { by: Some(0), folder, leaf, number: 5 }, Ok(())),
        (Step::SetLeaf { by: None, folder, leaf, number: 6 }, Err(code::RESOLVE_ERROR)),
    ] {
        assert_eq!(pair.apply(&step), (wanted, wanted), "{step:?}");
    }
    assert_eq!((pair.model.picture(None), pair.picture(None)), (String::new(), String::new()));
    pair.both(&Step::Commit(0));
    let text = "a [None, None] None\na/x [None, None] Some(5)\n".to_owned();
    assert_eq!((pair.model.picture(None), pair.picture(None)), (text.clone(), text));
}
