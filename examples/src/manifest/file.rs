//! Finding and reading the files.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Problem;
use super::collect::Collector;
use super::document::{Syntax, read_documents};

/// Reads a file, or the manifests in a directory sorted by name.
pub(super) fn read_path(collector: &mut Collector, path: &Path) {
    let files = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => match manifests_in(path) {
            Ok(files) if files.is_empty() => {
                let message = "the directory has no .yaml, .yml or .json file";
                return collector.problem(unreadable(path, message));
            }
            Ok(files) => files,
            Err(error) => return collector.problem(cannot_read(path, &error)),
        },
        Ok(_) => vec![path.to_path_buf()],
        Err(error) => return collector.problem(cannot_read(path, &error)),
    };
    for file in files {
        match fs::read(&file) {
            Ok(bytes) => read_bytes(collector, &display(&file), &bytes, syntax(&file)),
            Err(error) => collector.problem(cannot_read(&file, &error)),
        }
    }
}

/// Reads a stream to its end.
pub(super) fn read_stream(collector: &mut Collector, name: &str, stream: &mut dyn Read) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => read_bytes(collector, &name.into(), &bytes, Syntax::Guess),
        Err(error) => collector.problem(cannot_read(Path::new(name), &error)),
    }
}

fn read_bytes(collector: &mut Collector, file: &Arc<str>, bytes: &[u8], syntax: Syntax) {
    read_documents(file, bytes, syntax, &mut |line, document| match document {
        Ok(document) => collector.document(file, Some(line), document),
        Err(problem) => collector.problem(problem),
    });
}

fn manifests_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // A link that leads nowhere stays in the list, so that reading names it.
        let is_directory = fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        if !is_directory && extension(&path).is_some() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn extension(path: &Path) -> Option<Syntax> {
    let extension = path.extension().and_then(OsStr::to_str)?;
    match extension.to_ascii_lowercase().as_str() {
        "yaml" | "yml" => Some(Syntax::Guess),
        "json" => Some(Syntax::Json),
        _ => None,
    }
}

fn syntax(path: &Path) -> Syntax {
    extension(path).unwrap_or(Syntax::Guess)
}

fn display(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

pub(super) fn cannot_read(path: &Path, error: &io::Error) -> Problem {
    // The number of an operating-system error helps nobody who reads this.
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    unreadable(path, &format!("cannot read: {}", text.to_lowercase()))
}

fn unreadable(path: &Path, message: &str) -> Problem {
    Problem {
        file: display(path),
        line: None,
        column: None,
        message: message.into(),
    }
}
