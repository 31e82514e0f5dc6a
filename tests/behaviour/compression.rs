//! Compressed certificates (RFC 8879).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use handfast::handshake::{Blueprint, ProtocolTls, Sources};
use handfast::identity::{BROTLI, CertificateSet, Identity};
use handfast::rustls::compress::{CertCompressor, CertDecompressor, CompressionFailed, CompressionLevel};
use handfast::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use handfast::rustls::{CertificateCompressionAlgorithm, ClientConfig, RootCertStore};
use handfast::selection::Table;
use handfast::shard::{Destination, ShardConfig};
use handfast_tests::client::{Options, Tls};
use handfast_tests::compression::Decompressing;
use handfast_tests::world::World;

/// The engine's compressor, with a count of what it is asked for.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl CertCompressor for Counting {
    fn compress(&self, input: Vec<u8>, level: CompressionLevel) -> Result<Vec<u8>, CompressionFailed> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let (before, compressed) = (input.len(), BROTLI.compress(input, level)?);
        assert!(compressed.len() < before);
        Ok(compressed)
    }

    fn algorithm(&self) -> CertificateCompressionAlgorithm {
        BROTLI.algorithm()
    }
}

/// What rustls refers to for ever.
fn forever<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// `N.test` for each N below `count`, all with one key, and a client that trusts them.
fn site(count: usize) -> (CertificateSet, Arc<RootCertStore>) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut roots = RootCertStore::empty();
    let identity = |i: usize| {
        let params = rcgen::CertificateParams::new([format!("{i}.test")]).expect("a name");
        let der = params.self_signed(&key).expect("a certificate").der().clone();
        roots.add(der.clone()).expect("a root");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Identity::from_der(vec![der], key, &handfast::crypto::provider()).expect("an identity")
    };
    let identities = (0..count).map(identity).collect();
    (CertificateSet::new("default", identities).expect("a set"), Arc::new(roots))
}

/// A shard that compresses with `compressor`, and a client's configuration that takes it.
fn shard(
    count: usize,
    compressor: &'static dyn CertCompressor,
    decompressor: &'static dyn CertDecompressor,
) -> (ShardConfig, Arc<ClientConfig>) {
    let (set, roots) = site(count);
    // Two protocols that share the set.
    let set = Arc::new(set);
    let tls = ["a", "b"].map(|id| ProtocolTls::new(id.as_bytes(), Arc::clone(&set)));
    let table = Table::builder().protocol("a").protocol("b").build().expect("a table");
    let blueprint = Blueprint::new(table, &tls, &Sources::default()).expect("configurations");
    let live = blueprint.with_certificate_compressors(vec![compressor]).live();
    let mut config = Arc::unwrap_or_clone(Options::new(roots, &[]).config());
    config.cert_decompressors = vec![decompressor];
    (ShardConfig::new(live, vec![Destination::Close, Destination::Close]), Arc::new(config))
}

fn handshakes<W: World>(world: &mut W, config: &Arc<ClientConfig>, count: usize) {
    for alpn in ["a", "b"] {
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = vec![alpn.into()];
        let config = Arc::new(config);
        for i in 0..count {
            let mut client = Tls::new(world.connect(), &config, &format!("{i}.test"));
            client.handshake(world).expect("a handshake with the certificate of this name");
            client.close();
        }
    }
}

pub(crate) fn each_chain_is_compressed_once<W: World>() {
    let (compressed, decompressed) = (forever(Counting::default()), forever(Decompressing::default()));
    let (config, client) = shard(100, compressed, decompressed);
    let mut world = W::new(config);
    handshakes(&mut world, &client, 100);
    assert_eq!(compressed.0.load(Ordering::Relaxed), 100);
    assert_eq!(decompressed.count(), 200);
    // Who cannot decompress gets the chain as it is.
    let mut plain = ClientConfig::clone(&client);
    plain.cert_decompressors = Vec::new();
    handshakes(&mut world, &Arc::new(plain), 1);
    assert_eq!(decompressed.count(), 200);
}

pub(crate) fn too_many_identities_are_not_compressed<W: World>() {
    let (compressed, decompressed) = (forever(Counting::default()), forever(Decompressing::default()));
    let (config, client) = shard(257, compressed, decompressed);
    let mut world = W::new(config);
    handshakes(&mut world, &client, 2);
    assert_eq!((compressed.0.load(Ordering::Relaxed), decompressed.count()), (0, 0));
}
