//! Finding an identity among 10 and among 10,000, each with a name of its own, asked for in a random order; and what a
//! compressed chain costs, in time and for whom it is made.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use handfast::crypto::provider;
use handfast::identity::{BROTLI, CertificateSet, Identity};
use handfast::rustls::SignatureScheme;
use handfast::rustls::compress::CompressionLevel;
use handfast::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// As a browser sends them.
const SCHEMES: [SignatureScheme; 8] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA512,
];

fn name(i: usize) -> String {
    format!("www.customer-{i}.example")
}

fn set(count: usize, key: &rcgen::KeyPair) -> CertificateSet {
    let provider = provider();
    let identity = |i: usize| {
        let made = rcgen::CertificateParams::new([name(i)]).expect("a name").self_signed(key).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Identity::from_der(vec![made.der().clone()], key, &provider).expect("an identity")
    };
    CertificateSet::new("default", (0..count).map(identity).collect()).expect("a set")
}

fn lookup(c: &mut Criterion) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut group = c.benchmark_group("server_name");
    for count in [10, 10_000] {
        let set = set(count, &key);
        // The same number of names to ask for in both cases, so that only the set differs in size; each a step of a
        // permutation away from the one before.
        let names: Vec<String> = (0..10_000).map(|i| name(i * 7919 % count)).collect();
        let mut next = names.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_batched(
                || next.next().expect("a cycle"),
                |name| black_box(set.choose(Some(black_box(name)), SCHEMES.into_iter())),
                BatchSize::NumIterations(10_000),
            );
        });
    }
    group.finish();
}

/// A leaf and the certificate that issued it.
fn chain() -> Vec<u8> {
    let (key, ca_key) = (rcgen::KeyPair::generate().expect("a key"), rcgen::KeyPair::generate().expect("a key"));
    let params = |names: &[&str], subject: &str| {
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CountryName, "XX");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example Certification Services");
        params.distinguished_name.push(rcgen::DnType::CommonName, subject);
        params.use_authority_key_identifier_extension = true;
        params
    };
    let mut ca = params(&[], "Example Certification Services ECDSA Intermediate 1");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_der = ca.self_signed(&ca_key).expect("a certificate").der().to_vec();
    let leaf = params(&["example.org", "www.example.org", "static.example.org"], "example.org");
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).expect("a certificate");
    [leaf.der().to_vec(), ca_der].concat()
}

fn compression(c: &mut Criterion) {
    let chain = chain();
    let compress = |chain| BROTLI.compress(chain, CompressionLevel::Amortized).expect("compressed");
    let after = compress(chain.clone()).len();
    c.bench_function(&format!("compress_chain/{}_to_{after}_bytes", chain.len()), |b| {
        b.iter_batched(|| chain.clone(), compress, BatchSize::SmallInput);
    });
}

criterion_group!(benches, lookup, compression);
criterion_main!(benches);
