//! The memory of answered mutations: a request that is sent again gets the first answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex as AsyncMutex;

use super::Output;
use crate::error::YtError;
use crate::value::{self, YsonMap};

/// How long answers are kept. The cluster keeps them for five to ten minutes.
const KEPT_FOR: Duration = Duration::from_mins(10);

type Answer = Option<Result<Output, YtError>>;

/// When a mutation came first, and its answer once there is one.
type Known = (Instant, Arc<AsyncMutex<Answer>>);

/// The answers by mutation id.
#[derive(Debug, Default)]
pub(crate) struct Mutations {
    known: Mutex<HashMap<String, Known>>,
}

impl Mutations {
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
            known.retain(|_, (since, _)| since.elapsed() < KEPT_FOR);
            let first = !known.contains_key(id);
            let (_, slot) = known.entry(id.to_owned()).or_insert_with(|| (Instant::now(), Arc::default()));
            (first, Arc::clone(slot))
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
    use super::*;
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
}
