//! The identities of one or more protocols, found by server name and signature scheme.

use core::fmt;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::DnsName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Identity, IdentityError, KeyKind, SCHEMES, directory};

/// A name has at most 253 characters (RFC 1035 section 2.3.4), and perhaps a final dot.
const NAME_LEN_MAX: usize = 254;

/// Where the candidates of a name are. Hashed with a random key: in a set for many tenants each may bring names, and
/// none may choose those that collide with another's.
type NameMap = HashMap<Box<str>, Range<u32>>;

/// Identities by server name and signature scheme.
///
/// For a ClientHello, an identity is tried that was [set](Self::with_identity) for just its server name; then those that
/// have the name, then those with a wildcard for its first label, then the default ones: the first of the set and all
/// that cover exactly the same names. Among identities side by side, ECDSA and Ed25519 come before RSA, then the
/// client's preference decides.
#[derive(Clone)]
pub struct CertificateSet {
    name: Box<str>,
    index: Arc<Index>,
    /// Set for one name each, which the certificate need not have.
    pinned: HashMap<Box<str>, Identity>,
}

/// What a set was made with. A lookup among thousands of names goes through memory that no cache holds, so what it
/// reads lies close together.
struct Index {
    identities: Box<[Identity]>,
    exact: NameMap,
    /// By what follows `*.`.
    wildcard: NameMap,
    default: Range<u32>,
    /// What the ranges are of: identities, by their index and what their keys can do.
    candidates: Box<[Candidate]>,
}

#[derive(Clone, Copy)]
struct Candidate {
    index: u32,
    skill: Skill,
}

/// What an identity's key can do, as far as the choice needs it.
#[derive(Clone, Copy)]
struct Skill {
    /// By their places in [`SCHEMES`].
    schemes: u16,
    rsa: bool,
}

impl CertificateSet {
    /// A set of the given name; the first identity is its default.
    ///
    /// # Errors
    /// [`IdentityError::EmptySet`] without an identity.
    pub fn new(name: &str, identities: Vec<Identity>) -> Result<Self, IdentityError> {
        if identities.is_empty() {
            return Err(IdentityError::EmptySet { name: name.into() });
        }
        Ok(Self { name: name.into(), index: Arc::new(Index::new(identities)), pinned: HashMap::new() })
    }

    /// A set without an identity, for a protocol whose identities come [later](Self::with_identity): for the names that
    /// it has none for, it refuses clients.
    #[must_use]
    pub fn empty(name: &str) -> Self {
        Self { name: name.into(), index: Arc::new(Index::new(Vec::new())), pinned: HashMap::new() }
    }

    /// A set of all identities in a directory, in the order of their names. Each is one of these:
    ///
    /// - `NAME.pem` or `NAME.crt`, the chain, and `NAME.key`, its key, which may be in the file of the chain as well; and
    ///   `NAME.ocsp`, an OCSP response, if it is there;
    /// - a directory with `fullchain.pem` and `privkey.pem`, as ACME clients write them, and `ocsp.der` if it is there.
    ///   The directory may also be such a one itself.
    ///
    /// What begins with a dot and what has other names is passed over.
    ///
    /// # Errors
    /// The directory or a file cannot be read, a chain has no key or a key no chain, or an identity cannot be used;
    /// there is none at all.
    pub fn from_directory(name: &str, path: &Path, provider: &CryptoProvider) -> Result<Self, IdentityError> {
        Self::new(name, directory::read(path, provider)?)
    }

    /// The same set, in which clients that ask for just this server name are shown this identity, whatever names its
    /// certificate has; or, without one, what they were shown before there was any. `None` if it is no DNS name.
    #[must_use]
    pub fn with_identity(&self, server_name: &str, identity: Option<Identity>) -> Option<Self> {
        let mut buffer = [0; NAME_LEN_MAX];
        let name = normalized(server_name, &mut buffer).filter(|name| DnsName::try_from(*name).is_ok())?;
        let mut set = self.clone();
        match identity {
            Some(identity) => drop(set.pinned.insert(name.into(), identity)),
            None => drop(set.pinned.remove(name)),
        }
        Some(set)
    }

    /// Its name, which takes part in the [ticket domain](super::ticket_domain()).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The identities that it was made with, in the order in which they were given.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        &self.index.identities
    }

    /// All identities: also those that were set for one name.
    pub fn all_identities(&self) -> impl Iterator<Item = &Identity> {
        self.identities().iter().chain(self.pinned.values())
    }

    /// The identity for a server name of any case and the client's signature schemes in its order of preference;
    /// `None` when no identity that may be shown can sign with any of them. It allocates nothing.
    pub fn choose(
        &self,
        server_name: Option<&str>,
        schemes: impl Iterator<Item = SignatureScheme>,
    ) -> Option<&Identity> {
        let mut buffer = [0; NAME_LEN_MAX];
        let name = server_name.and_then(|name| normalized(name, &mut buffer));
        let preferences = Preferences::of(schemes);
        let pinned = if self.pinned.is_empty() { None } else { name.and_then(|name| self.pinned.get(name)) };
        if let Some(identity) = pinned.filter(|identity| preferences.rank(Skill::of(identity)).is_some()) {
            return Some(identity);
        }
        self.index.choose(name, &preferences)
    }
}

impl Index {
    fn new(identities: Vec<Identity>) -> Self {
        let (mut exact, mut wildcard) = (HashMap::<_, Vec<usize>>::new(), HashMap::<_, Vec<usize>>::new());
        for (index, identity) in identities.iter().enumerate() {
            for name in identity.dns_names() {
                let (map, name) = name.strip_prefix("*.").map_or((&mut exact, name), |rest| (&mut wildcard, rest));
                map.entry(Box::from(name)).or_default().push(index);
            }
        }
        let default = match identities.first() {
            Some(first) => (0..identities.len()).filter(|i| identities[*i].dns_names == first.dns_names).collect(),
            None => Vec::new(),
        };
        let mut candidates = Vec::new();
        let mut place = |indexes: Vec<usize>| {
            let start = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
            candidates.extend(indexes.into_iter().filter_map(|index| {
                Some(Candidate { index: u32::try_from(index).ok()?, skill: Skill::of(&identities[index]) })
            }));
            start..u32::try_from(candidates.len()).unwrap_or(u32::MAX)
        };
        let default = place(default);
        let exact = exact.into_iter().map(|(name, indexes)| (name, place(indexes))).collect();
        let wildcard = wildcard.into_iter().map(|(name, indexes)| (name, place(indexes))).collect();
        Self { exact, wildcard, default, candidates: candidates.into(), identities: identities.into() }
    }

    fn choose(&self, name: Option<&str>, preferences: &Preferences) -> Option<&Identity> {
        let by_name = name.and_then(|name| {
            let exact = self.exact.get(name).and_then(|found| self.choose_among(found, preferences));
            exact.or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.choose_among(self.wildcard.get(parent)?, preferences)
            })
        });
        by_name.or_else(|| self.choose_among(&self.default, preferences))
    }

    fn choose_among(&self, range: &Range<u32>, preferences: &Preferences) -> Option<&Identity> {
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        let ranked = self.candidates.get(range)?.iter();
        let ranked = ranked.filter_map(|candidate| Some((preferences.rank(candidate.skill)?, candidate.index)));
        let (_, index) = ranked.min_by_key(|(rank, _)| *rank)?;
        self.identities.get(usize::try_from(index).ok()?)
    }
}

impl Skill {
    fn of(identity: &Identity) -> Self {
        let bit = |scheme: &SignatureScheme| SCHEMES.iter().position(|s| s == scheme).map_or(0, |place| 1 << place);
        let schemes = identity.schemes.iter().map(bit).fold(0, |all, bit| all | bit);
        Self { schemes, rsa: identity.key_kind == KeyKind::Rsa }
    }
}

/// What a client can verify, in its order: how far down each of [`SCHEMES`] is.
struct Preferences([u8; SCHEMES.len()]);

impl Preferences {
    /// A client that has not named a scheme by its 255th place cannot do it.
    const NEVER: u8 = u8::MAX;

    fn of(schemes: impl Iterator<Item = SignatureScheme>) -> Self {
        let mut places = [Self::NEVER; SCHEMES.len()];
        for (place, scheme) in (0..Self::NEVER).zip(schemes) {
            if let Some(i) = SCHEMES.iter().position(|s| *s == scheme) {
                places[i] = places[i].min(place);
            }
        }
        Self(places)
    }

    /// The lower the better; `None` if there is no scheme in common.
    fn rank(&self, skill: Skill) -> Option<(bool, u8)> {
        let able = (0..SCHEMES.len()).filter(|i| skill.schemes >> i & 1 == 1);
        let best = able.map(|i| self.0[i]).min().filter(|place| *place != Self::NEVER)?;
        Some((skill.rsa, best))
    }
}

impl ResolvesServerCert for CertificateSet {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = client_hello.signature_schemes().iter().copied();
        // Without any, rustls would say `access_denied`. With one that does not fit it finds no cipher suite or signature
        // scheme in common, and says `handshake_failure` (RFC 8446 section 4.1.1, RFC 5246 section 7.4.1.3).
        let chosen = self.choose(client_hello.server_name(), schemes).or_else(|| self.identities().first());
        chosen.map(|identity| Arc::clone(identity.certified_key()))
    }
}

impl fmt::Debug for CertificateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateSet")
            .field("name", &self.name)
            .field("identities", &self.identities())
            .field("pinned", &self.pinned)
            .finish()
    }
}

/// As names are in the maps: lower case, without a final dot. `None` for what is longer than a name can be.
fn normalized<'a>(name: &str, buffer: &'a mut [u8; NAME_LEN_MAX]) -> Option<&'a str> {
    let buffer = buffer.get_mut(..name.len())?;
    buffer.copy_from_slice(name.as_bytes());
    buffer.make_ascii_lowercase();
    let lower = std::str::from_utf8(buffer).ok()?;
    Some(lower.strip_suffix('.').unwrap_or(lower))
}
