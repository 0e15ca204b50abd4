//! Flag words of sets, nat and fib.

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $flag:ident = $value:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl $name {
            /// No flag.
            pub const NONE: Self = Self(0);
            $($(#[$fdoc])* pub const $flag: Self = Self($value);)*

            /// From the kernel's word; unknown bits are kept.
            pub const fn from_bits(bits: u32) -> Self {
                Self(bits)
            }

            /// The kernel's word.
            pub const fn bits(self) -> u32 {
                self.0
            }

            /// Both sets of flags.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// These flags without the others.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// Whether all flags of `other` are set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut rest = *self;
                let mut list = f.debug_set();
                $(if rest.contains(Self::$flag) {
                    list.entry(&format_args!("{}", stringify!($flag)));
                    rest = rest.without(Self::$flag);
                })*
                if rest.0 != 0 {
                    list.entry(&format_args!("{:#x}", rest.0));
                }
                list.finish()
            }
        }
    };
}

flags! {
    /// What a set is for; the kernel chooses its data structure from it.
    SetFlags {
        /// Lives and dies with the rule that uses it.
        ANONYMOUS = 0x1;
        /// Contents cannot change while a rule uses it.
        CONSTANT = 0x2;
        /// Elements are ranges.
        INTERVAL = 0x4;
        /// Elements carry data or verdicts.
        MAP = 0x8;
        /// Elements may expire.
        TIMEOUT = 0x10;
        /// Rules may change elements (`dynset`).
        DYNAMIC = 0x20;
        /// Elements carry stateful objects.
        OBJECT = 0x40;
        /// Ranges in several fields; needs [`SetFlags::INTERVAL`] and sends the field lengths.
        CONCAT = 0x80;
        /// Elements carry expressions such as counters.
        EXPR = 0x100;
    }
}

flags! {
    /// How nat chooses among addresses and ports.
    NatFlags {
        /// Ports chosen from a hash (`random`).
        RANDOM = 0x4;
        /// The same client gets the same address (`persistent`).
        PERSISTENT = 0x8;
        /// Ports chosen at random (`fully-random`).
        FULLY_RANDOM = 0x10;
    }
}

flags! {
    /// What a routing look-up looks for.
    FibFlags {
        /// The source address.
        SADDR = 0x1;
        /// The destination address.
        DADDR = 0x2;
        /// With the packet's mark.
        MARK = 0x4;
        /// Only routes of the input interface.
        IIF = 0x8;
        /// Only routes of the output interface.
        OIF = 0x10;
        /// Only whether there is a route.
        PRESENT = 0x20;
    }
}
