//! Kernel settings that IPVS needs, set only when asked and put back on clean-up.

use std::fmt;

/// A kernel setting of a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// IPVS keeps conntrack informed: without it nothing is masqueraded.
    Conntrack,
    /// What becomes of connections that reuse a port.
    ConnReuseMode,
    /// Connections to deleted destinations end at once.
    ExpireNodestConn,
    /// A client does not stay with a destination that is being drained.
    ExpireQuiescentTemplate,
    /// The node forwards IPv4 packets.
    IpForward,
    /// Only the link that has an address answers for it.
    ArpIgnore,
    /// Only the addresses of a link are announced there.
    ArpAnnounce,
}

/// What to set for IPVS, as kube-proxy does (B-291).
///
/// `release` is that of the kernel, such as `6.1.0-56-amd64`.
pub fn wanted(strict_arp: StrictArp, release: &str) -> Vec<(Setting, u32)> {
    let mut wanted = vec![
        (Setting::Conntrack, 1),
        (Setting::ExpireNodestConn, 1),
        (Setting::ExpireQuiescentTemplate, 1),
        (Setting::IpForward, 1),
    ];
    // Later kernels reuse ports without delay, earlier ones do not have it.
    if (4, 1) <= version(release) && version(release) < (5, 9) {
        wanted.push((Setting::ConnReuseMode, 0));
    }
    match strict_arp {
        StrictArp::Off => {}
        StrictArp::On => wanted.extend([(Setting::ArpIgnore, 1), (Setting::ArpAnnounce, 2)]),
    }
    wanted
}

/// The settings without which Services do not work as they should, of those whose value is 0, each
/// with what follows. A setting without a value is passed over: the kernel does not have it.
pub fn lacking(mut value: impl FnMut(Setting) -> Option<u32>) -> Vec<(Setting, &'static str)> {
    let needed = [
        (
            Setting::Conntrack,
            "nothing is masqueraded: clients whose answers would take another way, such as those of \
             a node port with an endpoint on another node, get none",
        ),
        (
            Setting::ExpireNodestConn,
            "packets of a connection are dropped when its endpoint is gone, also those of a UDP flow \
             that goes on",
        ),
        (
            Setting::IpForward,
            "the node forwards no IPv4 packet to an endpoint",
        ),
    ];
    let mut lacking = Vec::from(needed);
    lacking.retain(|(setting, _)| value(*setting) == Some(0));
    lacking
}

/// Whether the addresses of front ends stay unknown to the neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StrictArp {
    /// The node answers for them on every link.
    #[default]
    Off,
    /// It does not.
    On,
}

impl Setting {
    /// All settings.
    pub const ALL: [Self; 7] = [
        Self::Conntrack,
        Self::ConnReuseMode,
        Self::ExpireNodestConn,
        Self::ExpireQuiescentTemplate,
        Self::IpForward,
        Self::ArpIgnore,
        Self::ArpAnnounce,
    ];

    /// The file below `/proc/sys`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Conntrack => "net/ipv4/vs/conntrack",
            Self::ConnReuseMode => "net/ipv4/vs/conn_reuse_mode",
            Self::ExpireNodestConn => "net/ipv4/vs/expire_nodest_conn",
            Self::ExpireQuiescentTemplate => "net/ipv4/vs/expire_quiescent_template",
            Self::IpForward => "net/ipv4/ip_forward",
            Self::ArpIgnore => "net/ipv4/conf/all/arp_ignore",
            Self::ArpAnnounce => "net/ipv4/conf/all/arp_announce",
        }
    }

    /// The number by which the companion table remembers it; never another one's.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Conntrack => 1,
            Self::ConnReuseMode => 2,
            Self::ExpireNodestConn => 3,
            Self::ExpireQuiescentTemplate => 4,
            Self::IpForward => 5,
            Self::ArpIgnore => 6,
            Self::ArpAnnounce => 7,
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|setting| setting.number() == number)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path().replace('/', "."))
    }
}

/// The first two numbers of a release; of an odd one those of a late kernel.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse().ok());
    (next().unwrap_or(u32::MAX), next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_depend_on_the_kernel_and_on_what_is_asked() {
        let set = |strict, release: &str| {
            let wanted = wanted(strict, release);
            let words = wanted
                .iter()
                .map(|(setting, value)| format!("{setting}={value}"));
            words.collect::<Vec<_>>().join(" ")
        };
        let always = "net.ipv4.vs.conntrack=1 net.ipv4.vs.expire_nodest_conn=1 \
                      net.ipv4.vs.expire_quiescent_template=1 net.ipv4.ip_forward=1";
        assert_eq!(set(StrictArp::Off, "6.1.0-56-amd64"), always);
        assert_eq!(set(StrictArp::Off, "odd"), always);
        assert_eq!(set(StrictArp::Off, "5.9.1"), always);
        let reuse = format!("{always} net.ipv4.vs.conn_reuse_mode=0");
        assert_eq!(set(StrictArp::Off, "5.8.18"), reuse);
        let arp =
            format!("{always} net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2");
        assert_eq!(set(StrictArp::On, "6.18.44"), arp);
    }

    #[test]
    fn what_is_lacking_is_what_would_be_set() {
        let wanted = wanted(StrictArp::Off, "6.1");
        let all = lacking(|_| Some(0));
        assert_eq!(all.len(), 3);
        assert!(
            all.iter()
                .all(|(setting, _)| wanted.contains(&(*setting, 1)))
        );
        assert_eq!(lacking(|_| Some(1)), []);
        assert_eq!(lacking(|_| None), []);
        let one = lacking(|setting| Some(u32::from(setting != Setting::Conntrack)));
        assert_eq!(one.len(), 1);
    }

    #[test]
    fn numbers_read_back() {
        for setting in Setting::ALL {
            assert_eq!(Setting::from_number(setting.number()), Some(setting));
        }
    }
}
