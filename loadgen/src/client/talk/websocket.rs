//! A WebSocket over HTTP/1.1 (RFC 6455) whose messages come back.

use super::{Heard, http1};
use crate::failure::ErrorClass;

/// RFC 6455 section 1.3 gives this key and the answer to it. The key proves that a server read the request, and guards
/// nothing, so one is as good as many.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const RESPONSE_BYTES_MAX: usize = 16 * 1024;
/// A message of one short frame.
const MESSAGE: &[u8] = b"handfast-load: this message wants to come back as it went.......";
/// What masks it. RFC 6455 section 10.3 wants masks that nobody can foresee, against pages that write for proxies; what
/// is written here is known beforehand.
const MASK: [u8; 4] = [0x5a, 0x3c, 0xa5, 0xc3];

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// A WebSocket whose upgrade or echo is awaited.
#[derive(Debug)]
pub(in crate::client) struct WebSocket {
    /// Received and not yet used.
    input: Vec<u8>,
    open: bool,
    heard: bool,
    /// Messages still to be echoed.
    left: u32,
}

impl WebSocket {
    pub(super) fn begin(path: &str, authority: &str, messages: u32, out: &mut Vec<u8>) -> Self {
        for part in [
            "GET ",
            path,
            " HTTP/1.1\r\nHost: ",
            authority,
            "\r\nUser-Agent: handfast-load\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: ",
            KEY,
            "\r\n\r\n",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        Self { input: Vec::new(), open: false, heard: false, left: messages }
    }

    pub(super) fn hear(&mut self, plain: &[u8], reply: &mut Vec<u8>) -> Result<Heard, ErrorClass> {
        self.input.extend_from_slice(plain);
        let mut heard = Heard { first_byte: !std::mem::replace(&mut self.heard, true), ..Heard::default() };
        if !self.open {
            heard.status = self.upgrade()?;
            if heard.status.is_none() {
                return Ok(heard);
            }
            self.open = true;
            write(TEXT, MESSAGE, reply);
        }
        while let Some((opcode, payload)) = self.frame()? {
            match opcode & !FIN {
                TEXT if payload == MESSAGE => {
                    heard.echoed = true;
                    self.left = self.left.saturating_sub(1);
                    if self.left == 0 {
                        heard.over = true;
                        // 1000: it has done what it was for (RFC 6455 section 7.4.1).
                        write(CLOSE, &1000_u16.to_be_bytes(), reply);
                        return Ok(heard);
                    }
                    write(TEXT, MESSAGE, reply);
                }
                PING => write(PONG, &payload, reply),
                PONG => {}
                CLOSE => return Err(ErrorClass::NoResponse),
                _ => return Err(ErrorClass::BadResponse),
            }
        }
        Ok(heard)
    }

    /// The status of the answer to the upgrade, once it is whole.
    fn upgrade(&mut self) -> Result<Option<u16>, ErrorClass> {
        let Some(status) = http1::status(&self.input[..self.input.len().min(12)])? else { return Ok(None) };
        let Some(end) = self.input.windows(4).position(|w| w == b"\r\n\r\n") else {
            return if self.input.len() > RESPONSE_BYTES_MAX { Err(ErrorClass::BadResponse) } else { Ok(None) };
        };
        let head = String::from_utf8_lossy(&self.input[..end]);
        let accepted = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .any(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == ACCEPT);
        if status != 101 || !accepted {
            return Err(ErrorClass::NotUpgraded);
        }
        self.input.drain(..end + 4);
        Ok(Some(status))
    }

    /// Takes a whole frame off the input: its first byte and its payload.
    fn frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, ErrorClass> {
        let [first, second, ..] = self.input[..] else { return Ok(None) };
        // RFC 6455 section 5.1: a server masks nothing. Fragments and longer frames are none of our messages.
        if second & MASKED != 0 || first & FIN == 0 || second > 125 {
            return Err(ErrorClass::BadResponse);
        }
        let end = 2 + usize::from(second);
        if self.input.len() < end {
            return Ok(None);
        }
        let payload = self.input[2..end].to_vec();
        self.input.drain(..end);
        Ok(Some((first, payload)))
    }
}

/// Writes a masked frame of at most 125 bytes.
fn write(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(FIN | opcode);
    out.extend(u8::try_from(payload.len()).map(|n| MASKED | n));
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                          sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn from_server(opcode: u8, payload: &[u8]) -> Vec<u8> {
        [&[FIN | opcode, u8::try_from(payload.len()).unwrap()][..], payload].concat()
    }

    #[test]
    fn each_echo_brings_the_next_message_and_the_last_one_the_close() {
        let stream = [ANSWER.as_bytes(), &from_server(PING, b"?"), &from_server(TEXT, MESSAGE)].concat();
        for cut in [1, 3, 1000] {
            let mut socket = WebSocket::begin("/", "localhost", 2, &mut Vec::new());
            let (mut reply, mut echoes, mut first_bytes) = (Vec::new(), 0, 0);
            for part in stream.chunks(cut) {
                let heard = socket.hear(part, &mut reply).unwrap();
                echoes += u32::from(heard.echoed);
                first_bytes += u32::from(heard.first_byte);
                assert!(!heard.over);
            }
            assert_eq!((echoes, first_bytes), (1, 1), "cut {cut}");
            // The message, the pong, the message again; each with a header of two bytes and a mask of four.
            assert_eq!(reply.len(), 6 + MESSAGE.len() + 6 + 1 + 6 + MESSAGE.len());
            reply.clear();
            assert!(socket.hear(&from_server(TEXT, MESSAGE), &mut reply).unwrap().over);
            assert_eq!(reply[..2], [FIN | CLOSE, MASKED | 2]);
        }
    }

    #[test]
    fn a_refused_upgrade_and_a_changed_message_are_told() {
        let hear = |answer: &str, frame: &[u8]| {
            let mut socket = WebSocket::begin("/", "localhost", 1, &mut Vec::new());
            socket.hear(&[answer.as_bytes(), frame].concat(), &mut Vec::new())
        };
        assert_eq!(hear("HTTP/1.1 404 Not Found\r\n\r\n", b""), Err(ErrorClass::NotUpgraded));
        assert_eq!(hear("HTTP/1.1 101 Switching\r\n\r\n", b""), Err(ErrorClass::NotUpgraded));
        assert_eq!(hear("SMTP", b""), Err(ErrorClass::BadResponse));
        assert_eq!(hear(ANSWER, &from_server(TEXT, b"other")), Err(ErrorClass::BadResponse));
        assert_eq!(hear(ANSWER, &from_server(CLOSE, b"\x03\xe8")), Err(ErrorClass::NoResponse));
        assert_eq!(hear(ANSWER, &[FIN | TEXT, MASKED | 1, 0, 0, 0, 0, 0]), Err(ErrorClass::BadResponse));
    }
}
