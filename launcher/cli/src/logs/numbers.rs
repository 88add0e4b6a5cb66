//! Sets of ranks, nodes and sidecars as people type them: `0,3,8-15`, in any order.

use tractorun_contract::ranks::Ranks;

/// Why a text is no set of numbers. The texts go behind the name of the option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NumbersError {
    /// A part is neither a number nor a range.
    #[error("expected numbers such as `3` or `0,3,8-15`, got `{0}`")]
    NotNumbers(String),
    /// A range whose end is before its beginning.
    #[error("the range `{0}` ends before it begins")]
    Backwards(String),
}

/// Reads `0,3,8-15`.
pub(crate) fn parse(text: &str) -> Result<Ranks, NumbersError> {
    let bad = || NumbersError::NotNumbers(text.to_owned());
    let number = |text: &str| {
        // `parse` alone would take `+3`.
        if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse::<u32>().ok() } else { None }
    };
    let mut numbers = Ranks::default();
    for part in text.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
        if last < first {
            return Err(NumbersError::Backwards(part.to_owned()));
        }
        numbers.insert_range(first..=last);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_are_read_in_any_order() {
        let numbers = parse("8-15,0, 3").unwrap();
        assert_eq!(numbers.to_string(), "0,3,8-15");
        assert!(parse("0-4294967295").unwrap().contains(u32::MAX));
    }

    #[test]
    fn what_is_no_number_is_refused_by_name() {
        for text in ["", "x", "1,", "1-", "-1", "+1", "1-2-3", "4294967296"] {
            let expected = format!("expected numbers such as `3` or `0,3,8-15`, got `{text}`");
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
        assert_eq!(parse("1,9-3").unwrap_err().to_string(), "the range `9-3` ends before it begins");
    }
}
