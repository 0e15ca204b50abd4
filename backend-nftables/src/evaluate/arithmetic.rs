//! Expressions that work on registers alone.

use super::Fault;
use super::machine::{Machine, Step};
use super::random::{Form, Random};
use crate::rule::{ByteorderOp, Expr};

impl Machine<'_, '_> {
    pub(super) fn bitwise(&mut self, expr: &Expr) -> Result<Step, Fault> {
        let Expr::Bitwise {
            sreg,
            dreg,
            len,
            mask,
            xor,
        } = expr
        else {
            return self.unsupported(format!("{expr:?}"));
        };
        let len = *len as usize;
        if mask.len() != len || xor.len() != len {
            return self.unsupported(format!("{expr:?} of several lengths"));
        }
        let source = self.read(*sreg, len)?;
        let bytes = source.iter().zip(mask.iter()).zip(xor.iter());
        let bytes: Vec<u8> = bytes.map(|((s, mask), xor)| s & mask ^ xor).collect();
        self.write(*dreg, &bytes)
    }

    /// Two bytes are swapped in place; the kernel leaves the other two alone.
    pub(super) fn byteorder(&mut self, expr: &Expr) -> Result<Step, Fault> {
        let Expr::Byteorder {
            op: ByteorderOp::Hton,
            sreg,
            dreg,
            len: 2,
            size: 2,
        } = expr
        else {
            return self.unsupported(format!("{expr:?}"));
        };
        if sreg != dreg {
            return self.unsupported(format!("{expr:?} into another register"));
        }
        let followed = |random: &Random| {
            let here = random.register == sreg.index() && random.form == Form::Host;
            here && self.choices.is_short(random.index)
        };
        let random = self.random.filter(followed);
        if random.is_none() {
            self.read(*sreg, 2)?;
        }
        let at = 4 * usize::from(sreg.index());
        let number = u16::from_ne_bytes([self.registers[at], self.registers[at + 1]]);
        self.registers[at..at + 2].copy_from_slice(&number.to_be_bytes());
        self.random = random.map(|random| Random {
            form: Form::Network16,
            ..random
        });
        Ok(Step::Next)
    }

    pub(super) fn numgen(&mut self, expr: &Expr) -> Result<Step, Fault> {
        let Expr::Numgen {
            modulus,
            offset: 0,
            dreg,
            ..
        } = expr
        else {
            return self.unsupported(format!("{expr:?}"));
        };
        if *modulus == 0 || self.random.is_some() {
            return self.unsupported(format!("{expr:?}, or a second one in a rule"));
        }
        let (index, value) = self.choices.draw(*modulus);
        let step = self.write(*dreg, &value.to_ne_bytes())?;
        self.random = Some(Random {
            index,
            register: dreg.index(),
            form: Form::Host,
        });
        Ok(step)
    }
}
