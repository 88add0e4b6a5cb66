//! The memory of answered mutations: a request that is sent again gets the first answer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex as AsyncMutex;

use super::Output;
use crate::error::YtError;
use crate::value::{self, YsonMap};

/// How long answers are kept. The cluster keeps them for five to ten minutes.
const KEPT_FOR: Duration = Duration::from_mins(10);

type Answer = Option<Result<Output, YtError>>;

/// The answer to a mutation once there is one.
type Slot = Arc<AsyncMutex<Answer>>;

/// The answers by mutation id.
#[derive(Debug, Default)]
pub(crate) struct Mutations {
    known: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    answers: HashMap<String, Slot>,
    /// When each mutation came first, oldest first.
    order: VecDeque<(Instant, String)>,
}

impl Memory {
    fn forget_old(&mut self, now: Instant) {
        while let Some((_, id)) =
            self.order.pop_front_if(|(since, _)| now.saturating_duration_since(*since) >= KEPT_FOR)
        {
            self.answers.remove(&id);
        }
    }
}

impl Mutations {
    /// An answer that an earlier server has given. Older ones come first.
    pub(crate) fn remember(&self, id: &str, age: Duration, answer: Result<Output, YtError>) {
        if age >= KEPT_FOR {
            return;
        }
        let now = Instant::now();
        let since = now.checked_sub(age).unwrap_or(now);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.answers.insert(id.to_owned(), Arc::new(AsyncMutex::new(Some(answer))));
        known.order.push_back((since, id.to_owned()));
    }

    /// Runs a mutation, unless its id is known: then the first answer is given again, and waited for if it is not
    /// there yet.
    pub(crate) async fn run<F>(&self, parameters: &YsonMap, mutation: F) -> Result<Output, YtError>
    where
        F: Future<Output = Result<Output, YtError>>,
    {
        let Some(id) = value::optional_str(parameters, "mutation_id")? else { return mutation.await };
        let retry = value::flag(parameters, "retry", false)?;
        let (first, slot) = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            known.forget_old(now);
            if let Some(slot) = known.answers.get(id) {
                (false, Arc::clone(slot))
            } else {
                let slot = Slot::default();
                known.answers.insert(id.to_owned(), Arc::clone(&slot));
                known.order.push_back((now, id.to_owned()));
                (true, slot)
            }
        };
        if !first && !retry {
            return Err(YtError::generic("Duplicate request is not marked as \"retry\"")
                .with_attribute("mutation_id", value::string(id)));
        }
        let mut answer = slot.lock().await;
        if let Some(answer) = &*answer {
            return answer.clone();
        }
        // The first try may have been dropped with its connection before it had an answer: then this one runs.
        let result = mutation.await;
        *answer = Some(result.clone());
        result
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::super::registry::{self, ApiVersion};
    use super::super::{Input, Request, execute};
    use super::*;
    use crate::cypress::{AttributeFilter, Scope, YPath};
    use crate::server::{Server, Tokens};
    use crate::storage::Storage;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn parameters(id: &str, retry: bool) -> YsonMap {
        [("mutation_id", value::string(id)), ("retry", value::boolean(retry))]
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect()
    }

    #[tokio::test]
    async fn a_retry_gets_the_first_answer_and_runs_nothing() {
        let mutations = Mutations::default();
        let runs = AtomicU32::new(0);
        let run = |parameters: YsonMap| {
            let (mutations, runs) = (&mutations, &runs);
            async move {
                let mutation =
                    async { Ok(Output::Bare(value::int64(i64::from(runs.fetch_add(1, Ordering::SeqCst))))) };
                mutations.run(&parameters, mutation).await
            }
        };
        assert_eq!(run(parameters("1-1-1-1", false)).await, Ok(Output::Bare(value::int64(0))));
        assert_eq!(run(parameters("1-1-1-1", true)).await, Ok(Output::Bare(value::int64(0))));
        assert_eq!(run(parameters("2-2-2-2", true)).await, Ok(Output::Bare(value::int64(1))));
        let error = run(parameters("1-1-1-1", false)).await.unwrap_err();
        assert_eq!(error.message, "Duplicate request is not marked as \"retry\"");
        assert_eq!(run(YsonMap::new()).await, Ok(Output::Bare(value::int64(2))));
    }

    #[test]
    fn answers_are_forgotten_one_by_one() {
        let mut memory = Memory::default();
        let start = Instant::now();
        for (id, minutes) in [("1", 0), ("2", 5), ("3", 9)] {
            memory.answers.insert(id.to_owned(), Slot::default());
            memory.order.push_back((start + Duration::from_mins(minutes), id.to_owned()));
        }
        memory.forget_old(start + Duration::from_mins(15));
        assert_eq!(memory.answers.keys().collect::<Vec<_>>(), ["3"]);
    }

    // === against a model ===

    fn server() -> (tempfile::TempDir, Arc<Server>) {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path().join("blobs")).unwrap();
        (folder, Arc::new(Server::new(storage, Tokens::default(), ([127, 0, 0, 1], 1).into())))
    }

    /// Creates `//tmp/<key>`: not the same when it is done twice.
    async fn create(server: &Arc<Server>, key: u8, id: u8, retry: bool) -> Result<Output, YtError> {
        let mut parameters = parameters(&format!("{id}-1-1-1"), retry);
        parameters.insert(b"path".to_vec(), value::string(format!("//tmp/{key}")));
        parameters.insert(b"type".to_vec(), value::string("map_node"));
        let request = Request {
            version: ApiVersion::V4,
            parameters,
            user: "root".to_owned(),
            input: Input::Nothing,
            known_etag: None,
            proxy: String::new(),
            journaled: None,
        };
        execute(server, registry::find(ApiVersion::V4, "create").unwrap(), request).await
    }

    proptest! {
        #![proptest_config(Config { cases: 64, failure_persistence: None, ..Config::default() })]

        /// Requests that come once, again, or twice at the same time, for nodes that may be there already.
        #[test]
        fn every_mutation_is_applied_once(
            requests in prop::collection::vec((0..4_u8, 0..6_u8, any::<bool>(), any::<bool>()), 1..30),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (_folder, server) = server();
            let mut answers = std::collections::BTreeMap::new();
            let mut created = std::collections::BTreeSet::new();
            for (key, id, retry, doubled) in requests {
                let (found, again) = runtime.block_on(async {
                    if doubled {
                        tokio::join!(create(&server, key, id, retry), create(&server, key, id, true))
                    } else {
                        let found = create(&server, key, id, retry).await;
                        (found.clone(), found)
                    }
                });
                match answers.get(&id) {
                    Some(_) if !retry => {
                        prop_assert_eq!(
                            found.unwrap_err().message, "Duplicate request is not marked as \"retry\""
                        );
                    }
                    Some(first) => prop_assert_eq!(&found, first),
                    None => {
                        let wanted = if created.insert(key) { None } else { Some(501) };
                        prop_assert_eq!(found.as_ref().err().map(|error| error.code), wanted);
                        answers.insert(id, found);
                    }
                }
                if doubled {
                    prop_assert_eq!(&again, &answers[&id]);
                }
            }
            let path = YPath::parse("//tmp/@count").unwrap();
            let scope = Scope { transaction: None, user: "root" };
            let count = server.with_cypress(|cypress| cypress.get(&path, scope, &AttributeFilter::None));
            prop_assert_eq!(count.unwrap(), value::count(created.len()));
        }
    }
}
