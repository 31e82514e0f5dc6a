//! The identities of one or more protocols, found by server name and signature scheme.

use core::fmt;
use core::hash::BuildHasherDefault;
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Identity, IdentityError, KeyKind};

/// Indexes of identities, in the order in which they were added.
type Candidates = Vec<usize>;

/// A map without a random key: the names in it are our own, so no client can make them collide.
type NameMap = HashMap<Box<str>, Candidates, BuildHasherDefault<DefaultHasher>>;

/// Identities by server name and signature scheme.
///
/// For a ClientHello, those identities are tried that have its server name, then those with a wildcard for its first
/// label, then the default ones: the first of the set and all that cover exactly the same names. Among identities
/// side by side, ECDSA and Ed25519 come before RSA, then the client's preference decides.
pub struct CertificateSet {
    name: Box<str>,
    identities: Box<[Identity]>,
    exact: NameMap,
    /// By what follows `*.`.
    wildcard: NameMap,
    default: Candidates,
}

impl CertificateSet {
    /// A set of the given name; the first identity is its default.
    ///
    /// # Errors
    /// [`IdentityError::EmptySet`] without an identity.
    pub fn new(name: &str, identities: Vec<Identity>) -> Result<Self, IdentityError> {
        let first = identities.first().ok_or_else(|| IdentityError::EmptySet { name: name.into() })?;
        let same_names = |(_, identity): &(usize, &Identity)| identity.dns_names == first.dns_names;
        let default = identities.iter().enumerate().filter(same_names).map(|(index, _)| index).collect();
        let (mut exact, mut wildcard) = (NameMap::default(), NameMap::default());
        for (index, identity) in identities.iter().enumerate() {
            for name in identity.dns_names() {
                let (map, name) = name.strip_prefix("*.").map_or((&mut exact, name), |rest| (&mut wildcard, rest));
                map.entry(name.into()).or_default().push(index);
            }
        }
        Ok(Self { name: name.into(), identities: identities.into_boxed_slice(), exact, wildcard, default })
    }

    /// Its name, which takes part in the [ticket domain](super::ticket_domain()).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All identities, in the order in which they were given.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// The identity for a server name of any case and the client's signature schemes in its order of preference;
    /// `None` when no identity that may be shown can sign with any of them.
    pub fn choose(
        &self,
        server_name: Option<&str>,
        schemes: impl Iterator<Item = SignatureScheme> + Clone,
    ) -> Option<&Identity> {
        server_name
            .and_then(|name| self.choose_by_name(&normalized(name), &schemes))
            .or_else(|| self.choose_among(&self.default, &schemes))
    }

    fn choose_by_name(
        &self,
        name: &str,
        schemes: &(impl Iterator<Item = SignatureScheme> + Clone),
    ) -> Option<&Identity> {
        let exact = self.exact.get(name).and_then(|found| self.choose_among(found, schemes));
        exact.or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.choose_among(self.wildcard.get(parent)?, schemes)
        })
    }

    fn choose_among(
        &self,
        candidates: &[usize],
        schemes: &(impl Iterator<Item = SignatureScheme> + Clone),
    ) -> Option<&Identity> {
        let ranked = candidates.iter().filter_map(|&index| {
            let identity = &self.identities[index];
            let preference = schemes.clone().position(|scheme| identity.schemes.contains(&scheme))?;
            Some(((identity.key_kind == KeyKind::Rsa, preference), identity))
        });
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, identity)| identity)
    }
}

impl ResolvesServerCert for CertificateSet {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = client_hello.signature_schemes().iter().copied();
        // Without any, rustls would say `access_denied`. With one that does not fit it finds no cipher suite or signature
        // scheme in common, and says `handshake_failure` (RFC 8446 section 4.1.1, RFC 5246 section 7.4.1.3).
        let chosen = self.choose(client_hello.server_name(), schemes).or_else(|| self.identities.first());
        chosen.map(|identity| Arc::clone(identity.certified_key()))
    }
}

impl fmt::Debug for CertificateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateSet").field("name", &self.name).field("identities", &self.identities).finish()
    }
}

/// As names are in the maps: lower case, without a final dot.
fn normalized(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(name.to_ascii_lowercase());
    }
    Cow::Borrowed(name)
}
