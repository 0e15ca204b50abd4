//! Output of the demo: coloured on a terminal, plain elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// Where the demo writes.
#[derive(Debug)]
pub(crate) struct Screen {
    colour: bool,
    start: Instant,
}

impl Screen {
    /// Standard output.
    pub(crate) fn new() -> Self {
        Self {
            colour: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            start: Instant::now(),
        }
    }

    /// Starts a part.
    pub(crate) fn title(&mut self, text: &str) {
        match self.colour {
            true => self.put(&format!("\n\x1b[1;36m{text}\x1b[0m")),
            false => self.put(&format!("\n{text}")),
        }
    }

    /// Writes lines of a part.
    pub(crate) fn line(&mut self, text: &str) {
        for line in text.lines() {
            self.put(&format!("  {line}"));
        }
    }

    /// Writes a line that says whether something is as it should be.
    pub(crate) fn check(&mut self, good: bool, text: &str) {
        let (mark, colour) = match good {
            true => ("ok", "32"),
            false => ("FAILED", "31"),
        };
        match self.colour {
            true => self.line(&format!("\x1b[1;{colour}m{mark}\x1b[0m {text}")),
            false => self.line(&format!("{mark} {text}")),
        }
    }

    /// Writes the time that everything took.
    pub(crate) fn done(&mut self) {
        let took = self.start.elapsed();
        self.put(&format!("\nDone in {took:.1?}."));
    }

    fn put(&mut self, line: &str) {
        // A reader that went away is no reason to fail: the exit code still tells.
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}
