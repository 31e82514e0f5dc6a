//! One HTTP/1.1 request (RFC 9112).

use super::Heard;
use crate::failure::ErrorClass;

/// `HTTP/1.1 200`.
const STATUS_LINE_BYTES: usize = 12;

/// A request whose response is awaited.
#[derive(Debug, Default)]
pub(in crate::client) struct Http1 {
    line: Vec<u8>,
}

impl Http1 {
    pub(super) fn begin(path: &str, authority: &str, out: &mut Vec<u8>) -> Self {
        for part in [
            "GET ",
            path,
            " HTTP/1.1\r\nHost: ",
            authority,
            "\r\nUser-Agent: handfast-load\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        Self::default()
    }

    pub(super) fn hear(&mut self, plain: &[u8]) -> Result<Heard, ErrorClass> {
        let first_byte = self.line.is_empty();
        let missing = STATUS_LINE_BYTES - self.line.len();
        self.line.extend_from_slice(&plain[..missing.min(plain.len())]);
        let status = status(&self.line)?;
        Ok(Heard { first_byte, status, echoed: false, over: status.is_some() })
    }
}

/// The status of the response that `line` begins; `None` when there is too little of it yet.
pub(super) fn status(line: &[u8]) -> Result<Option<u16>, ErrorClass> {
    const START: &[u8] = b"HTTP/1.";
    let there = line.len().min(START.len());
    if line[..there] != START[..there] {
        return Err(ErrorClass::BadResponse);
    }
    let Some(digits) = line.get(9..STATUS_LINE_BYTES) else { return Ok(None) };
    let text = std::str::from_utf8(digits).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|t| t.parse().ok()).map(Some).ok_or(ErrorClass::BadResponse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_counts_from_its_first_byte_and_ends_with_its_status() {
        let mut out = Vec::new();
        let mut http = Http1::begin("/x", "a.example:8443", &mut out);
        let request = String::from_utf8(out).unwrap();
        assert!(request.starts_with("GET /x HTTP/1.1\r\nHost: a.example:8443\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n"));
        let first = http.hear(b"HTTP/1.1 2").unwrap();
        assert_eq!(first, Heard { first_byte: true, ..Heard::default() });
        let rest = http.hear(b"04 No Content\r\n").unwrap();
        assert_eq!(rest, Heard { status: Some(204), over: true, ..Heard::default() });
    }

    #[test]
    fn what_is_no_response_is_refused_at_its_first_wrong_byte() {
        for bad in [&b"SSH"[..], b"HTTP/2.0 200", b"HTTP/1.1 2x0", b"\0"] {
            assert_eq!(Http1::default().hear(bad), Err(ErrorClass::BadResponse), "{bad:?}");
        }
    }
}
