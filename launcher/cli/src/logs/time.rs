//! Times as people write them, and as JSON shows them: microseconds since 1970 in UTC.

/// Microseconds since 1970, as the log tables have them.
pub(crate) type Micros = i64;

const SECOND: i64 = 1_000_000;
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Reads a duration before `now` (`90s`, `10m`, `1h30m`, `2d`) or a time (`2026-11-24`, `2026-11-24T17:20`,
/// `2026-11-24T17:20:05.5Z`, `2026-11-24 17:20+03:00`); without a zone it is UTC. The error goes behind the name
/// of the option.
pub(crate) fn parse_since(text: &str, now: Micros) -> Result<Micros, String> {
    parse_duration(text).map(|ago| now.saturating_sub(ago)).or_else(|| parse_time(text)).ok_or_else(|| {
        format!(
            "expected a duration such as `10m` or `1h30m`, or a time such as `2026-11-24T17:20:00Z`, got `{text}`"
        )
    })
}

fn parse_duration(text: &str) -> Option<Micros> {
    let mut rest = text;
    let mut total = 0_i64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, behind) = behind.split_at(letters);
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => DAY_SECONDS,
            _ => return None,
        };
        let number: i64 = number.parse().ok()?;
        total = total.checked_add(number.checked_mul(seconds)?.checked_mul(SECOND)?)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(total)
}

fn parse_time(text: &str) -> Option<Micros> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time),
        None => (text, "00:00"),
    };
    let days = parse_date(date)?;
    let (time, zone_minutes) = match time.find(['Z', '+', '-']) {
        None => (time, 0),
        Some(at) => (&time[..at], parse_zone(&time[at..])?),
    };
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    let parts: Vec<&str> = whole.split(':').collect();
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes] if fraction.is_empty() => (two_digits(hours)?, two_digits(minutes)?, 0),
        [hours, minutes, seconds] => (two_digits(hours)?, two_digits(minutes)?, two_digits(seconds)?),
        _ => return None,
    };
    // A leap second counts as the first of the next minute.
    if hours > 23 || minutes > 59 || seconds > 60 || fraction.len() > 9 {
        return None;
    }
    let fraction: i64 = match fraction {
        "" => 0,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{digits:0<9}").parse::<i64>().ok()? / 1000
        }
        _ => return None,
    };
    let seconds = days * DAY_SECONDS + hours * 3600 + (minutes - zone_minutes) * 60 + seconds;
    seconds.checked_mul(SECOND)?.checked_add(fraction)
}

/// `Z`, `+03:00`, `-0330`, `+03`, in minutes.
fn parse_zone(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits = text[1..].replace(':', "");
    let (hours, minutes) = match digits.len() {
        2 => (two_digits(&digits)?, 0),
        4 if digits.is_ascii() => (two_digits(&digits[..2])?, two_digits(&digits[2..])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn two_digits(text: &str) -> Option<i64> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days from 1970-01-01 to `YYYY-MM-DD`.
fn parse_date(text: &str) -> Option<i64> {
    let [year, month, day] = text.split('-').collect::<Vec<_>>()[..] else { return None };
    if year.len() != 4 || !year.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, month, day) = (year.parse::<i64>().ok()?, two_digits(month)?, two_digits(day)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_since_1970(year, month, day);
    // 31 April is no day: it would come back as 1 May.
    (date_of(days) == (year, month, day)).then_some(days)
}

/// Days from 1970-01-01. A year is counted from March on, so that the leap day is its last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day counted from 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// `2026-11-24T17:20:05.000123Z`.
pub(crate) fn format(micros: Micros) -> String {
    let (seconds, fraction) = (micros.div_euclid(SECOND), micros.rem_euclid(SECOND));
    let (year, month, day) = date_of(seconds.div_euclid(DAY_SECONDS));
    let second = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Micros = 1_795_540_805 * SECOND;

    #[test]
    fn durations_are_counted_back_from_now() {
        for (text, seconds) in
            [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("0s", 0), ("1d2h3m4s", 93_784)]
        {
            assert_eq!(parse_since(text, NOW), Ok(NOW - seconds * SECOND), "{text}");
        }
    }

    #[test]
    fn times_are_utc_unless_they_name_their_zone() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2026-11-24T17:20:05Z", 1_795_540_805),
            ("2026-11-24 17:20:05", 1_795_540_805),
            ("2026-11-24T17:20", 1_795_540_800),
            ("2026-11-24T20:20:05+03:00", 1_795_540_805),
            ("2026-11-24T13:50:05-0330", 1_795_540_805),
            ("2024-02-29", 1_709_164_800),
        ] {
            assert_eq!(parse_since(text, NOW), Ok(seconds * SECOND), "{text}");
        }
        assert_eq!(parse_since("1970-01-01T00:00:01.5Z", NOW), Ok(1_500_000));
        assert_eq!(format(1_795_540_805 * SECOND + 123), "2026-11-24T17:20:05.000123Z");
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for text in [
            "",
            "10",
            "m",
            "10x",
            "-5m",
            "1h 5m",
            "2026-13-01",
            "2026-02-30",
            "26-1-1",
            "2026-11-24T25:00",
            "2026-11-24T17",
            "2026-11-24T17:20:05.Zx",
            "2026-11-24T17:20+99:00",
            "yesterday",
            "9999999999999999999d",
        ] {
            let error = parse_since(text, NOW).unwrap_err();
            assert!(error.starts_with("expected a duration such as `10m`"), "{error}");
            assert!(error.ends_with(&format!("got `{text}`")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn times_read_back(micros in 0..4_000_000_000_000_000_i64) {
            prop_assert_eq!(parse_since(&format(micros), NOW), Ok(micros));
        }

        #[test]
        fn nothing_makes_it_panic(text in "\\PC*") {
            let _ = parse_since(&text, NOW);
        }
    }
}
