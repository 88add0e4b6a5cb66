//! `tractorun targets`: where a run's nodes serve metrics, in the form that init's own `/targets` has.

use serde_json::{Value, json};

use super::RunError;
use super::find::Run;

/// Nothing for a run that is over: nobody serves any more.
pub(crate) fn of(run: &Run) -> Result<Value, RunError> {
    let id = || run.operation_id.clone();
    if run.operation.as_ref().is_some_and(super::operation::Operation::is_over) {
        return Ok(json!([]));
    }
    let incarnation = run.incarnation.as_ref().filter(|incarnation| !incarnation.workers.is_empty());
    let incarnation = incarnation.ok_or_else(|| RunError::NotMet { id: id() })?;
    if incarnation.metrics.is_empty() {
        return Err(RunError::NoMetrics { id: id() });
    }
    let ranks = incarnation.metrics.iter().enumerate();
    Ok(ranks
        .filter_map(|(node_rank, address)| {
            Some(json!({
                "targets": [address.as_ref()?],
                "labels": {"__meta_tractorun_node_rank": node_rank.to_string()},
            }))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use tractorun_contract::topology::WorkerAddress;

    use super::super::find::Incarnation;
    use super::*;

    #[test]
    fn nodes_without_metrics_are_left_out() {
        let workers = vec![WorkerAddress { address: "a:1".into(), job_id: "j".into() }];
        let metrics = vec![Some("a:3".into()), None, Some("b:3".into())];
        let incarnation = Incarnation {
            number: 0,
            workers,
            metrics,
            failure: None,
            attempts: Vec::new(),
            sidecars: Vec::new(),
        };
        let run = Run {
            yt_path: None,
            operation_id: "1-2-3-4".into(),
            operation: None,
            incarnation: Some(incarnation.clone()),
        };
        assert_eq!(
            of(&run).unwrap(),
            json!([
                {"targets": ["a:3"], "labels": {"__meta_tractorun_node_rank": "0"}},
                {"targets": ["b:3"], "labels": {"__meta_tractorun_node_rank": "2"}},
            ])
        );
        let early = Run { incarnation: None, ..run.clone() };
        assert!(matches!(of(&early), Err(RunError::NotMet { .. })));
        let old = Incarnation { metrics: Vec::new(), ..incarnation };
        assert!(matches!(of(&Run { incarnation: Some(old), ..run }), Err(RunError::NoMetrics { .. })));
    }
}
