use std::io;

use proptest::prelude::*;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::server::{Accepted, Acceptor};
use rustls::version::{TLS12, TLS13};
use rustls::{NamedGroup, ProtocolVersion};

use super::testing::{Offer, alpn, extension, message, records, vector};
use super::*;

const LIMIT: usize = 1 << 17;

fn read(input: &[u8]) -> Result<Option<Hello>, Refusal> {
    HelloReader::new().read(input, LIMIT)
}

fn refusal(input: &[u8]) -> Option<Refusal> {
    read(input).err()
}

fn whole(input: &[u8]) -> Hello {
    read(input).expect("accepted").expect("complete")
}

fn offers() -> Vec<Vec<u8>> {
    let long = [b'x'; 255];
    vec![
        Offer::default().records(),
        Offer { alpn: &[b"h2", b"http/1.1"], ..Offer::default() }.records(),
        Offer { alpn: &[b"\x0a\x0a", &long, b"acme-tls/1"], ..Offer::default() }.records(),
        Offer { server_name: None, ..Offer::default() }.records(),
        Offer { server_name: Some("127.0.0.1"), ..Offer::default() }.records(),
        Offer { server_name: Some("WWW.Example.ORG."), ..Offer::default() }.records(),
        Offer { versions: &[&TLS12], ..Offer::default() }.records(),
        Offer { versions: &[&TLS13], groups: vec![kx_group::X25519], ..Offer::default() }.records(),
        Offer { groups: vec![kx_group::X25519MLKEM768, kx_group::X25519], ..Offer::default() }.records(),
        Offer { groups: vec![kx_group::SECP384R1, kx_group::SECP256R1], ..Offer::default() }.records(),
    ]
}

/// What rustls makes of it; `None` when it refuses or waits for more.
fn accepted(mut input: &[u8]) -> Option<Accepted> {
    let mut acceptor = Acceptor::default();
    while acceptor.read_tls(&mut input as &mut dyn io::Read).ok()? > 0 {
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted);
        }
    }
    None
}

/// Checks that we take what rustls takes, and read it as rustls does.
fn agree(input: &[u8]) {
    let ours = read(input);
    let Some(accepted) = accepted(input) else {
        return;
    };
    let ours = ours.expect("rustls accepts it").expect("rustls finds it complete");
    let view = ours.view(input, None);
    let theirs = accepted.client_hello();
    assert_eq!(view.server_name().map(str::to_ascii_lowercase).as_deref(), theirs.server_name());
    assert_eq!(view.offers_alpn(), theirs.alpn().is_some());
    assert!(view.alpn_protocols().eq(theirs.alpn().into_iter().flatten()));
    assert!(view.signature_schemes().eq(theirs.signature_schemes().iter().copied()));
    assert!(view.cipher_suites().eq(theirs.cipher_suites().iter().copied()));
    assert!(view.groups().eq(theirs.named_groups().unwrap_or_default().iter().copied()));
}

#[test]
fn reads_what_rustls_reads() {
    for input in offers() {
        assert!(accepted(&input).is_some());
        agree(&input);
        let hello = whole(&input);
        assert_eq!(hello.record_bytes(), input.len());
        assert!(matches!(hello.bytes, Bytes::InPlace { .. }));
        assert_eq!(hello.view(&input, None).raw(), &input[5..]);
    }
}

#[test]
fn shows_what_rustls_does_not() {
    let input = Offer { groups: vec![kx_group::X25519MLKEM768, kx_group::X25519], ..Offer::default() }.records();
    let hello = whole(&input);
    let peer = "192.0.2.7:443".parse().unwrap();
    let view = hello.view(&input, Some(peer));
    assert_eq!(view.peer_addr(), Some(peer));
    assert_eq!(view.legacy_version(), ProtocolVersion::TLSv1_2);
    assert_eq!(view.random().as_slice(), &input[11..43]);
    assert_eq!(view.session_id().len(), 32);
    assert!(view.offers(ProtocolVersion::TLSv1_3) && view.offers(ProtocolVersion::TLSv1_2));
    assert!(!view.offers(ProtocolVersion::TLSv1_1));
    assert_eq!(view.supported_versions().count(), 2);
    assert_eq!(view.key_share(NamedGroup::X25519MLKEM768).map(<[u8]>::len), Some(1184 + 32));
    assert_eq!(view.key_share(NamedGroup::X25519).map(<[u8]>::len), Some(32));
    assert_eq!(view.key_share(NamedGroup::secp256r1), None);
    assert!(!view.has_psk() && !view.offers_early_data());
    assert!(view.extensions().any(|(kind, body)| kind == 43 && body.len() == 5));
}

#[test]
fn a_resumption_with_early_data() {
    let input = records(&message(&[extension(42, &[]), extension(41, &[0; 8])]), LIMIT);
    let hello = whole(&input);
    let view = hello.view(&input, None);
    assert!(view.has_psk() && view.offers_early_data());
    assert_eq!(view.extensions().map(|(kind, _)| kind).collect::<Vec<_>>(), [42, 41]);
}

#[test]
fn without_supported_versions_the_legacy_version_counts() {
    let input = Offer { versions: &[&TLS12], ..Offer::default() }.records();
    let stripped = message(&[extension(13, &vector(2, &[4, 3]))]);
    for input in [input, records(&stripped, LIMIT)] {
        let hello = whole(&input);
        let view = hello.view(&input, None);
        assert!(view.offers(ProtocolVersion::TLSv1_2) && !view.offers(ProtocolVersion::TLSv1_3));
    }
}

#[test]
fn a_cut_at_every_byte_waits_for_more() {
    for input in offers() {
        for cut in 0..input.len() {
            assert!(matches!(read(&input[..cut]), Ok(None)), "cut at {cut}");
        }
    }
}

#[test]
fn arrives_byte_by_byte_in_records_of_every_size() {
    for input in offers() {
        for fragment_len in [1, 2, 3, 4, 5, 7, 100, 200] {
            let cut = records(&input[5..], fragment_len);
            let mut reader = HelloReader::new();
            for end in 0..cut.len() {
                assert!(matches!(reader.read(&cut[..end], LIMIT), Ok(None)));
            }
            let hello = reader.read(&cut, LIMIT).unwrap().unwrap();
            let view = hello.view(&cut, None);
            assert_eq!(view.raw(), &input[5..]);
            let one = whole(&input);
            assert_eq!(view.server_name(), one.view(&input, None).server_name());
            assert!(view.alpn_protocols().eq(one.view(&input, None).alpn_protocols()));
            agree(&cut);
        }
    }
}

#[test]
fn what_follows_in_another_record_is_not_part_of_it() {
    let input = Offer::default().records();
    let followed = [&input[..], &[23, 3, 3, 0, 1, 0]].concat();
    let hello = whole(&followed);
    assert_eq!(hello.record_bytes(), input.len());
    assert_eq!(hello.view(&followed, None).raw(), &input[5..]);
}

#[test]
fn first_bytes_that_are_not_tls() {
    let methods =
        ["GET /", "POST ", "HEAD ", "PUT /", "OPTIONS", "DELETE", "CONNECT", "PRI * HTTP/2", "TRACE", "PATCH"];
    for request in methods {
        for cut in 0..4 {
            assert!(matches!(read(&request.as_bytes()[..cut]), Ok(None)), "{request} cut at {cut}");
        }
        assert_eq!(refusal(&request.as_bytes()[..4]), Some(Refusal::PlainHttp), "{request}");
    }
    assert_eq!(refusal(b"GEX"), Some(Refusal::NotTls));
    assert_eq!(refusal(b"SSH-2.0"), Some(Refusal::NotTls));
    assert_eq!(refusal(&[0x16, 0x02]), Some(Refusal::NotTls));
    assert_eq!(refusal(&[0x15]), Some(Refusal::NotTls));
    assert!(matches!(read(&[0x80, 0x2e]), Ok(None)));
    assert_eq!(refusal(&[0x80, 0x2e, 0x01]), Some(Refusal::Sslv2));
    assert_eq!(refusal(&[0x80, 0x2e, 0x02]), Some(Refusal::NotTls));
}

#[test]
fn records_and_headers_are_refused_before_the_rest_arrives() {
    let malformed: &[&[u8]] = &[
        // An empty fragment.
        &[22, 3, 1, 0, 0],
        // More than 2^14 bytes.
        &[22, 3, 1, 0x40, 1],
        // A ServerHello.
        &[22, 3, 1, 1, 0, 2],
        // A message too short for its fixed parts.
        &[22, 3, 1, 0, 44, 1, 0, 0, 40],
        // A record longer than the message in it.
        &[22, 3, 1, 0, 46, 1, 0, 0, 41],
        // Other content, or another version, between two fragments.
        &[22, 3, 1, 0, 1, 1, 20],
        &[22, 3, 1, 0, 1, 1, 22, 2],
    ];
    for input in malformed {
        assert_eq!(refusal(input), Some(Refusal::HelloMalformed), "{input:?}");
        assert!(matches!(read(&input[..input.len() - 1]), Ok(None)), "{input:?}");
    }
}

#[test]
fn the_limit_counts_announced_bytes() {
    let input = Offer::default().records();
    assert!(matches!(HelloReader::new().read(&input, input.len()), Ok(Some(_))));
    // By the record's length alone.
    assert_eq!(HelloReader::new().read(&input[..5], input.len() - 1).err(), Some(Refusal::HelloTooLarge));
    // By the message's length, in a small record.
    let cut = records(&input[5..], 10);
    assert_eq!(HelloReader::new().read(&cut[..9], input.len() - 1).err(), Some(Refusal::HelloTooLarge));
    // By the records' own headers.
    assert_eq!(HelloReader::new().read(&cut, cut.len() - 1).err(), Some(Refusal::HelloTooLarge));
    assert!(matches!(HelloReader::new().read(&cut, cut.len()), Ok(Some(_))));
    // By what rustls allows.
    assert_eq!(refusal(&[22, 3, 1, 0x40, 0, 1, 1, 0, 0]), Some(Refusal::HelloTooLarge));
}

#[test]
fn grammar() {
    let host = |name: &[u8]| [&[0][..], &vector(2, name)].concat();
    let sni = |list: &[u8]| extension(0, &vector(2, list));
    let malformed = [
        ("an empty ALPN list", alpn::<&[u8]>(&[])),
        ("an empty ALPN ID", alpn(&[&b"h2"[..], b""])),
        ("an ALPN ID past its list", extension(16, &[0, 3, 3, b'h', b'2'])),
        ("bytes after the ALPN list", extension(16, &[0, 3, 2, b'h', b'2', 0])),
        ("an empty server name list", sni(&[])),
        ("an empty host name", sni(&host(b""))),
        ("two host names", sni(&[host(b"a.example"), host(b"b.example")].concat())),
        ("an odd list of groups", extension(10, &vector(2, &[0, 29, 0]))),
        ("an empty list of groups", extension(10, &vector(2, &[]))),
        ("an empty list of versions", extension(43, &vector(1, &[]))),
        ("bytes after the versions", extension(43, &[2, 3, 4, 0])),
        ("an empty key share", extension(51, &vector(2, &[0, 29, 0, 0]))),
        ("a body in early_data", extension(42, &[0])),
        ("a repeated extension", [extension(23, &[]), extension(23, &[])].concat()),
        ("a repeated GREASE extension", [extension(0x0a0a, &[]), extension(0x0a0a, &[])].concat()),
        ("pre_shared_key before another", [extension(41, &[]), extension(23, &[])].concat()),
        ("an extension past the end", vec![0, 23, 0, 1]),
        ("half an extension header", vec![0, 23, 0]),
    ];
    for (what, extension) in malformed {
        let input = records(&message(&[extension]), LIMIT);
        assert_eq!(refusal(&input), Some(Refusal::HelloMalformed), "{what}");
        assert!(accepted(&input).is_none(), "rustls refuses {what} too");
    }
    for name in [&b"192.0.2.1"[..], b"::1", b"-x", b"a..b", b"\xff", b"under score"] {
        let input = records(&message(&[sni(&host(name))]), LIMIT);
        assert_eq!(whole(&input).view(&input, None).server_name(), None);
    }
    let input = records(&message(&[sni(&host(b"A.example."))]), LIMIT);
    assert_eq!(whole(&input).view(&input, None).server_name(), Some("A.example"));
    let input = records(&message(&[sni(&[&host(b"a.example")[..], &[1, 9, 9]].concat())]), LIMIT);
    assert_eq!(whole(&input).view(&input, None).server_name(), Some("a.example"));
}

#[test]
fn any_number_of_unknown_extensions_but_none_twice() {
    for count in [15, 16, 17, 400, 3000] {
        let mut extensions: Vec<_> = (0..count).map(|i| extension(1000 + i, &[])).collect();
        let input = records(&message(&extensions), LIMIT);
        assert_eq!(whole(&input).view(&input, None).extensions().count(), usize::from(count));
        for repeated in [1000, 1000 + count - 1] {
            extensions.push(extension(repeated, &[]));
            assert_eq!(refusal(&records(&message(&extensions), LIMIT)), Some(Refusal::HelloMalformed));
            extensions.pop();
        }
    }
}

#[test]
fn a_view_of_other_bytes_is_empty_and_does_not_panic() {
    let input = Offer { alpn: &[b"h2"], ..Offer::default() }.records();
    let hello = whole(&input);
    for wrong in [&[][..], &input[..60], &input[..input.len() - 1], &vec![0xff; input.len()]] {
        let view = hello.view(wrong, None);
        let _ = (view.random(), view.session_id(), view.server_name(), view.key_share(NamedGroup::X25519));
        let _ = (view.alpn_protocols().count(), view.extensions().count(), view.groups().count());
        let _ = format!("{view:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutations_never_panic_and_agree_with_rustls(
        which in 0_usize..10,
        mutations in proptest::collection::vec((0_usize..700, any::<u8>()), 0..4),
        fragment_len in prop_oneof![Just(LIMIT), 1_usize..300],
        cut in 0_usize..4000,
    ) {
        thread_local!(static OFFERS: Vec<Vec<u8>> = offers());
        let mut input = OFFERS.with(|offers| offers[which][5..].to_vec());
        for (at, value) in mutations {
            let len = input.len();
            input[at % len] = value;
        }
        let input = records(&input, fragment_len.min(FRAGMENT_LEN_MAX));
        agree(&input);
        agree(&input[..cut.min(input.len())]);
    }

    #[test]
    fn mutated_records_agree_with_rustls(
        which in 0_usize..10,
        fragment_len in 20_usize..300,
        mutations in proptest::collection::vec((0_usize..4000, any::<u8>()), 1..3),
    ) {
        thread_local!(static OFFERS: Vec<Vec<u8>> = offers());
        let mut input = OFFERS.with(|offers| records(&offers[which][5..], fragment_len));
        for (at, value) in mutations {
            let len = input.len();
            input[at % len] = value;
        }
        agree(&input);
    }

    #[test]
    fn where_it_is_cut_makes_no_difference(
        which in 0_usize..10,
        mutation in (0_usize..4000, any::<u8>()),
        fragment_len in 1_usize..400,
        pieces in proptest::collection::vec(1_usize..200, 1..30),
    ) {
        thread_local!(static OFFERS: Vec<Vec<u8>> = offers());
        let mut input = OFFERS.with(|offers| records(&offers[which][5..], fragment_len));
        let len = input.len();
        input[mutation.0 % len] = mutation.1;
        let at_once = read(&input).map(|hello| hello.map(|hello| hello.view(&input, None).raw().to_vec()));
        let mut reader = HelloReader::new();
        let mut end = 0;
        for piece in pieces.iter().cycle() {
            end = (end + piece).min(len);
            let so_far = reader.read(&input[..end], LIMIT);
            if end < len && matches!(so_far, Ok(None)) {
                continue;
            }
            let so_far = so_far.map(|hello| hello.map(|hello| hello.view(&input, None).raw().to_vec()));
            prop_assert_eq!(so_far, at_once);
            break;
        }
    }
}
