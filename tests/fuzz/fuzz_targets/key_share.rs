//! Any ClientHello: the key share that the prepare phase computes with is the one that rustls answers.
#![no_main]

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, LazyLock};

use handfast::handshake::Batched;
use handfast::handshake::hello::HelloReader;
use libfuzzer_sys::fuzz_target;
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{Error, NamedGroup, ServerConfig, ServerConnection, SignatureAlgorithm, SignatureScheme};

const LIMIT: usize = 1 << 17;
const KEM: usize = 1184;

fuzz_target!(|input: &[u8]| {
    check(input);
    check(&made_of(input));
});

fn check(bytes: &[u8]) {
    let ours = HelloReader::new().read(bytes, LIMIT).ok().flatten();
    let ours = ours.and_then(|hello| Batched::share(&hello.view(bytes, None), &PROVIDER));
    let (asked, refused) = answered(bytes);
    let Some((group, share)) = asked else {
        // Computed for nothing: only where rustls has something to say against a hello that we do not read for it.
        return assert!(ours.is_none() || refused, "rustls has asked for another share, or speaks TLS 1.2");
    };
    let theirs: Option<[u8; 32]> = match group {
        NamedGroup::X25519 => share.try_into().ok(),
        NamedGroup::X25519MLKEM768 => share.get(KEM..).and_then(|rest| rest.try_into().ok()),
        _ => None,
    };
    assert_eq!(ours, theirs, "{group:?}");
}

/// A ClientHello whose versions, groups and key shares the input chooses.
fn made_of(input: &[u8]) -> Vec<u8> {
    let mut input = input.iter().copied();
    let mut next = move || input.next().unwrap_or(0);
    let group = |choice: u8| match choice % 8 {
        0 | 1 => NamedGroup::X25519,
        2 | 3 => NamedGroup::X25519MLKEM768,
        4 => NamedGroup::secp256r1,
        5 => NamedGroup::MLKEM768,
        6 => NamedGroup::Unknown(0x0a0a),
        _ => NamedGroup::Unknown(u16::from(choice)),
    };
    let groups: Vec<u8> = (0..next() % 6).flat_map(|_| u16::from(group(next())).to_be_bytes()).collect();
    let mut shares = Vec::new();
    for _ in 0..next() % 5 {
        let group = group(next());
        let usual = match group {
            NamedGroup::X25519 => 32,
            NamedGroup::X25519MLKEM768 => KEM + 32,
            NamedGroup::secp256r1 => 65,
            _ => 1,
        };
        let length = match next() % 8 {
            0 => usize::from(next()),
            1 => usual + 1,
            2 => usual - 1,
            _ => usual,
        };
        shares.extend(u16::from(group).to_be_bytes());
        shares.extend(sized(&vec![next(); length]));
    }
    let versions: &[u8] = if next() % 4 == 0 { &[2, 3, 3] } else { &[4, 3, 4, 3, 3] };
    let mut extensions = Vec::new();
    for (kind, body) in [
        (43_u16, versions.to_vec()),
        (10, sized(&groups)),
        (13, sized(&[4, 3, 8, 4])),
        (51, sized(&shares)),
        (45, vec![1, 1]),
    ] {
        if next() % 16 != 15 {
            extensions.extend(kind.to_be_bytes());
            extensions.extend(sized(&body));
        }
    }
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 6, 0x13, 1, 0x13, 2, 0xc0, 0x2b, 1, 0]);
    hello.extend(sized(&extensions));
    let mut message = vec![1, 0];
    message.extend(sized(&hello));
    // In one record, or in two.
    let cut = if next() % 4 == 0 { usize::from(next()) % message.len() } else { message.len() };
    let mut out = Vec::new();
    for part in [&message[..cut], &message[cut..]].into_iter().filter(|part| !part.is_empty()) {
        out.extend([22, 3, 1]);
        out.extend(sized(part));
    }
    out
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()[..], bytes].concat()
}

thread_local! {
    /// The share that rustls has asked a group about.
    static ASKED: RefCell<Option<(NamedGroup, Vec<u8>)>> = const { RefCell::new(None) };
}

static PROVIDER: LazyLock<CryptoProvider> = LazyLock::new(|| CryptoProvider {
    kx_groups: vec![&Asked(NamedGroup::X25519MLKEM768), &Asked(NamedGroup::X25519), &Asked(NamedGroup::secp256r1)],
    ..aws_lc_rs::default_provider()
});

static CONFIG: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let builder = ServerConfig::builder_with_provider(Arc::new(PROVIDER.clone()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    Arc::new(builder.with_no_client_auth().with_cert_resolver(Arc::new(Nobody)))
});

/// The share that a group was asked about, and whether the hello was refused.
fn answered(mut bytes: &[u8]) -> (Option<(NamedGroup, Vec<u8>)>, bool) {
    let mut conn = ServerConnection::new(Arc::clone(&CONFIG)).expect("a connection");
    ASKED.take();
    let mut refused = false;
    while !bytes.is_empty() && !refused {
        refused = conn.read_tls(&mut bytes).is_err() || conn.process_new_packets().is_err();
    }
    (ASKED.take(), refused)
}

/// A group that takes note of the client's share, and computes nothing.
#[derive(Debug)]
struct Asked(NamedGroup);

impl SupportedKxGroup for Asked {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Err(Error::General("for servers".into()))
    }

    fn start_and_complete(&self, share: &[u8]) -> Result<CompletedKeyExchange, Error> {
        ASKED.set(Some((self.0, share.to_vec())));
        Err(Error::General("that was all".into()))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        self.0
    }
}

/// A certificate that nobody gets to see.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::new(CertifiedKey::new(vec![vec![0; 8].into()], Arc::new(Unsigned))))
    }
}

struct Unsigned;

impl fmt::Debug for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unsigned")
    }
}

impl SigningKey for Unsigned {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Self))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Unsigned {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Err(Error::General("unsigned".into()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
