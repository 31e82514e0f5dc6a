//! Key-exchange groups that find their result ready.

use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};

use super::{client, turn};

/// Bytes of an ML-KEM-768 encapsulation key, which comes before the X25519 share
/// (draft-ietf-tls-ecdhe-mlkem section 4).
const ENCAPSULATION_KEY_LEN: usize = 1184;

/// Bytes of an ML-KEM-768 ciphertext, which comes before the X25519 share of a server (section 4 there).
const CIPHERTEXT_LEN: usize = 1088;

/// X25519: a server's from the turn's stash, a client's from its thread's pool, else by aws-lc.
pub(super) static X25519: &dyn SupportedKxGroup = &Group(NamedGroup::X25519);

/// The hybrid whose X25519 half comes from there.
pub(super) static X25519MLKEM768: &dyn SupportedKxGroup = &Group(NamedGroup::X25519MLKEM768);

/// Which part of a client's key share is the one for X25519.
pub(crate) fn x25519_share(group: NamedGroup, share: &[u8]) -> Option<&[u8; 32]> {
    match group {
        NamedGroup::X25519 => share.try_into().ok(),
        NamedGroup::X25519MLKEM768 => share.get(ENCAPSULATION_KEY_LEN..)?.try_into().ok(),
        _ => None,
    }
}

/// Which part of a server's key share for `group` is the one for X25519: all of X25519's, the end of X25519MLKEM768's
/// (draft-ietf-tls-ecdhe-mlkem section 4), `None` of another group's or of one that is of the wrong length.
#[must_use]
pub fn x25519_answer(group: NamedGroup, share: &[u8]) -> Option<&[u8; 32]> {
    match group {
        NamedGroup::X25519 => share.try_into().ok(),
        NamedGroup::X25519MLKEM768 => share.get(CIPHERTEXT_LEN..)?.try_into().ok(),
        _ => None,
    }
}

#[derive(Debug)]
struct Group(NamedGroup);

impl Group {
    fn of_aws_lc(&self) -> &'static dyn SupportedKxGroup {
        match self.0 {
            NamedGroup::X25519MLKEM768 => kx_group::X25519MLKEM768,
            _ => kx_group::X25519,
        }
    }
}

impl SupportedKxGroup for Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        match client::start() {
            None => self.of_aws_lc().start(),
            Some(pooled) if self.0 == NamedGroup::X25519 => Ok(Box::new(pooled)),
            Some(pooled) => Ok(Box::new(PooledHybrid::new(Box::new(pooled))?)),
        }
    }

    fn start_and_complete(&self, share: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let Some(found) = x25519_share(self.0, share).and_then(|share| turn::take(share)) else {
            return self.of_aws_lc().start_and_complete(share);
        };
        // "Implementations MUST check whether the computed Diffie-Hellman shared secret is the all-zero value and
        // abort if so" (RFC 8446 section 7.4.2).
        if found.secret.iter().fold(0, |bits, byte| bits | byte) == 0 {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        if self.0 == NamedGroup::X25519 {
            return Ok(CompletedKeyExchange {
                group: self.0,
                pub_key: found.public.to_vec(),
                secret: SharedSecret::from(&found.secret[..]),
            });
        }
        let kem = kx_group::MLKEM768.start_and_complete(&share[..ENCAPSULATION_KEY_LEN])?;
        let mut pub_key = kem.pub_key;
        pub_key.extend_from_slice(&found.public);
        Ok(CompletedKeyExchange { group: self.0, pub_key, secret: joined(&kem.secret, &found.secret[..]) })
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        self.0
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        self.of_aws_lc().usable_for_version(version)
    }
}

/// The hybrid's secret. It is made in its full size at once, as one that grew would leave a copy behind.
fn joined(kem: &SharedSecret, x25519: &[u8]) -> SharedSecret {
    let mut secret = Vec::with_capacity(kem.secret_bytes().len() + x25519.len());
    secret.extend_from_slice(kem.secret_bytes());
    secret.extend_from_slice(x25519);
    SharedSecret::from(secret)
}

/// A client's hybrid exchange under way, whose X25519 half has a share from the pool.
struct PooledHybrid {
    kem: Box<dyn ActiveKeyExchange>,
    x25519: Box<client::Pooled>,
    public: Vec<u8>,
}

impl PooledHybrid {
    fn new(x25519: Box<client::Pooled>) -> Result<Self, Error> {
        let kem = kx_group::MLKEM768.start()?;
        let public = [kem.pub_key(), x25519.pub_key()].concat();
        Ok(Self { kem, x25519, public })
    }
}

impl ActiveKeyExchange for PooledHybrid {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let Some(theirs) = x25519_answer(NamedGroup::X25519MLKEM768, peer) else {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        };
        let x25519 = self.x25519.complete(theirs)?;
        Ok(joined(&self.kem.complete(&peer[..CIPHERTEXT_LEN])?, x25519.secret_bytes()))
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        Some((NamedGroup::X25519, self.x25519.pub_key()))
    }

    fn complete_hybrid_component(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        self.x25519.complete(peer)
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}
