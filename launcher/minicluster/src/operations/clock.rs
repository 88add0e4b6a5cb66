//! The moments that operations and jobs show.

use std::time::{SystemTime, UNIX_EPOCH};

use ytsaurus_yson::YsonValue;

use crate::cypress::time;
use crate::value;

/// Microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) wall_us: u64,
}

impl Moment {
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment { wall_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX) }
    }

    /// Reads the form that [`Moment::to_yson`] writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        time::parse(text).map(|wall_us| Moment { wall_us })
    }

    /// Microseconds since an earlier moment.
    pub(super) fn since(self, earlier: Self) -> u64 {
        self.wall_us.saturating_sub(earlier.wall_us)
    }

    /// `YYYY-MM-DDTHH:MM:SS.ffffffZ`.
    pub(super) fn to_yson(self) -> YsonValue {
        value::string(time::format(self.wall_us))
    }
}
