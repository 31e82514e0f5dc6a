//! Any bytes: our reader never panics, takes what rustls takes, and reads it as rustls does.
#![no_main]

use std::io::Read;

use handfast::handshake::hello::HelloReader;
use libfuzzer_sys::fuzz_target;
use rustls::NamedGroup;
use rustls::server::{Accepted, Acceptor};

const LIMIT: usize = 1 << 17;

fuzz_target!(|input: &[u8]| {
    let at_once = HelloReader::new().read(input, LIMIT);
    check_pieces(input, at_once.as_ref().map(Option::is_some).map_err(Clone::clone));
    if let Ok(Some(hello)) = &at_once {
        let view = hello.view(input, None);
        let _ = (view.random(), view.session_id(), view.legacy_version(), view.supported_versions().count());
        let _ = (view.key_share(NamedGroup::X25519), view.extensions().count());
        assert!(hello.record_bytes() <= input.len());
    }
    let Some(accepted) = accepted(input) else {
        return;
    };
    let hello = at_once.expect("rustls accepts it").expect("rustls finds it complete");
    let view = hello.view(input, None);
    let theirs = accepted.client_hello();
    assert_eq!(view.server_name().map(str::to_ascii_lowercase).as_deref(), theirs.server_name());
    assert_eq!(view.offers_alpn(), theirs.alpn().is_some());
    assert!(view.alpn_protocols().eq(theirs.alpn().into_iter().flatten()));
    assert!(view.signature_schemes().eq(theirs.signature_schemes().iter().copied()));
    assert!(view.cipher_suites().eq(theirs.cipher_suites().iter().copied()));
    assert!(view.groups().eq(theirs.named_groups().unwrap_or_default().iter().copied()));
});

/// Where the input is cut changes neither the answer nor, for a refusal, its reason.
fn check_pieces(input: &[u8], at_once: Result<bool, handfast::error::Refusal>) {
    let step = 1 + input.len() / 64;
    let mut reader = HelloReader::new();
    let mut last = Ok(false);
    for end in (0..input.len()).step_by(step).chain([input.len()]) {
        last = reader.read(&input[..end], LIMIT).map(|hello| hello.is_some());
        if last != Ok(false) {
            break;
        }
    }
    assert_eq!(last, at_once);
}

fn accepted(mut input: &[u8]) -> Option<Accepted> {
    let mut acceptor = Acceptor::default();
    while acceptor.read_tls(&mut input as &mut dyn Read).ok()? > 0 {
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted);
        }
    }
    None
}
