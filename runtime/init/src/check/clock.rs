//! This machine's clock beside the cluster's: times of log lines and certificates go by it.

use std::time::{Duration, SystemTime};

use tractorun_yt::ClientConfig;
use tractorun_yt::probe::{Way, greet};

use super::{Finding, Grade, finding};

/// The cluster tells its time to the second.
const AGREEMENT: Duration = Duration::from_secs(1);

/// From here on lines of different nodes are in the wrong order.
const NOTABLE: Duration = Duration::from_secs(5);

/// Compares the clocks, if the cluster tells its time.
pub(super) async fn clock(config: &ClientConfig) -> Option<Finding> {
    let (theirs, ours) = greet(config, Way::AsClientsGo).await.ok()?.ok()?.clocks?;
    Some(compare(theirs, ours))
}

fn compare(theirs: SystemTime, ours: SystemTime) -> Finding {
    let (difference, direction) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if difference <= AGREEMENT {
        return finding("clock", Grade::Fine, "agrees with the cluster's to the second");
    }
    let grade = if difference < NOTABLE { Grade::Fine } else { Grade::Warning };
    finding("clock", grade, format!("{:.0} s {direction} the cluster's", difference.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_by_the_second() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (theirs, ours, grade, text) in [
            (100, 101, Grade::Fine, "agrees with the cluster's to the second"),
            (100, 103, Grade::Fine, "3 s ahead of the cluster's"),
            (100, 95, Grade::Warning, "5 s behind the cluster's"),
            (100, 3700, Grade::Warning, "3600 s ahead of the cluster's"),
        ] {
            assert_eq!(compare(at(theirs), at(ours)), finding("clock", grade, text));
        }
    }
}
