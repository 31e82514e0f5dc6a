//! Which proxies a listener believes when they say where their clients are.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::peer::PeerAddr;

/// A listener behind proxies that send a PROXY protocol header, version 1 or 2, before the client's first byte.
///
/// Every connection must begin with one, and must come from a trusted source: whoever may send a header may take any
/// address. Others are reset, and counted as `proxy_untrusted`. On a Unix-domain socket everyone who may open it is
/// trusted.
///
/// The address in the header takes the proxy's place in [`HandshakeFacts`](crate::HandshakeFacts), in
/// [`Limits::source`](crate::Limits::source), and in what selection sees. A header without one (`LOCAL`, `UNKNOWN`,
/// `AF_UNSPEC`, `AF_UNIX`; health checks send the first) leaves the proxy's own there, which is not limited.
///
/// ```
/// use handfast::ProxyProtocol;
/// use handfast::transport::tcp::ListenOptions;
///
/// let mut options = ListenOptions::default();
/// options.proxy_protocol = Some(ProxyProtocol::from_sources(["10.0.0.0/8".parse()?, "fd00::/8".parse()?]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    trusted: Vec<IpNet>,
}

impl ProxyProtocol {
    /// Trusts the proxies in these networks and no others. Those that map IPv4 (`::ffff:10.0.0.0/104`) are IPv4's.
    #[must_use]
    pub fn from_sources(trusted: impl IntoIterator<Item = IpNet>) -> Self {
        Self { trusted: trusted.into_iter().map(canonical).collect() }
    }

    /// The networks that are trusted.
    #[must_use]
    pub fn sources(&self) -> &[IpNet] {
        &self.trusted
    }

    /// Whether a header from `peer` is believed.
    #[must_use]
    pub fn trusts(&self, peer: PeerAddr) -> bool {
        let Some(peer) = peer.ip() else { return true };
        // A listener of both families sees IPv4 as IPv6.
        let peer: IpAddr = peer.ip().to_canonical();
        self.trusted.iter().any(|network| network.contains(&peer))
    }
}

/// What [`IpAddr::to_canonical`] is for addresses.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let (addr, len) = (mapped.addr().to_ipv4_mapped(), mapped.prefix_len().checked_sub(96));
    let network_v4 = addr.zip(len).and_then(|(addr, len)| Ipv4Net::new(addr, len).ok());
    network_v4.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_sources_are_trusted_in_either_notation() {
        let proxy = ProxyProtocol::from_sources(["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for (peer, trusted) in
            [("10.1.2.3:1", true), ("[::ffff:10.1.2.3]:1", true), ("[fd00::1]:1", true), ("11.0.0.1:1", false)]
        {
            assert_eq!(proxy.trusts(PeerAddr::Ip(peer.parse().unwrap())), trusted, "{peer}");
        }
        let mapped = ProxyProtocol::from_sources(["::ffff:10.0.0.0/104".parse().unwrap()]);
        for (peer, trusted) in [("10.1.2.3:1", true), ("[::ffff:10.1.2.3]:1", true), ("11.0.0.1:1", false)] {
            assert_eq!(mapped.trusts(PeerAddr::Ip(peer.parse().unwrap())), trusted, "{peer}");
        }
        assert!(proxy.trusts(PeerAddr::Unix));
        assert!(!ProxyProtocol::from_sources([]).trusts(PeerAddr::Ip("127.0.0.1:1".parse().unwrap())));
    }
}
