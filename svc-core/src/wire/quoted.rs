//! Values of inputs in messages: quoted, escaped, and of bounded length.

use core::fmt::{self, Display, Write as _};

/// Characters of a value that a message shows at most.
const SHOWN: usize = 64;

/// Shows a string as a quoted literal, cut after 64 characters.
pub(crate) fn quoted(text: &str) -> impl Display + '_ {
    Quoted(text)
}

struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => {
                write!(f, "{:?}", self.0.get(..end).unwrap_or_default())?;
                f.write_char('…')
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_long_value_is_cut() {
        assert_eq!(quoted("a\nb").to_string(), "\"a\\nb\"");
        let long = "ä".repeat(100);
        assert_eq!(quoted(&long).to_string().chars().count(), 64 + 3);
    }
}
