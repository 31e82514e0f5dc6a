//! The names to ask for.

use std::fs;
use std::path::Path;

use rustls::pki_types::{DnsName, ServerName};

use crate::error::UsageError;
use crate::plan::{Target, Verify};
use crate::weighted::{self, Weighted};

/// Names for `sni` as it was written, or for the target where nothing was.
///
/// # Errors
/// One of them is no name, or their file cannot be read.
pub fn of(sni: Option<&str>, target: &Target, verify: &Verify) -> Result<Weighted<ServerName<'static>>, UsageError> {
    let Some(sni) = sni else { return of_target(target, verify).map(Weighted::one) };
    if let Some(path) = sni.strip_prefix('@') {
        return of_file(Path::new(path));
    }
    for name in sni.split(';') {
        dns(name.split('=').next().unwrap_or(name).trim())?;
    }
    weighted::parse(sni, |name| dns(name).map_err(|e| e.to_string())).map_err(|_| UsageError::NoNames(sni.to_owned()))
}

/// A name a line, its weight behind it; what follows a `#` is a comment.
fn of_file(path: &Path) -> Result<Weighted<ServerName<'static>>, UsageError> {
    let text = fs::read_to_string(path).map_err(|source| UsageError::NamesUnreadable { path: path.into(), source })?;
    let mut names = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(name) = words.next() else { continue };
        let weight = words.next().map_or(Ok(1.0), |w| w.parse::<f64>()).ok().filter(|w| w.is_finite() && *w > 0.0);
        match (dns(name), weight, words.next()) {
            (Ok(name), Some(weight), None) => names.push((name, weight)),
            _ => return Err(UsageError::BadLine { path: path.into(), line: i + 1 }),
        }
    }
    Weighted::new(names).ok_or_else(|| UsageError::NoNames(format!("@{}", path.display())))
}

fn of_target(target: &Target, verify: &Verify) -> Result<ServerName<'static>, UsageError> {
    match target {
        Target::Server(server) => match server.ip() {
            // RFC 6066 section 3 allows no address in SNI; to verify, the address itself must be in the certificate.
            Some(ip) if *verify != Verify::No => Ok(ServerName::IpAddress(ip.into())),
            Some(_) => dns("localhost"),
            None => match dns(&server.host) {
                // A resolver may know names that no certificate can have.
                Err(_) if *verify == Verify::No => dns("localhost"),
                name => name,
            },
        },
        Target::Embedded { .. } => dns("localhost"),
    }
}

fn dns(name: &str) -> Result<ServerName<'static>, UsageError> {
    DnsName::try_from(name.to_owned()).map(ServerName::DnsName).map_err(|_| UsageError::BadName(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sni: Option<&str>, target: &str, verify: &Verify) -> Result<Vec<String>, UsageError> {
        let target = Target::Server(target.parse().unwrap());
        Ok(of(sni, &target, verify)?.items().iter().map(|n| n.to_str().into_owned()).collect())
    }

    #[test]
    fn the_name_to_ask_for_follows_the_target() {
        let ca = Verify::File("x".into());
        for (sni, target, verify, name) in [
            (None, "example.com:443", &Verify::No, "example.com"),
            (None, "127.0.0.1:443", &Verify::No, "localhost"),
            (None, "127.0.0.1:443", &ca, "127.0.0.1"),
            (Some("a.example"), "127.0.0.1:443", &ca, "a.example"),
        ] {
            assert_eq!(names(sni, target, verify).unwrap(), [name]);
        }
        assert!(matches!(names(Some("not a name"), "a:1", &Verify::No), Err(UsageError::BadName(_))));
        let embedded = of(None, &Target::Embedded { shards: 1 }, &Verify::No).unwrap();
        assert_eq!(embedded.items()[0].to_str(), "localhost");
    }

    #[test]
    fn names_are_mixed_by_weight_or_read_from_a_file() {
        let mixed = names(Some("a.example=70; b.example=30"), "a:1", &Verify::No).unwrap();
        assert_eq!(mixed, ["a.example", "b.example"]);
        assert!(matches!(names(Some("a.example=x"), "a:1", &Verify::No), Err(UsageError::NoNames(_))));
        let path = std::env::temp_dir().join(format!("handfast-load-{}-names", std::process::id()));
        let at = format!("@{}", path.display());
        fs::write(&path, "# names\na.example 3\n\nb.example # one\n").unwrap();
        let mixed = of(Some(&at), &Target::Embedded { shards: 1 }, &Verify::No).unwrap();
        assert_eq!(mixed.shares().map(|(_, share)| share).collect::<Vec<_>>(), [0.75, 0.25]);
        fs::write(&path, "a.example 3\nb.example -1\n").unwrap();
        let wrong = names(Some(&at), "a:1", &Verify::No);
        assert!(matches!(wrong, Err(UsageError::BadLine { line: 2, .. })), "{wrong:?}");
        fs::remove_file(&path).unwrap();
        assert!(matches!(names(Some(&at), "a:1", &Verify::No), Err(UsageError::NamesUnreadable { .. })));
    }
}
