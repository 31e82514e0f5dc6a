//! Any bytes, in any pieces: the reader of PROXY protocol headers never panics, keeps no more than its limit, and its
//! answer does not depend on where the bytes are cut.
#![no_main]

use handfast::error::Refusal;
use handfast::handshake::proxy::ProxyReader;
use handfast::peer::PeerAddr;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 512;

type Answer = Result<Option<(Option<PeerAddr>, usize)>, Refusal>;

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    let at_once = in_pieces(bytes, bytes.len().max(1));
    if let Ok(Some((_, len))) = &at_once {
        assert!(*len <= bytes.len() && *len <= LIMIT);
    }
    assert_eq!(in_pieces(bytes, usize::from(step).max(1)), at_once);
});

fn in_pieces(bytes: &[u8], step: usize) -> Answer {
    let mut reader = ProxyReader::default();
    for (i, piece) in bytes.chunks(step).enumerate() {
        if let Some((client, taken)) = reader.read(piece, LIMIT)? {
            return Ok(Some((client, i * step + taken)));
        }
    }
    Ok(None)
}
