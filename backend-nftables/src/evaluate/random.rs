//! Random numbers, tried with all their values.

/// The random numbers of one run, and how far each may go up without changing anything.
#[derive(Clone, Debug, Default)]
pub(super) struct Choices {
    numbers: Vec<Choice>,
    /// How many of them this run has drawn.
    drawn: usize,
}

#[derive(Clone, Copy, Debug)]
struct Choice {
    value: u32,
    until: u32,
    modulus: u32,
}

impl Choices {
    /// The probability of this run.
    pub(super) fn share(&self) -> f64 {
        let step = |choice: &Choice| {
            let width = u64::from(choice.until) - u64::from(choice.value) + 1;
            // Both are whole numbers below 2^33.
            width as f64 / f64::from(choice.modulus)
        };
        self.numbers.iter().map(step).product()
    }

    /// The next run; false after the last.
    pub(super) fn advance(&mut self) -> bool {
        self.drawn = 0;
        while let Some(last) = self.numbers.last_mut() {
            if last.until + 1 < last.modulus {
                last.value = last.until + 1;
                return true;
            }
            self.numbers.pop();
        }
        false
    }

    pub(super) fn draw(&mut self, modulus: u32) -> (usize, u32) {
        let index = self.drawn;
        self.drawn += 1;
        if self.numbers.len() <= index {
            self.numbers.push(Choice {
                value: 0,
                until: 0,
                modulus,
            });
        }
        let choice = &mut self.numbers[index];
        choice.until = modulus - 1;
        (index, choice.value)
    }

    /// Only values up to `until` do what the present value does.
    /// Whether every value of a number fits 16 bits.
    pub(super) fn is_short(&self, index: usize) -> bool {
        let number = self.numbers.get(index);
        number.is_some_and(|number| number.modulus <= 1 << 16)
    }

    pub(super) fn narrow(&mut self, index: usize, until: u32) {
        if let Some(choice) = self.numbers.get_mut(index) {
            choice.until = choice.until.min(until.max(choice.value));
        }
    }

    pub(super) fn fix(&mut self, index: usize) {
        self.narrow(index, 0);
    }
}

/// A random number in a register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random {
    pub(super) index: usize,
    pub(super) register: u8,
    pub(super) form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// 32 bits in host order.
    Host,
    /// 16 bits in network order, then zeros.
    Network16,
}
