//! `host:port` as people write it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use rustls::pki_types::ServerName;

use super::error::ClientError;

/// A host, without the brackets of an IPv6 address, and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
}

impl<'a> Target<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, ClientError> {
        let bad = || ClientError::Target { text: text.to_owned() };
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        // Colons without brackets: an IPv6 address whose last group would pass for the port.
        let host = bracketed.or_else(|| (!host.contains([':', '[', ']'])).then_some(host)).ok_or_else(bad)?;
        if host.is_empty() {
            return Err(bad());
        }
        Ok(Self { host, port: port.parse().map_err(|_| bad())? })
    }

    pub(super) fn addresses(&self) -> Result<Vec<SocketAddr>, ClientError> {
        self.found((self.host, self.port).to_socket_addrs())
    }

    /// What a resolver has answered for this host.
    pub(super) fn found(
        &self,
        answer: io::Result<impl Iterator<Item = SocketAddr>>,
    ) -> Result<Vec<SocketAddr>, ClientError> {
        let unknown = |reason| ClientError::UnknownHost { host: self.host.to_owned(), reason };
        let found: Vec<_> = answer.map_err(|e| unknown(Some(e)))?.collect();
        if found.is_empty() { Err(unknown(None)) } else { Ok(found) }
    }
}

pub(super) fn server_name(text: &str) -> Result<ServerName<'static>, ClientError> {
    // RFC 6066 section 3: the name goes without the trailing dot.
    let name = text.strip_suffix('.').unwrap_or(text);
    ServerName::try_from(name.to_owned()).map_err(|_| ClientError::ServerName { name: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_host_and_port_with_brackets_around_ipv6() {
        let parsed = |text| Target::parse(text).map(|t| (t.host, t.port)).ok();
        assert_eq!(parsed("example.org:443"), Some(("example.org", 443)));
        assert_eq!(parsed("[::1]:8443"), Some(("::1", 8443)));
        for bad in ["example.org", "::1:443", "[::1]", ":443", "[]:443", "a:b", "a:65536", "[::1:443", "https://a:1"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn server_names_are_hosts_or_addresses() {
        assert!(server_name("example.org.").is_ok() && server_name("::1").is_ok() && server_name("127.0.0.1").is_ok());
        assert!(matches!(server_name("a b"), Err(ClientError::ServerName { .. })));
    }
}
