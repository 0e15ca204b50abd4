//! What kube-proxy v1.36.2 costs, measured once on a machine of the same kind, which was busy but
//! about twice as fast: seconds of CPU of the proxy and of what it starts, three endpoints a Service.

/// Services and seconds.
pub(crate) type Points = &'static [(f64, f64)];

pub(crate) const NFTABLES_FULL: Points = &[(1e2, 0.034), (1e3, 0.146), (1e4, 13.6), (3e4, 193.0)];
pub(crate) const NFTABLES_ENDPOINT: Points =
    &[(1e2, 0.015), (1e3, 0.098), (1e4, 4.25), (3e4, 33.0)];
pub(crate) const LEGACY_FULL: Points = &[(1e2, 0.073), (1e3, 0.156), (1e4, 1.49)];
pub(crate) const LEGACY_ENDPOINT: Points = &[(1e2, 0.013), (1e3, 0.044), (1e4, 0.61)];
pub(crate) const NFT_FULL: Points = &[(1e3, 0.63), (1e4, 230.0)];
pub(crate) const NFT_ENDPOINT: Points = &[(1e3, 0.037), (1e4, 0.83)];

/// First packet through the last Service, as a multiple of no rules at all (11.4 us there).
pub(crate) const NFTABLES_CONNECT: Points = &[(1e4, 14.3 / 11.4)];
pub(crate) const LEGACY_CONNECT: Points = &[(1e3, 20.0 / 11.4), (1e4, 213.0 / 11.4)];
pub(crate) const NFT_CONNECT: Points = &[(1e3, 26.0 / 11.4)];
