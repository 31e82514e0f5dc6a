//! Key-exchange groups that find their result ready.

use rustls::crypto::aws_lc_rs::kx_group;
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};

use super::{client, turn};

/// Bytes of an ML-KEM-768 encapsulation key, which comes before the X25519 share
/// (draft-ietf-tls-ecdhe-mlkem section 4).
const ENCAPSULATION_KEY_LEN: usize = 1184;

/// X25519: a server's from the turn's stash, a client's from its thread's pool, else by aws-lc.
pub(super) static X25519: &dyn SupportedKxGroup = &Group(NamedGroup::X25519);

/// The hybrid whose X25519 half comes from the stash.
pub(super) static X25519MLKEM768: &dyn SupportedKxGroup = &Group(NamedGroup::X25519MLKEM768);

/// Which part of a client's key share is the one for X25519.
pub(crate) fn x25519_share(group: NamedGroup, share: &[u8]) -> Option<&[u8; 32]> {
    match group {
        NamedGroup::X25519 => share.try_into().ok(),
        NamedGroup::X25519MLKEM768 => share.get(ENCAPSULATION_KEY_LEN..)?.try_into().ok(),
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
        let pooled = if self.0 == NamedGroup::X25519 { client::start() } else { None };
        pooled.map_or_else(|| self.of_aws_lc().start(), Ok)
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
        let mut secret = Vec::with_capacity(kem.secret.secret_bytes().len() + found.secret.len());
        secret.extend_from_slice(kem.secret.secret_bytes());
        secret.extend_from_slice(&found.secret[..]);
        let mut pub_key = kem.pub_key;
        pub_key.extend_from_slice(&found.public);
        Ok(CompletedKeyExchange { group: self.0, pub_key, secret: SharedSecret::from(secret) })
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
