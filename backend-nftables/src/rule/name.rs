//! Names and comments of kernel objects.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// One word wide, so that an element that may hold a verdict stays small.
type Thin = Arc<Box<str>>;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Cheap to clone. The kernel refuses names over 255 bytes (`ENAMETOOLONG`) and empty ones;
        /// a NUL byte and what follows it are left away, as the kernel would not see them.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Thin);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(Arc::new(Box::from(before_nul(name))))
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self::from(name.as_str())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

name! {
    /// Name of a table, unique within its family.
    TableName
}
name! {
    /// Name of a chain, unique within its table.
    ChainName
}
name! {
    /// Name of a set or map, unique within its table.
    SetName
}

/// A comment that `nft list` prints after the object.
///
/// Holds at most [`Comment::MAX_LEN`] bytes without NUL: a comment explains and decides nothing, so
/// longer text is cut at a character boundary instead of being refused.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comment(Box<str>);

impl Comment {
    /// Most bytes of text: the kernel keeps 256 bytes of user data per object, from which go the
    /// two bytes of the comment's header, its NUL, and eight bytes of a set's other entry.
    pub const MAX_LEN: usize = 245;

    /// Makes a comment, cutting what does not fit.
    pub fn new(text: &str) -> Self {
        let text = before_nul(text);
        let mut end = text.len().min(Self::MAX_LEN);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(Box::from(text.get(..end).unwrap_or_default()))
    }

    /// The comment as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Comment {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

fn before_nul(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_cut_at_a_character() {
        let long = "é".repeat(200);
        let comment = Comment::new(&long);
        assert_eq!(comment.as_str().len(), 244);
        assert_eq!(Comment::new("a\0b").as_str(), "a");
    }
}
