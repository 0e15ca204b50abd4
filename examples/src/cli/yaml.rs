//! YAML in block style, as Kubernetes tools print it: keys sorted, lists not indented.

use std::collections::BTreeMap;

use serde_json::Value;

/// One document for each value, with marks between them.
pub fn documents<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    let all: Vec<String> = values.into_iter().map(document).collect();
    all.join("---\n")
}

/// A value as one document that ends with a line break.
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(&mut text, value, 0),
        Value::Array(list) if !list.is_empty() => sequence(&mut text, list, 0),
        Value::Object(_)
        | Value::Array(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_) => leaf(&mut text, value, 0),
    }
    text
}

/// The lines of a map; the cursor already stands at `indent` of the first.
fn mapping(text: &mut String, value: &Value, indent: usize) {
    let entries: BTreeMap<&String, &Value> = value.as_object().into_iter().flatten().collect();
    for (i, (key, value)) in entries.into_iter().enumerate() {
        if i > 0 {
            pad(text, indent);
        }
        text.push_str(&scalar(key));
        text.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                text.push('\n');
                pad(text, indent + 2);
                mapping(text, value, indent + 2);
            }
            Value::Array(list) if !list.is_empty() => {
                text.push('\n');
                pad(text, indent);
                sequence(text, list, indent);
            }
            Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_) => {
                text.push(' ');
                leaf(text, value, indent + 2);
            }
        }
    }
}

/// The lines of a list; the cursor already stands at `indent` of the first.
fn sequence(text: &mut String, list: &[Value], indent: usize) {
    for (i, value) in list.iter().enumerate() {
        if i > 0 {
            pad(text, indent);
        }
        text.push_str("- ");
        match value {
            Value::Object(map) if !map.is_empty() => mapping(text, value, indent + 2),
            Value::Array(list) if !list.is_empty() => sequence(text, list, indent + 2),
            Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_) => leaf(text, value, indent + 2),
        }
    }
}

/// Anything that fits on the line it starts on, or a text of several lines at `indent`.
fn leaf(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(_) => text.push_str("{}"),
        Value::Array(_) => text.push_str("[]"),
        Value::Null | Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
        Value::String(string) if indent > 0 && is_block(string) => {
            return block(text, string, indent);
        }
        Value::String(string) => text.push_str(&scalar(string)),
    }
    text.push('\n');
}

fn pad(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

/// Whether a text can stand as it is over several lines.
fn is_block(string: &str) -> bool {
    let printable = string.chars().all(|c| c == '\n' || !must_escape(c));
    string.contains('\n')
        && printable
        && !string.starts_with([' ', '\n'])
        && !string.ends_with("\n\n")
}

fn block(text: &mut String, string: &str, indent: usize) {
    text.push_str(if string.ends_with('\n') { "|" } else { "|-" });
    text.push('\n');
    for line in string.lines() {
        if !line.is_empty() {
            pad(text, indent);
            text.push_str(line);
        }
        text.push('\n');
    }
}

/// A string on one line, quoted when it would read as something else.
fn scalar(string: &str) -> String {
    if is_plain(string) {
        return string.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in string.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ if must_escape(c) => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a character is not printable in YAML, or would be taken for a line break.
fn must_escape(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

/// Words that some version of YAML reads as a boolean or as nothing.
const WORDS: [&str; 11] = [
    "true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf",
];

/// Whether a string needs no quotes: cautious, as quotes never harm.
fn is_plain(string: &str) -> bool {
    let Some(first) = string.chars().next() else {
        return false;
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_./-:@+=,() ".contains(c);
    let structure = string.contains(": ") || string.ends_with([':', ' ']);
    let word = WORDS.contains(&string.to_ascii_lowercase().as_str());
    let starts = first.is_ascii_alphabetic() || first == '/' || first == '_';
    string.chars().all(allowed) && !structure && !word && (starts || is_dotted(string))
}

/// Whether a string is like an IPv4 address or a version: no number has two points.
fn is_dotted(string: &str) -> bool {
    let starts = string.starts_with(|c: char| c.is_ascii_digit());
    let body = string
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "./-".contains(c));
    starts && body && string.matches('.').count() >= 2
}
