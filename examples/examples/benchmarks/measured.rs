//! What was measured, raw.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// See [`crate::machine::describe`].
    pub(crate) machine: String,
    /// By the name of the source.
    pub(crate) sources: BTreeMap<String, Runs>,
}

/// All runs of a source.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Runs {
    /// Load of the machine before each run: above one, others were at work too.
    pub(crate) load: Vec<f64>,
    /// What each run printed: JSON, or text as it is.
    pub(crate) printed: Vec<Value>,
}

/// Where a figure is in what a source printed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// A JSON pointer.
    Json(&'static str),
    /// The first number after this text.
    After(&'static str),
}

/// A figure over several runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Measured {
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) fn write(&self, path: &str) {
        let text = serde_json::to_string_pretty(self).unwrap();
        fs::write(path, text + "\n").unwrap();
    }

    /// A figure; `None` when its source did not run.
    pub(crate) fn figure(&self, source: &str, place: Place) -> Option<Spread> {
        let printed = &self.sources.get(source)?.printed;
        let values: Vec<f64> = printed.iter().map(|run| place.of(run, source)).collect();
        Spread::of(values)
    }
}

impl Place {
    fn of(self, printed: &Value, source: &str) -> f64 {
        let found = match self {
            Self::Json(pointer) => printed.pointer(pointer).and_then(Value::as_f64),
            Self::After(text) => printed.as_str().and_then(|all| after(all, text)),
        };
        found.unwrap_or_else(|| panic!("{source} printed nothing at {self:?}"))
    }
}

/// The number after a text; one of time is in microseconds.
fn after(all: &str, text: &str) -> Option<f64> {
    let (_, rest) = all.split_once(text)?;
    let rest = rest.trim_start();
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let (number, unit) = rest.split_at(end);
    let factor = match unit.trim_start() {
        unit if unit.starts_with("ms") => 1e3,
        unit if unit.starts_with("s ") || unit.starts_with("s\n") => 1e6,
        _ => 1.0,
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        // Of an even number, between the two in the middle.
        let below = values.len().saturating_sub(1) / 2;
        Some(Self {
            median: f64::midpoint(*values.get(below)?, *values.get(middle)?),
            least: *values.first()?,
            most: *values.last()?,
        })
    }
}
