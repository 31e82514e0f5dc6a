//! The PROXY protocol header, version 1 or 2, in front of a ClientHello.
//!
//! Finding its end is ours, so that a header may come in pieces of any size and is bounded before it is kept; reading
//! it is a library's.

use std::net::SocketAddr;

use ppp::{v1, v2};

use crate::error::Refusal;
use crate::peer::PeerAddr;

/// How each header of version 2 begins (PROXY protocol, section 2.2).
const SIGNATURE_V2: &[u8] = v2::PROTOCOL_PREFIX;
/// Signature, version and command, family and protocol, length.
const FIXED_LEN_V2: usize = 16;
const SIGNATURE_V1: &[u8] = b"PROXY ";
/// The longest line of version 1, with its CRLF (section 2.1).
const LINE_LEN_MAX: usize = 107;
/// The type of the value that holds a checksum of the header (section 2.2.1).
const TYPE_CRC32C: u8 = 3;
/// Type and length of each such value.
const VALUE_HEADER_LEN: usize = 3;

/// Reads one header from bytes that arrive in pieces of any size.
#[derive(Debug, Default)]
pub struct ProxyReader {
    kept: Vec<u8>,
}

impl ProxyReader {
    /// Reads on. Once the header is whole: whom it names, if anyone, and how many bytes of this `input` belong to it.
    /// What has come before that is kept, within `limit` bytes.
    ///
    /// # Errors
    /// [`Refusal::ProxyHeader`] as soon as it cannot become a header, [`Refusal::ProxyTooLarge`] as soon as it announces
    /// more than `limit` bytes. The reader is of no further use then.
    pub fn read(&mut self, input: &[u8], limit: usize) -> Result<Option<(Option<PeerAddr>, usize)>, Refusal> {
        let before = self.kept.len();
        if before == 0 {
            if let Some(len) = header_len(input, limit)? {
                return Ok(Some((client(&input[..len])?, len)));
            }
            self.kept.extend_from_slice(input);
            return Ok(None);
        }
        // No more than could belong to a header.
        self.kept.extend_from_slice(&input[..input.len().min(limit)]);
        let Some(len) = header_len(&self.kept, limit)? else { return Ok(None) };
        Ok(Some((client(&self.kept[..len])?, len - before)))
    }
}

/// How long the header is, once all of it is at the beginning of `input`.
fn header_len(input: &[u8], limit: usize) -> Result<Option<usize>, Refusal> {
    let within = |len: usize| if len > limit { Err(Refusal::ProxyTooLarge) } else { Ok(len) };
    if begins(input, SIGNATURE_V2)? {
        let Some(&[high, low]) = input.get(FIXED_LEN_V2 - 2..FIXED_LEN_V2) else { return Ok(None) };
        let len = within(FIXED_LEN_V2 + usize::from(u16::from_be_bytes([high, low])))?;
        return Ok((input.len() >= len).then_some(len));
    }
    if !begins(input, SIGNATURE_V1)? {
        return Ok(None);
    }
    let line = &input[..input.len().min(LINE_LEN_MAX)];
    match line.iter().position(|byte| *byte == b'\n') {
        Some(end) => within(end + 1).map(Some),
        None if line.len() == LINE_LEN_MAX => Err(Refusal::ProxyHeader),
        None => within(line.len() + 1).map(|_| None),
    }
}

/// Whether `input` begins with all of `signature`; what can become neither of the two is refused.
fn begins(input: &[u8], signature: &[u8]) -> Result<bool, Refusal> {
    let start = &input[..input.len().min(signature.len())];
    if input.first().is_some_and(|byte| *byte != SIGNATURE_V1[0] && *byte != SIGNATURE_V2[0]) {
        return Err(Refusal::ProxyHeader);
    }
    if input.first() != signature.first() {
        return Ok(false);
    }
    if start != &signature[..start.len()] {
        return Err(Refusal::ProxyHeader);
    }
    Ok(start.len() == signature.len())
}

/// Whom a whole header names.
fn client(header: &[u8]) -> Result<Option<PeerAddr>, Refusal> {
    let client = if header.starts_with(SIGNATURE_V2) { client_v2(header) } else { client_v1(header) }?;
    Ok(client.map(PeerAddr::Ip))
}

fn client_v1(line: &[u8]) -> Result<Option<SocketAddr>, Refusal> {
    let header = v1::Header::try_from(line).map_err(|_| Refusal::ProxyHeader)?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(a) => Some((a.source_address, a.source_port).into()),
        v1::Addresses::Tcp6(a) => Some((a.source_address, a.source_port).into()),
        v1::Addresses::Unknown => None,
    })
}

fn client_v2(bytes: &[u8]) -> Result<Option<SocketAddr>, Refusal> {
    let header = v2::Header::try_from(bytes).map_err(|_| Refusal::ProxyHeader)?;
    check_values(bytes, &header)?;
    if header.command == v2::Command::Local {
        return Ok(None);
    }
    match (header.addresses, header.protocol) {
        (v2::Addresses::IPv4(a), v2::Protocol::Stream) => Ok(Some((a.source_address, a.source_port).into())),
        (v2::Addresses::IPv6(a), v2::Protocol::Stream) => Ok(Some((a.source_address, a.source_port).into())),
        (v2::Addresses::Unix(_), v2::Protocol::Stream) | (v2::Addresses::Unspecified, _) => Ok(None),
        // Datagrams did not come over this stream.
        _ => Err(Refusal::ProxyHeader),
    }
}

/// The values behind the addresses fill the header, and its checksum, if there is one, is right.
fn check_values(bytes: &[u8], header: &v2::Header<'_>) -> Result<(), Refusal> {
    let mut at = bytes.len() - header.tlv_bytes().len();
    for value in header.tlvs() {
        let value = value.map_err(|_| Refusal::ProxyHeader)?;
        let from = at + VALUE_HEADER_LEN;
        at = from + value.value.len();
        if value.kind != TYPE_CRC32C {
            continue;
        }
        // Over all of the header, with zeros in the checksum's own place.
        let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..from]), &[0; 4]);
        if *value.value != crc32c::crc32c_append(sum, &bytes[at..]).to_be_bytes() {
            return Err(Refusal::ProxyHeader);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 4096;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE_V2, &[0x20 | command, family], &len, body].concat()
    }

    fn tcp4(values: &[u8]) -> Vec<u8> {
        v2(1, 0x11, &[&[203, 0, 113, 7, 10, 0, 0, 1, 0x1f, 0x90, 1, 0xbb], values].concat())
    }

    /// With a checksum that is right, behind a value of another type.
    fn summed() -> Vec<u8> {
        let mut header = tcp4(&[4, 0, 1, 9, TYPE_CRC32C, 0, 4, 0, 0, 0, 0, 2, 0, 1, b'a']);
        let sum = crc32c::crc32c(&header).to_be_bytes();
        let at = header.len() - 8;
        header[at..at + 4].copy_from_slice(&sum);
        header
    }

    fn addr(text: &str) -> Option<PeerAddr> {
        Some(PeerAddr::Ip(text.parse().unwrap()))
    }

    fn good() -> Vec<(Vec<u8>, Option<PeerAddr>)> {
        let v6 = [[0x20; 16], [0x21; 16]].concat();
        vec![
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 8080 443\r\n".to_vec(), addr("203.0.113.7:8080")),
            (b"PROXY TCP6 2001:db8::7 ::1 8080 443\r\n".to_vec(), addr("[2001:db8::7]:8080")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (tcp4(&[]), addr("203.0.113.7:8080")),
            (tcp4(&[4, 0, 3, 1, 2, 3, 0xe0, 0, 0]), addr("203.0.113.7:8080")),
            (summed(), addr("203.0.113.7:8080")),
            (v2(1, 0x21, &[&v6[..], &[0, 1, 0, 2]].concat()), addr("[2020:2020:2020:2020:2020:2020:2020:2020]:1")),
            (v2(0, 0x00, &[]), None),
            (v2(0, 0x11, &[203, 0, 113, 7, 10, 0, 0, 1, 0x1f, 0x90, 1, 0xbb]), None),
            (v2(1, 0x00, &[1, 2, 3]), None),
            (v2(1, 0x31, &[0; 216]), None),
        ]
    }

    #[test]
    fn every_kind_of_header_names_its_client() {
        for (header, client) in good() {
            let len = header.len();
            let input = [&header[..], b"\x16\x03\x01"].concat();
            let read = ProxyReader::default().read(&input, LIMIT);
            assert_eq!(read, Ok(Some((client, len))), "{}", header.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_it_can_be() {
        let mut wrong_sum = summed();
        wrong_sum[20] ^= 1;
        let bad: [&[u8]; 13] = [
            b"\x16\x03\x01",
            b"GET ",
            b"PROXI",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 8080\r\n",
            b"PROXY TCP4 203.0.113.700 10.0.0.1 8080 443\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 8080 443\n",
            b"PROXY UDP4 203.0.113.7 10.0.0.1 8080 443\r\n",
            &[b'P'; 2],
            &v2(2, 0x11, &[0; 12]),
            &v2(1, 0x11, &[0; 11]),
            &v2(1, 0x12, &[0; 12]),
            &tcp4(&[4, 0, 9, 1]),
            &wrong_sum,
        ];
        for header in bad {
            let read = ProxyReader::default().read(header, LIMIT);
            assert_eq!(read, Err(Refusal::ProxyHeader), "{}", header.escape_ascii());
        }
        // A line that never ends, and a length that is announced.
        let endless = [SIGNATURE_V1, &[b' '; LINE_LEN_MAX]].concat();
        assert_eq!(ProxyReader::default().read(&endless, LIMIT), Err(Refusal::ProxyHeader));
        let long = v2(1, 0x11, &vec![0; LIMIT]);
        assert_eq!(ProxyReader::default().read(&long[..16], LIMIT), Err(Refusal::ProxyTooLarge));
        assert_eq!(ProxyReader::default().read(b"PROXY TCP4 203.0.113.7", 20), Err(Refusal::ProxyTooLarge));
    }

    /// The answer to `input` in pieces that end at `cuts`, and how much of it the header took.
    fn in_pieces(input: &[u8], cuts: &[usize]) -> Result<Option<(Option<PeerAddr>, usize)>, Refusal> {
        let mut reader = ProxyReader::default();
        let mut at = 0;
        for end in cuts.iter().copied().chain([input.len()]).filter(|end| *end <= input.len()) {
            if end < at {
                continue;
            }
            if let Some((client, taken)) = reader.read(&input[at..end], LIMIT)? {
                return Ok(Some((client, at + taken)));
            }
            assert!(reader.kept.len() <= LIMIT);
            at = end;
        }
        Ok(None)
    }

    #[test]
    fn a_header_may_be_cut_at_every_byte() {
        for (header, client) in good() {
            let input = [&header[..], b"\x16\x03\x01"].concat();
            for cut in 0..input.len() {
                assert_eq!(in_pieces(&input, &[cut]), Ok(Some((client, header.len()))), "{}", header.escape_ascii());
            }
            let cuts: Vec<_> = (0..input.len()).collect();
            assert_eq!(in_pieces(&input, &cuts), Ok(Some((client, header.len()))));
        }
    }

    proptest! {
        #[test]
        fn pieces_change_no_answer(
            which in 0usize..14,
            flips in proptest::collection::vec((0usize..300, any::<u8>()), 0..4),
            cuts in proptest::collection::btree_set(0usize..300, 0..8),
            junk in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut input = good().get(which).map_or_else(|| junk.clone(), |(header, _)| header.clone());
            for (at, bits) in flips {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= bits;
                }
            }
            let cuts: Vec<_> = cuts.into_iter().collect();
            prop_assert_eq!(in_pieces(&input, &cuts), in_pieces(&input, &[]));
        }
    }
}
