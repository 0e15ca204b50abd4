//! Packets that no client sends, always the same ones in the same order.

use super::wire::query;

/// Longest packet of random octets.
const LONGEST: u64 = 600;

/// A generator of numbers (xorshift64*).
pub(crate) struct Garbage(u64);

impl Garbage {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn below(&mut self, bound: u64) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number % bound).unwrap()
    }

    fn octet(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.octet()).collect()
    }

    /// The next packet, of a kind by chance.
    pub(crate) fn packet(&mut self) -> Vec<u8> {
        let good = query(7, "web.shop.svc.cluster.local", 1, Some(1232));
        match self.below(8) {
            0 => {
                let length = self.below(LONGEST);
                self.octets(length)
            }
            1 => {
                let end = self.below(good.len() as u64);
                good[..end].to_vec()
            }
            // A few octets of a good query are others.
            2 => {
                let mut packet = good;
                for _ in 0..=self.below(4) {
                    let at = self.below(packet.len() as u64);
                    packet[at] = self.octet();
                }
                packet
            }
            3 => self.pointers(),
            // A label that is longer than the packet, or of a type that is not used any more.
            4 => {
                let label = [0x3f, 0x40, 0x80, 0xbf][self.below(4)];
                [&good[..12], &[label, b'a', b'b']].concat()
            }
            // Counts of records that are not there.
            5 => {
                let mut packet = good;
                let count = self.octets(8);
                packet[4..12].copy_from_slice(&count);
                packet
            }
            // An answer, which must have none.
            6 => {
                let mut packet = good;
                packet[2] |= 0x80;
                packet
            }
            // The longest name there is, and more after it.
            _ => {
                let mut packet = good[..12].to_vec();
                for _ in 0..=self.below(140) {
                    packet.extend([1, self.octet()]);
                }
                packet
            }
        }
    }

    /// Names that point at themselves, at each other, forward, and out of the packet.
    fn pointers(&mut self) -> Vec<u8> {
        let header = query(7, "", 1, None)[..12].to_vec();
        let name: &[u8] = match self.below(4) {
            0 => &[0xc0, 12],
            1 => &[0xc0, 14, 0xc0, 12],
            2 => &[1, b'a', 0xc0, 16, 0xc0, 12],
            _ => &[0xff, 0xff],
        };
        [&header[..], name, &[0, 1, 0, 1]].concat()
    }
}
