//! Addresses of this machine to connect from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::str::FromStr;

/// Addresses in all. Each gives about 28,000 ports towards one target.
const ADDRESSES_MAX: usize = 4096;

/// Source addresses as they were written: addresses and networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(pub Vec<IpAddr>);

impl Sources {
    /// The first address that is not one of this machine's, with what the system says about it.
    #[must_use]
    pub fn foreign(&self) -> Option<(IpAddr, io::Error)> {
        self.0.iter().find_map(|ip| TcpListener::bind((*ip, 0)).err().map(|error| (*ip, error)))
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "write for example 127.0.0.0/24, or 10.0.0.2,10.0.0.3";
        let mut all = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (address, prefix) = part.split_once('/').map_or((part, None), |(a, p)| (a, Some(p)));
            let address: IpAddr = address.parse().map_err(|_| format!("`{address}` is no address; {EXAMPLE}"))?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let prefix = match prefix {
                None => bits,
                Some(prefix) => {
                    let prefix = prefix.parse().ok().filter(|p| *p <= bits);
                    prefix.ok_or_else(|| format!("`{part}` has no prefix length from 0 to {bits}; {EXAMPLE}"))?
                }
            };
            let room = ADDRESSES_MAX - all.len().min(ADDRESSES_MAX);
            let (hosts, more) = hosts(address, bits - prefix, room);
            if more {
                return Err(format!("`{part}`: more than {ADDRESSES_MAX} addresses in all; {EXAMPLE}"));
            }
            all.extend(hosts);
        }
        Ok(Self(all))
    }
}

/// The loopback addresses that the built-in engine is connected to from, 127.0.0.0/28, which have ports enough for its
/// fastest; none on a system that has not all of them.
#[must_use]
pub fn own() -> Vec<IpAddr> {
    let own = Sources(hosts(Ipv4Addr::LOCALHOST.into(), 4, ADDRESSES_MAX).0);
    if own.foreign().is_none() { own.0 } else { Vec::new() }
}

/// What to do when so many connections a second from `addresses` to a loopback address have had Linux search long for
/// local ports; `None` when they have not. A port rests for a second there after its last connection, and of the
/// `ports` Linux takes the even ones first.
#[must_use]
pub fn crowded(rate: f64, addresses: usize, ports: Option<u32>) -> Option<String> {
    let each = rate / addresses.max(1) as f64;
    // With half of the even ones at rest, every other look for a port fails; with nine of ten, nine of ten.
    let free = f64::from(ports?) / 4.0;
    (each > free).then(|| {
        format!(
            "{each:.0} connections a second from one address: beyond {free:.0} the system searches long for free local \
             ports, which adds to the client's CPU and to latency; --source with more addresses (127.0.0.0/28 on the \
             loopback interface) avoids that"
        )
    })
}

/// Local ports that the system gives to connections from one address to one server; `None` where it does not say.
#[must_use]
pub fn ports() -> Option<u32> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_ascii_whitespace().map_while(|end| end.parse::<u32>().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    (last.checked_sub(first)?).checked_add(1)
}

/// Up to `room` addresses of the network whose last `bits` are free, and whether there are more. The first and the last
/// of an IPv4 network belong to no host.
fn hosts(address: IpAddr, bits: u32, room: usize) -> (Vec<IpAddr>, bool) {
    let size = 1_u128.checked_shl(bits);
    let (number, edges) = match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), bits >= 2),
        IpAddr::V6(v6) => (u128::from(v6), false),
    };
    let base = size.map_or(0, |size| number & !(size - 1));
    let count = size.unwrap_or(u128::MAX) - if edges { 2 } else { 0 };
    let first = base + u128::from(edges);
    if count > room as u128 {
        return (Vec::new(), true);
    }
    let one = |n: u128| match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(n).unwrap_or_default())),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(n)),
    };
    ((0..count).map(|i| one(first + i)).collect(), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(text: &str) -> Vec<String> {
        text.parse::<Sources>().unwrap().0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn networks_are_their_hosts() {
        assert_eq!(sources("10.0.0.2, 10.0.0.3"), ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(sources("127.0.0.5/30"), ["127.0.0.5", "127.0.0.6"]);
        let many = sources("127.0.0.0/24");
        assert_eq!((many.len(), &*many[0], &*many[253]), (254, "127.0.0.1", "127.0.0.254"));
        assert_eq!(sources("10.0.0.2/31"), ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(sources("::1"), ["::1"]);
        assert_eq!(sources("2001:db8::/127"), ["2001:db8::", "2001:db8::1"]);
    }

    #[test]
    fn what_is_no_address_or_too_many_is_refused_with_an_example() {
        for bad in ["", "localhost", "10.0.0.1/33", "10.0.0.1/x", "10.0.0.0/8", "::/0", "0.0.0.0/0", "10.0.0.1,"] {
            let error = bad.parse::<Sources>().expect_err(bad);
            assert!(error.contains("127.0.0.0/24"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_rate_that_one_address_has_too_few_ports_for_is_told_of() {
        assert_eq!(crowded(7000.0, 0, Some(28_232)), None);
        let advice = crowded(7100.0, 1, Some(28_232)).unwrap();
        assert!(advice.starts_with("7100 ") && advice.contains("--source"), "{advice}");
        assert_eq!(crowded(7100.0, 2, Some(28_232)), None);
        assert_eq!(crowded(1e9, 1, None), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_built_in_engine_is_connected_to_from_a_whole_network() {
        assert_eq!(own(), "127.0.0.0/28".parse::<Sources>().unwrap().0);
    }

    #[test]
    fn an_address_of_another_machine_is_found() {
        assert!("127.0.0.1".parse::<Sources>().unwrap().foreign().is_none());
        let (ip, _) = "127.0.0.1,192.0.2.1".parse::<Sources>().unwrap().foreign().unwrap();
        assert_eq!(ip.to_string(), "192.0.2.1");
    }
}
