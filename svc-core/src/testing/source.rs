//! Choices out of bytes.

/// Draws choices from bytes; when they run out, every choice is the first one.
///
/// Generators make the first choice the plainest, so that a short input is a plain case: that is
/// what shrinking and fuzzing need.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    bytes: &'a [u8],
}

impl<'a> Source<'a> {
    /// A source of the choices in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whether every byte is used.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte, or 0.
    pub fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below `bound`, at most 256 of them; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        match bound {
            0 | 1 => 0,
            _ => usize::from(self.byte()) % bound,
        }
    }

    /// True in about `percent` of cases, never when the bytes have run out.
    pub fn chance(&mut self, percent: u8) -> bool {
        u16::from(u8::MAX - self.byte()) < u16::from(percent) * 256 / 100
    }

    /// One of a list.
    ///
    /// # Panics
    ///
    /// If the list is empty.
    pub fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    /// Up to `most` values.
    pub fn several<T>(
        &mut self,
        most: usize,
        mut value: impl FnMut(&mut Self) -> T,
    ) -> alloc::vec::Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| value(self)).collect()
    }
}
