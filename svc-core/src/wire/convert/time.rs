//! RFC 3339 times, which only order claims: seconds are enough.

/// Seconds since 1970 of a time such as `2026-01-05T08:00:00Z`; a fraction is cut off.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let number = |range: core::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        let all = digits.bytes().all(|b| b.is_ascii_digit());
        all.then(|| digits.parse().ok()).flatten()
    };
    let mark = |at: usize, marks: &str| {
        let found = text.get(at..at + 1)?;
        marks.contains(found).then_some(())
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    mark(4, "-")?;
    mark(7, "-")?;
    mark(10, "Tt ")?;
    mark(13, ":")?;
    mark(16, ":")?;
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range {
        return None;
    }
    let zone = offset(after_fraction(text.get(19..)?)?)?;
    let days = days_since_1970(year, month, day);
    Some(days * 86_400 + hour * 3600 + minute * 60 + second - zone)
}

fn after_fraction(text: &str) -> Option<&str> {
    let Some(fraction) = text.strip_prefix('.') else {
        return Some(text);
    };
    let rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < fraction.len()).then_some(rest)
}

/// Seconds that a zone such as `+02:00` is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" || zone == "z" {
        return Some(0);
    }
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let number = |text: &str| -> Option<i64> {
        let two_digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        two_digits.then(|| text.parse().ok()).flatten()
    };
    let seconds = number(hours)? * 3600 + number(minutes)? * 60;
    match zone.get(..1)? {
        "+" => Some(seconds),
        "-" => Some(-seconds),
        _ => None,
    }
}

/// Days of the proleptic Gregorian calendar, counted in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_are_seconds_since_1970() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T12:34:56Z"), Some(951_827_696));
        assert_eq!(seconds("2026-01-05T08:00:00Z"), Some(1_767_600_000));
        assert_eq!(
            seconds("2026-01-05T10:00:00.123456+02:00"),
            Some(1_767_600_000)
        );
        assert_eq!(seconds("1969-12-31T23:59:59Z"), Some(-1));
    }

    #[test]
    fn other_texts_are_no_time() {
        for text in [
            "",
            "yesterday",
            "2026-13-05T08:00:00Z",
            "2026-01-05T08:00:00",
            "2026-01-05T08:00:00.Z",
            "2026-01-05",
            "2026-01-05T08:00:00+2",
            "2026-01-05T0ä:00:00Z",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
