//! Records that no library sends, sealed by hand with the secrets of a finished handshake.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use handfast::rustls::{ConnectionTrafficSecrets, ProtocolVersion};

use crate::client::Tls;

/// A client's sending half after its handshake, for ChaCha20-Poly1305 in TLS 1.2 and 1.3.
#[derive(Debug)]
pub struct Sealer<P> {
    /// The raw end.
    pub peer: P,
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    tls13: bool,
}

impl<P> Sealer<P> {
    /// Takes over from a client whose options said `extract`.
    ///
    /// # Panics
    /// When the secrets are those of another cipher suite, or cannot be had, which fails the test.
    #[must_use]
    pub fn new(client: Tls<P>) -> Self {
        let tls13 = client.conn.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let (sequence, secrets) = client.conn.dangerous_extract_secrets().expect("secrets").tx;
        let ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } = secrets else {
            unreachable!("the client offers ChaCha20-Poly1305 only")
        };
        let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).expect("a key");
        let iv = iv.as_ref().try_into().expect("twelve bytes");
        Self { peer: client.peer, key: LessSafeKey::new(key), iv, sequence, tls13 }
    }

    /// One record of this content type.
    ///
    /// # Panics
    /// When `content` is longer than a record, which fails the test.
    pub fn record(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        let mut nonce = self.iv;
        for (byte, bits) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= bits;
        }
        let mut sealed = content.to_vec();
        if self.tls13 {
            sealed.push(content_type);
        }
        let outer = if self.tls13 { 23 } else { content_type };
        let len = |n: usize| u16::try_from(n).expect("a record's length").to_be_bytes();
        let header = [&[outer, 3, 3][..], &len(sealed.len() + CHACHA20_POLY1305.tag_len())].concat();
        // RFC 8446 section 5.2, and RFC 5246 section 6.2.3.3 with the nonce of RFC 7905.
        let aad = if self.tls13 {
            header.clone()
        } else {
            [&self.sequence.to_be_bytes()[..], &[outer, 3, 3], &len(content.len())].concat()
        };
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).expect("a sealed record");
        self.sequence += 1;
        [header, sealed].concat()
    }
}
