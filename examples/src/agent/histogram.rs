//! Counts of durations in buckets, and the text format of Prometheus.

use std::fmt::{self, Write};
use std::time::Duration;

/// Counts of durations by upper bounds.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    /// Upper bounds in seconds, rising.
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
    total: u64,
}

/// 15 bounds from a millisecond, doubling (B-306).
pub(super) const SYNC: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];
/// From 0.25 s to 300 s (B-307), without every single second in between.
pub(super) const PROGRAMMING: &[f64] = &[
    0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 59.0, 60.0, 90.0, 120.0,
    180.0, 240.0, 300.0,
];
/// From a change in hand to the kernel's acknowledgement.
pub(super) const WAIT: &[f64] = &[
    0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0, 30.0, 60.0,
];

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len()],
            sum: 0.0,
            total: 0,
        }
    }

    pub(super) fn add(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        self.sum += seconds;
        self.total += 1;
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.total
    }

    /// Writes all lines; `labels` is empty or ends with a comma.
    pub(super) fn write(&self, to: &mut String, name: &str, labels: &str) -> fmt::Result {
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            below += count;
            writeln!(to, "{name}_bucket{{{labels}le=\"{bound}\"}} {below}")?;
        }
        writeln!(to, "{name}_bucket{{{labels}le=\"+Inf\"}} {}", self.total)?;
        let labels = match labels.trim_end_matches(',') {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        writeln!(to, "{name}_sum{labels} {}", self.sum)?;
        writeln!(to, "{name}_count{labels} {}", self.total)
    }
}

/// A label value with what has to be escaped escaped.
pub(super) fn label(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let mut histogram = Histogram::new(&[0.5, 1.0]);
        for seconds in [0.25, 0.5, 0.75, 4.5] {
            histogram.add(Duration::from_secs_f64(seconds));
        }
        let mut text = String::new();
        histogram.write(&mut text, "x", "a=\"b\",").unwrap();
        expect_test::expect![[r#"
            x_bucket{a="b",le="0.5"} 2
            x_bucket{a="b",le="1"} 3
            x_bucket{a="b",le="+Inf"} 4
            x_sum{a="b"} 6
            x_count{a="b"} 4
        "#]]
        .assert_eq(&text);
    }
}
