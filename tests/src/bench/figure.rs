//! A figure with its unit.

use std::fmt;

/// A figure: how it is written and which of two is the better one follow from its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "units speak for themselves")]
pub enum Figure {
    Seconds(f64),
    Bytes(f64),
    Count(f64),
    /// Of one core.
    Percent(f64),
    BytesPerSecond(f64),
    PerSecond(f64),
}

impl Figure {
    /// How many times better it is than another of its unit; `worse` is said where it is.
    pub fn better_than(self, other: Self) -> String {
        let ratio = match self {
            Self::Seconds(_) | Self::Bytes(_) | Self::Count(_) | Self::Percent(_) => {
                other.value() / self.value()
            }
            Self::BytesPerSecond(_) | Self::PerSecond(_) => self.value() / other.value(),
        };
        if !ratio.is_finite() {
            return String::new();
        }
        if ratio < 1.0 { format!("{} x worse", short(1.0 / ratio)) } else { format!("{} x", short(ratio)) }
    }

    fn value(self) -> f64 {
        match self {
            Self::Seconds(value)
            | Self::Bytes(value)
            | Self::Count(value)
            | Self::Percent(value)
            | Self::BytesPerSecond(value)
            | Self::PerSecond(value) => value,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Seconds(value) if value < 1.0 => write!(f, "{} ms", short(value * 1e3)),
            Self::Seconds(value) => write!(f, "{} s", short(value)),
            Self::Bytes(value) if value.abs() < 1024.0 => write!(f, "{value:.0} B"),
            Self::Bytes(value) if value.abs() < 1_048_576.0 => write!(f, "{} KiB", short(value / 1024.0)),
            Self::Bytes(value) => write!(f, "{} MiB", short(value / 1_048_576.0)),
            Self::Count(value) => write!(f, "{value:.0}"),
            Self::Percent(value) => write!(f, "{} %", short(value)),
            Self::BytesPerSecond(value) => write!(f, "{} MB/s", short(value / 1e6)),
            Self::PerSecond(value) => write!(f, "{} /s", short(value)),
        }
    }
}

/// Two or three digits that say something.
fn short(value: f64) -> String {
    match value {
        value if value < 0.0 => format!("-{}", short(-value)),
        value if value >= 10.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value if value >= 0.1 || value == 0.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Figure::{Bytes, BytesPerSecond, Count, Percent, Seconds};

    #[test]
    fn figures_are_short_and_have_units() {
        let shown = [Seconds(0.0123), Seconds(71.8), Bytes(640.0), Bytes(6_276_644.0), Percent(3.94)];
        assert_eq!(shown.map(|figure| figure.to_string()), ["12 ms", "72 s", "640 B", "6.0 MiB", "3.9 %"]);
        assert_eq!(BytesPerSecond(58_000.0).to_string(), "0.058 MB/s");
    }

    #[test]
    fn less_time_and_more_speed_are_better() {
        assert_eq!(Seconds(2.0).better_than(Seconds(50.0)), "25 x");
        assert_eq!(BytesPerSecond(3e6).better_than(BytesPerSecond(2e6)), "1.5 x");
        assert_eq!(Bytes(30.0).better_than(Bytes(10.0)), "3.0 x worse");
        assert_eq!(Count(0.0).better_than(Count(10.0)), "");
    }
}
