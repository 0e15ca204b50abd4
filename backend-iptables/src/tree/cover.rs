//! A few prefixes that cover all addresses of a tree, so that traffic to no Service passes by.

use std::net::IpAddr;

use svc_core::{IpFamily, IpNet, unspecified};

use super::Entries;
use super::prefix::{Prefix, ip_difference};
use crate::key::{Entry, Tree};

/// Addresses from the first to the last that share a prefix.
#[derive(Clone, Copy)]
struct Piece {
    first: IpAddr,
    last: IpAddr,
}

impl Piece {
    fn bits(&self) -> u32 {
        match self.first {
            _ if self.first != self.last => ip_difference(self.first, self.last),
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }

    fn net(&self) -> Option<IpNet> {
        let bits = u8::try_from(self.bits()).ok()?;
        IpNet::new(self.first, bits).ok().map(|net| net.trunc())
    }
}

/// At most `most` prefixes that together hold every address of a tree, sorted.
///
/// They are the shortest ones split again and again, as long as that halves what is covered for
/// nothing: a range of ClusterIPs stays one prefix.
pub(super) fn covers(entries: &Entries, tree: Tree, family: IpFamily, most: usize) -> Vec<IpNet> {
    let whole = Prefix::whole(tree, unspecified(family));
    let mut range = entries.range(whole.first()..=whole.last());
    let Some((first, _)) = range.next() else {
        return Vec::new();
    };
    let last = range.next_back().map_or(first, |(last, _)| last);
    let mut pieces = vec![Piece {
        first: first.ip,
        last: last.ip,
    }];
    while pieces.len() < most {
        let widest = pieces.iter().enumerate().min_by_key(|(_, p)| p.bits());
        let Some((at, piece)) = widest.map(|(at, piece)| (at, *piece)) else {
            break;
        };
        let Some((low, high)) = halves(entries, tree, &piece) else {
            break;
        };
        // One more rule has to spare most of the range.
        if low.bits().min(high.bits()) < piece.bits() + 4 {
            break;
        }
        pieces.splice(at..=at, [low, high]);
    }
    pieces.iter().filter_map(Piece::net).collect()
}

/// The addresses of a piece below and above its middle.
fn halves(entries: &Entries, tree: Tree, piece: &Piece) -> Option<(Piece, Piece)> {
    if piece.first == piece.last {
        return None;
    }
    let middle = match piece.last {
        IpAddr::V4(last) => {
            let keep = u32::MAX.checked_shl(31 - piece.bits()).unwrap_or(0);
            IpAddr::V4((last.to_bits() & keep).into())
        }
        IpAddr::V6(last) => {
            let keep = u128::MAX.checked_shl(127 - piece.bits()).unwrap_or(0);
            IpAddr::V6((last.to_bits() & keep).into())
        }
    };
    let at = |ip| Entry {
        tree,
        ip,
        protocol: svc_core::Protocol::Tcp,
        port: 0,
    };
    let (below, _) = entries.range(at(piece.first)..at(middle)).next_back()?;
    let (above, _) = entries.range(at(middle)..).next()?;
    let low = Piece {
        first: piece.first,
        last: below.ip,
    };
    let high = Piece {
        first: above.ip,
        last: piece.last,
    };
    Some((low, high))
}
