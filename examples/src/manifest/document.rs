//! From the bytes of a file to documents.
//!
//! A stream is cut at its document marks before it is parsed: a mark cannot stand at the start of a
//! line inside a document, so the cut is exact, and a broken document does not hide the ones after.

use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_saphyr::{UserMessageFormatter, alias_limits, budget, options, render_options};
use svc_core::wire::Value;

use super::Problem;
use super::file::cannot_read;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// JSON, as the name of the file says.
    Json,
    /// YAML, or JSON when it starts like it.
    Guess,
}

/// Deepest nesting that is read: what fits the 2 MB stack of a thread in a debug build, and more than
/// the 40 levels of the deepest Kubernetes objects.
const MAX_DEPTH: usize = 64;
/// Values in one document: enough for a list of 100 MB.
const MAX_NODES: usize = 50_000_000;
/// Values that aliases of one document may repeat, so that nested aliases cannot grow without bound.
const MAX_REPLAYED: usize = 250_000;
/// Characters of a parser's message that are shown.
const MAX_MESSAGE: usize = 200;

/// Reads one file with one document, such as a configuration.
///
/// # Errors
/// The file cannot be read or parsed, or holds more than one document.
pub fn read_value(path: &Path) -> Result<Value, Problem> {
    let bytes = std::fs::read(path).map_err(|error| cannot_read(path, &error))?;
    let file: Arc<str> = path.display().to_string().into();
    let mut values = Vec::new();
    read_documents(&file, &bytes, Syntax::Guess, &mut |line, value| {
        if !matches!(value, Ok(Value::Null)) {
            values.push((line, value));
        }
    });
    let mut values = values.into_iter();
    let first = values.next().map_or(Ok(Value::Null), |(_, value)| value)?;
    match values.next() {
        None => Ok(first),
        Some((line, _)) => Err(Problem {
            file,
            line: Some(line),
            column: None,
            message: "must be the only document of the file".into(),
        }),
    }
}

/// Hands over each document of a file with the line that it starts on.
pub(super) fn read_documents<T: DeserializeOwned>(
    file: &Arc<str>,
    bytes: &[u8],
    syntax: Syntax,
    take: &mut dyn FnMut(u64, Result<T, Problem>),
) {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let starts_like_json = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if syntax == Syntax::Json || starts_like_json {
        match read_json(file, bytes) {
            Ok(documents) => {
                for (line, document) in documents {
                    take(line, Ok(document));
                }
                return;
            }
            Err(problem) if syntax == Syntax::Json => {
                let line = problem.line.unwrap_or(1);
                return take(line, Err(problem));
            }
            // YAML in flow style also starts with a brace.
            Err(_) => {}
        }
    }
    for (line, chunk) in chunks(bytes) {
        match read_yaml(file, line, chunk) {
            Ok(document) => take(first_line(line, chunk), Ok(document)),
            Err(problem) => take(line, Err(problem)),
        }
    }
}

/// Reads JSON values that follow one another.
fn read_json<T: DeserializeOwned>(file: &Arc<str>, bytes: &[u8]) -> Result<Vec<(u64, T)>, Problem> {
    let mut documents = Vec::new();
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter();
    loop {
        let start = stream.byte_offset();
        match stream.next() {
            None => return Ok(documents),
            Some(Ok(document)) => {
                let before = bytes.get(..start).unwrap_or_default();
                let rest = bytes.get(start..).unwrap_or_default();
                documents.push((first_line(1 + newlines(before), rest), document));
            }
            Some(Err(error)) => return Err(json_problem(file, &error)),
        }
    }
}

fn json_problem(file: &Arc<str>, error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line() as u64, error.column() as u64);
    Problem {
        file: file.clone(),
        line: Some(line),
        column: Some(column.max(1)),
        message: one_line(&error.to_string(), line, column),
    }
}

fn read_yaml<T: DeserializeOwned>(file: &Arc<str>, first: u64, chunk: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(chunk).map_err(|error| {
        let good = chunk.get(..error.valid_up_to()).unwrap_or_default();
        let last = good.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        let column = String::from_utf8_lossy(last).chars().count() as u64 + 1;
        Problem {
            file: file.clone(),
            line: Some(first + newlines(good)),
            column: Some(column),
            message: "is not UTF-8 text".into(),
        }
    })?;
    let options = options! {
        with_snippet: false,
        alias_limits: alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        budget: budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_total_scalar_bytes: usize::MAX,
        },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let location = error.location();
        let (line, column) = location.map_or((1, 1), |l| (l.line(), l.column()));
        let rendered = error.render_with_options(render_options! {
            formatter: &UserMessageFormatter,
        });
        Problem {
            file: file.clone(),
            line: Some(first + line - 1),
            column: Some(column),
            message: one_line(&rendered, line, column),
        }
    })
}

/// A parser's message on one line, without the position, which the caller shows its own way.
fn one_line(message: &str, line: u64, column: u64) -> String {
    let joined: Vec<&str> = message.split_whitespace().collect();
    let joined = joined.join(" ");
    let cut = [
        format!(" at line {line}, column {column}"),
        format!(" at line {line} column {column}"),
    ]
    .into_iter()
    .fold(joined, |message, position| message.replace(&position, ""));
    match cut.char_indices().nth(MAX_MESSAGE) {
        None => cut,
        Some((end, _)) => format!("{}…", cut.get(..end).unwrap_or_default()),
    }
}

/// The documents of a YAML stream with the line that each starts on.
fn chunks(bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line) = (0, 1);
    let (mut position, mut line) = (0, 1);
    for text in bytes.split_inclusive(|b| *b == b'\n') {
        let here = position;
        position += text.len();
        let begins = is_mark(text, b"---") && !only_directives(bytes.get(start..here));
        if begins {
            chunks.extend(bytes.get(start..here).map(|chunk| (start_line, chunk)));
            (start, start_line) = (here, line);
        }
        line += 1;
        if is_mark(text, b"...") {
            chunks.extend(bytes.get(start..position).map(|chunk| (start_line, chunk)));
            (start, start_line) = (position, line);
        }
    }
    chunks.extend(bytes.get(start..).map(|chunk| (start_line, chunk)));
    chunks.retain(|(_, chunk)| chunk.iter().any(|b| !b.is_ascii_whitespace()));
    chunks
}

fn is_mark(line: &[u8], mark: &[u8]) -> bool {
    let rest = line.strip_prefix(mark);
    rest.is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
}

/// Whether there are directives such as `%YAML 1.2`, which belong to the document after the mark.
fn only_directives(before: Option<&[u8]>) -> bool {
    let mut found = false;
    // Only the head of a document can be that, so the answer comes after few lines.
    for line in before.unwrap_or_default().split(|b| *b == b'\n') {
        match line.trim_ascii_start().first() {
            None | Some(b'#') => {}
            Some(b'%') if line.first() == Some(&b'%') => found = true,
            Some(_) => return false,
        }
    }
    found
}

/// The first line with content, which is more helpful than that of the mark above it.
fn first_line(start: u64, chunk: &[u8]) -> u64 {
    let lines = chunk.split(|b| *b == b'\n');
    let blank = lines.take_while(|line| {
        let line = line.trim_ascii();
        line.is_empty() || line == b"---" || line.first() == Some(&b'#')
    });
    start + blank.count() as u64
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}
