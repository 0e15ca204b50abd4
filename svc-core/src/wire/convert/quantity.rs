//! Kubernetes quantities, as far as CPU counts need them.

/// Thousandths of a quantity such as `3920m`, `4`, `0.5` or `1e3`, rounded up.
pub(super) fn milli(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Bounds that no count of CPUs reaches keep the arithmetic below in range.
    if whole.len() > 18 || fraction.len() > 9 || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits = |text: &str| match text.is_empty() {
        true => Some(0),
        false => text.parse::<u128>().ok(),
    };
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let value = digits(whole)? * scale + digits(fraction)?;
    let (factor, divisor) = factor(suffix)?;
    let thousandths = value.checked_mul(factor)?.checked_mul(1000)?;
    u64::try_from(thousandths.div_ceil(scale.checked_mul(divisor)?)).ok()
}

/// What a suffix multiplies and divides by.
fn factor(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10u128.pow(power.unsigned_abs().min(18));
            match power {
                -18..=-1 => (1, ten),
                0..=18 => (ten, 1),
                _ => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::milli;

    #[test]
    fn quantities_are_thousandths() {
        for (text, wanted) in [
            ("4", Some(4000)),
            ("3920m", Some(3920)),
            ("0.5", Some(500)),
            (".25", Some(250)),
            ("1e3", Some(1_000_000)),
            ("2k", Some(2_000_000)),
            ("1Ki", Some(1_024_000)),
            ("1500000n", Some(2)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1.2.3", None),
            ("4 cores", None),
            ("999999999999999999999", None),
            ("999999999999999999e18", None),
            ("1e-3", Some(1)),
            ("1e99", None),
        ] {
            assert_eq!(milli(text), wanted, "{text}");
        }
    }
}
