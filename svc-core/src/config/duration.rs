//! Durations as Go writes them, such as `1h0m30s` or `1.5s`.

/// Nanoseconds of a duration; `None` when the text is none, or beyond 292 years.
pub(super) fn nanoseconds(text: &str) -> Option<i64> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if unsigned == "0" {
        return Some(0);
    }
    let mut rest = unsigned;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (part, after) = next_part(rest)?;
        total = total.checked_add(part)?;
        rest = after;
    }
    (!unsigned.is_empty()).then_some(if negative { -total } else { total })
}

/// The nanoseconds of a leading number with its unit, and what follows.
fn next_part(text: &str) -> Option<(i64, &str)> {
    let digits = |text: &str| {
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len())
    };
    let (whole, rest) = text.split_at_checked(digits(text))?;
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at_checked(digits(rest))?,
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest.find(|c: char| c.is_ascii_digit() || c == '.');
    let (unit, rest) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
    let unit: i64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    // Digits beyond the fifteenth are less than a nanosecond of an hour.
    let fraction = fraction.get(..15).unwrap_or(fraction);
    let scale = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    let numerator: i128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let part = i64::try_from(numerator * i128::from(unit) / scale).ok()?;
    Some((whole.checked_mul(unit)?.checked_add(part)?, rest))
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn go_durations() {
        for (text, wanted) in [
            ("30s", Some(30_000_000_000)),
            ("1h0m0s", Some(3_600_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5m", Some(30_000_000_000)),
            ("100ms", Some(100_000_000)),
            ("7us3ns", Some(7003)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("-1s", Some(-1_000_000_000)),
            ("", None),
            ("-", None),
            ("30", None),
            ("s", None),
            (".s", None),
            ("1 s", None),
            ("1d", None),
            ("9999999999999h", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(nanoseconds(text), wanted, "{text}");
        }
    }
}
