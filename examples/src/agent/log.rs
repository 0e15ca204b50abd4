//! Where `tracing` writes: standard error, one line an event, for people or for programs.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use super::rfc3339::rfc3339;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Writes events to standard error; spans are passed over.
#[derive(Debug)]
struct Lines {
    format: LogFormat,
    level: Level,
}

/// Starts to write. Of two calls in a process the first counts.
///
/// Levels: errors are what an operator has to do something about, warnings what is odd or was
/// repaired, information what changed for good. With a verbosity of 4 each sync is told (debug), with
/// 6 each input (trace).
pub(super) fn start(format: LogFormat, verbosity: u8) {
    let level = match verbosity {
        0..=3 => Level::INFO,
        4 | 5 => Level::DEBUG,
        6.. => Level::TRACE,
    };
    // Whoever was first has its reasons, such as a test.
    let _ = tracing::subscriber::set_global_default(Lines { format, level });
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let most = match self.level {
            level if target.starts_with("examples") => level,
            // What fails there is told by us, with the kind of the objects and what becomes of them.
            Level::INFO | Level::DEBUG if target.starts_with("kube") => return false,
            // Libraries that talk a lot at DEBUG are heard from INFO on.
            _ => Level::INFO,
        };
        metadata.is_event() && *metadata.level() <= most
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level))
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let time = rfc3339(now.unwrap_or_default());
        let level = *event.metadata().level();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = match self.format {
            LogFormat::Text => fields.text(&time, level),
            LogFormat::Json => fields.json(time, level),
        };
        // A closed standard error is no reason to end.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The fields of an event, in their order.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn text(&self, time: &str, level: Level) -> String {
        let message = self.message.replace('\n', " ");
        let mut line = format!("{time} {level:>5} {message}");
        for (name, value) in &self.others {
            // Writing to a string cannot fail.
            let _ = write!(line, " {name}={value}");
        }
        line.push('\n');
        line
    }

    fn json(self, time: String, level: Level) -> String {
        let mut object = Map::new();
        object.insert("time".into(), time.into());
        object.insert("level".into(), level.as_str().to_lowercase().into());
        object.insert("message".into(), self.message.into());
        object.extend(self.others);
        format!("{}\n", Value::Object(object))
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.others.insert(name.into(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_have_every_field_in_one_line() {
        let fields = || {
            let mut fields = Fields {
                message: "two\nlines".into(),
                ..Fields::default()
            };
            fields.others.insert("family".into(), "IPv4".into());
            fields.others.insert("objects".into(), 3.into());
            fields
        };
        let text = fields().text("T", Level::WARN);
        assert_eq!(text, "T  WARN two lines family=\"IPv4\" objects=3\n");
        let json = fields().json("T".into(), Level::WARN);
        let expected =
            r#"{"time":"T","level":"warn","message":"two\nlines","family":"IPv4","objects":3}"#;
        assert_eq!(json.trim_end(), expected);
    }
}
