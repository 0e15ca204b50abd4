//! What the kernel checks of a rule when it is added.

use super::table::FakeTable;
use crate::error::Errno;
use crate::rule::{
    Expr, Family, FibResult, Found, Immediate, Register, Rule, SetData, SetFlags, SetName,
};

/// Registers that an expression reads or writes, with the number of bytes.
type Span = (Register, usize);

/// Checks that what a rule refers to exists, and that it reads no register before it writes it.
pub(super) fn check(table: &FakeTable, rule: &Rule) -> Result<(), Errno> {
    let mut written = 0u16;
    for expr in &rule.exprs {
        let (reads, writes) = spans(table, expr)?;
        for read in reads {
            if bits(read)? & !written != 0 {
                return Err(Errno::ENODATA);
            }
        }
        for write in writes {
            written |= bits(write)?;
        }
    }
    Ok(())
}

/// One bit for each register of a span.
fn bits((first, bytes): Span) -> Result<u16, Errno> {
    let words = bytes.div_ceil(4);
    let end = usize::from(first.index()) + words;
    if bytes == 0 {
        return Err(Errno::EINVAL);
    }
    if end > usize::from(Register::COUNT) {
        return Err(Errno::ERANGE);
    }
    Ok((first.index().into()..end).fold(0, |bits, word| bits | 1 << word))
}

fn spans(table: &FakeTable, expr: &Expr) -> Result<(Vec<Span>, Vec<Span>), Errno> {
    let none = Vec::new;
    Ok(match expr {
        Expr::Payload { len, dreg, .. } => (none(), vec![(*dreg, *len as usize)]),
        Expr::Meta { key, dreg } => (none(), vec![(*dreg, key.width())]),
        Expr::MetaSet { key, sreg } => (vec![(*sreg, key.width())], none()),
        Expr::Ct { key, dreg, .. } => (none(), vec![(*dreg, key.width())]),
        Expr::Cmp { sreg, data, .. } => (vec![(*sreg, data.len())], none()),
        Expr::Bitwise {
            sreg,
            dreg,
            len,
            mask,
            xor,
        } => {
            let len = *len as usize;
            if mask.len() != len || xor.len() != len {
                return Err(Errno::EINVAL);
            }
            (vec![(*sreg, len)], vec![(*dreg, len)])
        }
        Expr::Byteorder {
            sreg, dreg, len, ..
        } => (vec![(*sreg, *len as usize)], vec![(*dreg, *len as usize)]),
        Expr::Immediate(Immediate::Data { dreg, data }) => (none(), vec![(*dreg, data.len())]),
        Expr::Immediate(Immediate::Verdict(verdict)) => {
            table.check_verdict(verdict)?;
            (none(), none())
        }
        Expr::Lookup(lookup) => {
            let (key, data, _) = set(table, &lookup.set)?;
            let writes = match (lookup.found, data) {
                (Found::Continue | Found::Break, _) => none(),
                (Found::Load(dreg), Some(Some(width))) => vec![(dreg, width)],
                (Found::Verdict, Some(None)) => none(),
                (Found::Load(_) | Found::Verdict, _) => return Err(Errno::EINVAL),
            };
            (vec![(lookup.sreg, key)], writes)
        }
        Expr::Dynset {
            set: name,
            key,
            data,
            timeout,
            ..
        } => {
            let (width, held, flags) = set(table, name)?;
            if timeout.is_some() && !flags.contains(SetFlags::TIMEOUT) {
                return Err(Errno::EINVAL);
            }
            let mut reads = vec![(*key, width)];
            match (data, held) {
                (Some(data), Some(Some(width))) => reads.push((*data, width)),
                (None, None) => {}
                (Some(_) | None, _) => return Err(Errno::EINVAL),
            }
            (reads, none())
        }
        Expr::Numgen { dreg, .. } => (none(), vec![(*dreg, 4)]),
        Expr::Jhash {
            sreg, dreg, len, ..
        } => (vec![(*sreg, *len as usize)], vec![(*dreg, 4)]),
        Expr::Fib { result, dreg, .. } => match result {
            FibResult::Oif | FibResult::AddrType => (none(), vec![(*dreg, 4)]),
            FibResult::Oifname => (none(), vec![(*dreg, 16)]),
        },
        Expr::Nat {
            family, addr, port, ..
        } => {
            let width = match family {
                Family::Ip => 4,
                Family::Ip6 => 16,
                Family::Inet => return Err(Errno::EAFNOSUPPORT),
            };
            let addr = addr.map(|addr| (addr, width));
            let port = port.map(|port| (port, 2));
            (addr.into_iter().chain(port).collect(), none())
        }
        Expr::Masquerade { .. } | Expr::Reject(_) | Expr::Counter => (none(), none()),
        // No kernel has it.
        Expr::Unknown { .. } => return Err(Errno::ENOENT),
    })
}

/// Widths of the key and of the data (`Some(None)`: verdicts), and the flags.
#[allow(clippy::type_complexity)]
fn set(
    table: &FakeTable,
    name: &SetName,
) -> Result<(usize, Option<Option<usize>>, SetFlags), Errno> {
    let set = table.set(name).ok_or(Errno::ENOENT)?;
    let data = set.data.as_ref().map(|data| match data {
        SetData::Value(kind) => Some(kind.width() as usize),
        SetData::Verdict => None,
    });
    Ok((set.key.width() as usize, data, set.flags))
}
