//! The key share in a ServerHello, for clients that compute agreements ahead.

use rustls::NamedGroup;

use super::cursor::Cursor;
use super::{CONTENT_HANDSHAKE, KEY_SHARE};

const MESSAGE_SERVER_HELLO: u8 = 2;

/// The server's key share (RFC 8446 section 4.2.8) in the ServerHello at the start of `records`.
///
/// `None` if there is none in the first record: a HelloRetryRequest, TLS 1.2, an alert, or a ServerHello that is not
/// whole. rustls reads the same bytes afterwards and has the last word.
#[must_use]
pub fn server_key_share(records: &[u8]) -> Option<(NamedGroup, &[u8])> {
    let mut record = Cursor::new(records);
    if record.u8()? != CONTENT_HANDSHAKE {
        return None;
    }
    record.u16()?;
    let mut fragment = record.vector16()?;
    if fragment.u8()? != MESSAGE_SERVER_HELLO || fragment.u8()? != 0 {
        return None;
    }
    let mut body = fragment.vector16()?;
    body.take(2 + 32)?;
    body.vector8()?;
    body.take(2 + 1)?;
    let mut extensions = body.vector16()?;
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let mut extension = extensions.vector16()?;
        if kind == KEY_SHARE {
            return Some((NamedGroup::from(extension.u16()?), extension.vector16()?.rest()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::testing::{extension, records, vector};
    use super::*;

    /// A ServerHello with these extensions.
    fn server_hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [&[3, 3][..], &[7; 32], &[0], &[0x13, 1], &[0], &vector(2, &extensions.concat())].concat();
        records(&[&[2][..], &vector(3, &body)].concat(), 1 << 14)
    }

    #[test]
    fn the_share_is_found_behind_other_extensions() {
        let share = [&[0, 29][..], &vector(2, &[5; 32])].concat();
        let hello = server_hello(&[extension(43, &[3, 4]), extension(51, &share)]);
        assert_eq!(server_key_share(&hello), Some((NamedGroup::X25519, &[5; 32][..])));
        for len in 0..hello.len() {
            assert_eq!(server_key_share(&hello[..len]), None, "cut at {len}");
        }
    }

    #[test]
    fn a_retry_an_alert_and_noise_have_none() {
        assert_eq!(server_key_share(&server_hello(&[extension(51, &[0, 29])])), None);
        assert_eq!(server_key_share(&server_hello(&[])), None);
        assert_eq!(server_key_share(&[21, 3, 3, 0, 2, 2, 40]), None);
        for byte in 0..=255 {
            assert_eq!(server_key_share(&[byte; 600]), None);
        }
    }
}
