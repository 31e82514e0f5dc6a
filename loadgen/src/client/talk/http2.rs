//! One HTTP/2 request (RFC 9113), as short as it can be: no dynamic table, no flow control to speak of.

use super::Heard;
use crate::failure::ErrorClass;

/// The preface and an empty SETTINGS frame (RFC 9113 section 3.4).
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const FRAME_HEADER_BYTES: usize = 9;
/// The largest frame that we allow by not asking for larger ones (RFC 9113 section 4.2).
const FRAME_BYTES_MAX: usize = 16_384;
/// A status field takes at most these, behind the lengths of padding and priority and a size update.
const BLOCK_BYTES: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
/// Of HEADERS.
const END_STREAM_AND_HEADERS: u8 = 0x05;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// A request whose response is awaited.
#[derive(Debug, Default)]
pub(in crate::client) struct Http2 {
    /// Received of the current frame: its header and the beginning of its payload.
    frame: Vec<u8>,
    /// Of the current frame still to come, and to be passed over.
    skip: usize,
    heard: bool,
}

impl Http2 {
    pub(super) fn begin(path: &str, authority: &str, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(OPENING);
        let mut block = Vec::with_capacity(64 + path.len() + authority.len());
        // RFC 7541 appendix A: `:method: GET` is 2, `:scheme: https` is 7; the names `:path` 4, `:authority` 1.
        block.extend([0x82, 0x87]);
        for (name, value) in [(4, path), (1, authority)] {
            literal(&mut block, name, value.as_bytes());
        }
        out.extend_from_slice(&u32::try_from(block.len()).unwrap_or(0).to_be_bytes()[1..]);
        out.extend([HEADERS, END_STREAM_AND_HEADERS, 0, 0, 0, 1]);
        out.append(&mut block);
        Self::default()
    }

    pub(super) fn hear(&mut self, mut plain: &[u8]) -> Result<Heard, ErrorClass> {
        let mut heard = Heard::default();
        while !plain.is_empty() && !heard.over {
            if self.skip > 0 {
                let passed = self.skip.min(plain.len());
                self.skip -= passed;
                plain = &plain[passed..];
                continue;
            }
            let taken = (self.wanted() - self.frame.len()).min(plain.len());
            self.frame.extend_from_slice(&plain[..taken]);
            plain = &plain[taken..];
            let found = self.judge()?;
            heard.first_byte |= found.first_byte;
            (heard.status, heard.over) = (found.status, found.over);
        }
        Ok(heard)
    }

    /// How much of the current frame has to be there before it is judged: its header, then of HEADERS the beginning.
    fn wanted(&self) -> usize {
        match self.frame.get(3) {
            Some(&HEADERS) if self.frame.len() >= FRAME_HEADER_BYTES => {
                FRAME_HEADER_BYTES + self.length().min(BLOCK_BYTES)
            }
            _ => FRAME_HEADER_BYTES,
        }
    }

    fn length(&self) -> usize {
        self.frame.iter().take(3).fold(0, |n, byte| n << 8 | usize::from(*byte))
    }

    fn judge(&mut self) -> Result<Heard, ErrorClass> {
        let Some([_, _, _, kind, flags, stream @ ..]) = self.frame.first_chunk::<FRAME_HEADER_BYTES>().copied() else {
            return Ok(Heard::default());
        };
        if self.length() > FRAME_BYTES_MAX {
            return Err(ErrorClass::BadResponse);
        }
        let ours = u32::from_be_bytes(stream) & 0x7fff_ffff == 1;
        match kind {
            HEADERS if ours => {
                let first_byte = !std::mem::replace(&mut self.heard, true);
                if self.frame.len() < self.wanted() {
                    return Ok(Heard { first_byte, ..Heard::default() });
                }
                let status = status(flags, &self.frame[FRAME_HEADER_BYTES..]).unwrap_or(0);
                Ok(Heard { first_byte, status: Some(status), echoed: false, over: true })
            }
            // RFC 9113 section 8.1: a response begins with HEADERS.
            DATA if ours => Err(ErrorClass::BadResponse),
            RST_STREAM if ours => Err(ErrorClass::NoResponse),
            GOAWAY => Err(ErrorClass::NoResponse),
            _ => {
                self.skip = self.length();
                self.frame.clear();
                Ok(Heard::default())
            }
        }
    }
}

/// A literal field without indexing, its name from the static table (RFC 7541 section 6.2.2).
fn literal(block: &mut Vec<u8>, name: u8, value: &[u8]) {
    block.push(name);
    // A length of seven bits, then groups of seven (RFC 7541 section 5.1).
    match value.len() {
        short @ 0..127 => block.extend(u8::try_from(short)),
        long => {
            block.push(127);
            let mut rest = long - 127;
            while rest >= 128 {
                block.extend(u8::try_from(rest % 128 + 128));
                rest /= 128;
            }
            block.extend(u8::try_from(rest));
        }
    }
    block.extend_from_slice(value);
}

/// The status, which comes first in a response (RFC 9113 section 8.3.2); `None` when it is written in a way that
/// servers do not use.
fn status(flags: u8, payload: &[u8]) -> Option<u16> {
    let padding = usize::from(flags & PADDED != 0);
    let priority = if flags & PRIORITY != 0 { 5 } else { 0 };
    let mut block = payload.get(padding + priority..)?;
    // A change of the dynamic table's size may come before everything (RFC 7541 section 6.3).
    while block.first()? & 0xe0 == 0x20 {
        let more = block[0] & 0x1f == 0x1f;
        let end = if more { 2 + block[1..].iter().position(|b| b & 0x80 == 0)? } else { 1 };
        block = block.get(end..)?;
    }
    match block {
        // RFC 7541 appendix A.
        [indexed @ 0x88..=0x8e, ..] => Some([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]),
        // A literal of whatever indexing, its name one of those that are `:status`; plain, then in Huffman's code.
        [0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e, 3, digits @ ..] => {
            let digits = digits.get(..3)?.iter();
            digits.map(|d| d.is_ascii_digit().then(|| u16::from(d - b'0'))).try_fold(0, |n, d| Some(n * 10 + d?))
        }
        [0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e, length, code @ ..] if length & 0x80 != 0 => {
            huffman_digits(code.get(..usize::from(length & 0x7f))?)
        }
        _ => None,
    }
}

/// Three digits in the code of RFC 7541 appendix B: 0 to 2 have five bits (0x00 to 0x02), the others six (0x19 to 0x1f).
fn huffman_digits(code: &[u8]) -> Option<u16> {
    let mut bits = code.iter().flat_map(|byte| (0..8).rev().map(move |i| u16::from(byte >> i & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let mut value = 0;
        for _ in 0..5 {
            value = value << 1 | bits.next()?;
        }
        let digit = match value {
            0..=2 => value,
            _ => (value << 1 | bits.next()?).checked_sub(0x19)? + 3,
        };
        number = number * 10 + (digit < 10).then_some(digit)?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &[u8] = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64";

    fn headers(flags: u8, block: &[u8]) -> Vec<u8> {
        let length = u8::try_from(block.len()).unwrap();
        [&[0, 0, length, HEADERS, flags, 0, 0, 0, 1][..], block].concat()
    }

    #[test]
    fn a_response_is_found_behind_other_frames_whatever_the_cuts() {
        let stream = [SETTINGS, &headers(4, &[0x88, 0x76, 1, b'x'])].concat();
        for cut in 1..=stream.len() {
            let mut http = Http2::begin("/", "localhost", &mut Vec::new());
            let mut all = Heard::default();
            for part in stream.chunks(cut) {
                let heard = http.hear(part).unwrap();
                assert!(!(all.first_byte && heard.first_byte), "the first byte comes once");
                all.first_byte |= heard.first_byte;
                all.status = all.status.or(heard.status);
                all.over |= heard.over;
            }
            assert_eq!(all, Heard { first_byte: true, status: Some(200), echoed: false, over: true }, "cut {cut}");
        }
    }

    #[test]
    fn statuses_are_read_in_each_way_of_writing_them() {
        assert_eq!(status(0, &[0x8d]), Some(404));
        assert_eq!(status(0, &[0x20, 0x88]), Some(200));
        assert_eq!(status(0, &[0x3f, 0xe1, 0x1f, 0x88]), Some(200));
        assert_eq!(status(0, b"\x08\x03503"), Some(503));
        // RFC 7541 appendix C.6.1: 302 in Huffman's code.
        assert_eq!(status(0, &[0x48, 0x82, 0x64, 0x02]), Some(302));
        assert_eq!(status(PADDED | PRIORITY, &[1, 0, 0, 0, 0, 16, 0x8b, 0]), Some(304));
        for odd in [&[][..], &[0x48], &[0x48, 0x82, 0xff, 0xff], &[0x10, 1, b'x'], b"\x08\x03x03", &[0x3f]] {
            assert_eq!(status(0, odd), None, "{odd:?}");
        }
    }

    #[test]
    fn a_refused_or_senseless_stream_is_told() {
        let hear = |bytes: &[u8]| Http2::default().hear(bytes);
        assert_eq!(hear(b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x07"), Err(ErrorClass::NoResponse));
        assert_eq!(hear(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00"), Err(ErrorClass::NoResponse));
        assert_eq!(hear(b"\x00\x00\x01\x00\x01\x00\x00\x00\x01x"), Err(ErrorClass::BadResponse));
        assert_eq!(hear(b"HTTP/1.1 400 Bad Request"), Err(ErrorClass::BadResponse));
    }

    #[test]
    fn long_values_have_long_lengths() {
        let mut block = Vec::new();
        literal(&mut block, 4, &[b'x'; 300]);
        // RFC 7541 section 5.1: 300 = 127 + 45 + 1 * 128.
        assert_eq!(block[..4], [4, 127, 45 + 128, 1]);
        let mut out = Vec::new();
        Http2::begin("/", "localhost", &mut out);
        assert_eq!(out[OPENING.len()..][..9], [0, 0, 16, 1, 5, 0, 0, 0, 1]);
    }
}
