use std::sync::LazyLock;

use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    SignatureAlgorithm as RcgenAlgorithm, date_time_ymd,
};
use rustls::SignatureScheme as Scheme;
use rustls::crypto::aws_lc_rs::default_provider;

use super::*;

/// RSA keys are slow to make; one serves every test.
static RSA: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());

const ALL: [Scheme; 5] = [
    Scheme::ECDSA_NISTP256_SHA256,
    Scheme::ED25519,
    Scheme::ECDSA_NISTP384_SHA384,
    Scheme::RSA_PSS_SHA256,
    Scheme::RSA_PKCS1_SHA256,
];
const RSA_ONLY: [Scheme; 2] = [Scheme::RSA_PSS_SHA256, Scheme::RSA_PKCS1_SHA256];

fn new_key(algorithm: &'static RcgenAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn identity_with(params: CertificateParams, key: &KeyPair) -> Identity {
    let certificate = params.self_signed(key).unwrap();
    Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes(), &default_provider()).unwrap()
}

fn ecdsa(names: &[&str]) -> Identity {
    identity_with(params(names), &new_key(&PKCS_ECDSA_P256_SHA256))
}

fn rsa(names: &[&str]) -> Identity {
    identity_with(params(names), &RSA)
}

fn ed25519(names: &[&str]) -> Identity {
    identity_with(params(names), &new_key(&PKCS_ED25519))
}

fn pem_pair() -> (String, String) {
    let key = new_key(&PKCS_ECDSA_P256_SHA256);
    (params(&["a.example"]).self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn error(certificates: &str, key: &str) -> IdentityError {
    Identity::from_pem(certificates.as_bytes(), key.as_bytes(), &default_provider()).unwrap_err()
}

/// The position of the identity that is chosen.
fn chosen(set: &CertificateSet, name: Option<&str>, schemes: &[Scheme]) -> Option<usize> {
    let chosen = set.choose(name, schemes.iter().copied())?;
    set.identities().iter().position(|identity| identity.fingerprint == chosen.fingerprint)
}

#[test]
fn tells_what_a_certificate_says() {
    let mut params = params(&["B.Example.", "a.example", "*.A.example", "a.example", "192.0.2.1"]);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    let identity = identity_with(params, &new_key(&PKCS_ECDSA_P256_SHA256));
    assert_eq!(identity.dns_names().collect::<Vec<_>>(), ["*.a.example", "a.example", "b.example"]);
    assert_eq!(identity.key_kind(), KeyKind::Ecdsa);
    assert_eq!(identity.signature_schemes(), [Scheme::ECDSA_NISTP256_SHA256]);
    assert_eq!(identity.not_before().as_secs(), 1_577_836_800);
    assert_eq!(identity.not_after().as_secs(), 1_893_456_000);
}

#[test]
fn knows_each_kind_of_key() {
    assert_eq!(ed25519(&["a.example"]).key_kind(), KeyKind::Ed25519);
    let rsa = rsa(&["a.example"]);
    assert_eq!(rsa.key_kind(), KeyKind::Rsa);
    assert!(rsa.signature_schemes().contains(&Scheme::RSA_PSS_SHA256));
    let p384 = identity_with(params(&["a.example"]), &new_key(&PKCS_ECDSA_P384_SHA384));
    assert_eq!(p384.signature_schemes(), [Scheme::ECDSA_NISTP384_SHA384]);
}

#[test]
fn the_fingerprint_is_that_of_the_leaf() {
    let identity = ecdsa(&["a.example"]);
    let leaf = &identity.certified_key().cert[0];
    assert_eq!(identity.fingerprint_sha256().as_bytes().as_slice(), digest::digest(&digest::SHA256, leaf).as_ref());
    let mut bytes = [0; 32];
    (bytes[0], bytes[31]) = (0xab, 0x07);
    let shown = Fingerprint(bytes).to_string();
    assert!(shown.starts_with("AB:00:") && shown.ends_with(":00:07"), "{shown}");
    assert_eq!(shown.len(), 32 * 3 - 1);
}

#[test]
fn debug_shows_no_key() {
    let (certificate, key) = pem_pair();
    let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes(), &default_provider()).unwrap();
    let shown = format!("{identity:?}");
    assert!(shown.starts_with("Identity { dns_names: [\"a.example\"], key_kind: Ecdsa, fingerprint: "), "{shown}");
    assert!(shown.len() < 200, "{shown}");
}

#[test]
fn warnings_by_the_clock() {
    let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
    let mut params = params(&[]);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    let identity = identity_with(params, &new_key(&PKCS_ECDSA_P256_SHA256));
    let (since, until) = (identity.not_after(), identity.not_before());
    assert_eq!(identity.warnings(at(1_600_000_000)), [IdentityWarning::NoDnsName]);
    let expired = [IdentityWarning::Expired { since }, IdentityWarning::NoDnsName];
    assert_eq!(identity.warnings(at(1_900_000_000)), expired);
    let early = [IdentityWarning::NotYetValid { until }, IdentityWarning::NoDnsName];
    assert_eq!(identity.warnings(at(1_500_000_000)), early);
    assert_eq!(ecdsa(&["a.example"]).warnings(at(1_600_000_000)), []);
}

#[test]
fn a_chain_keeps_its_order() {
    let (leaf, key) = pem_pair();
    let (other, _) = pem_pair();
    let chain = format!("{leaf}{other}");
    let identity = Identity::from_pem(chain.as_bytes(), key.as_bytes(), &default_provider()).unwrap();
    assert_eq!(identity.certified_key().cert.len(), 2);
    let turned = format!("{other}{leaf}");
    let mismatch = IdentityError::KeyMismatch { certificate: Place::Memory, key: Place::Memory };
    assert_eq!(error(&turned, &key), mismatch);
}

#[test]
fn one_pem_may_hold_both() {
    let (certificate, key) = pem_pair();
    let both = format!("{key}{certificate}");
    assert!(Identity::from_pem(both.as_bytes(), both.as_bytes(), &default_provider()).is_ok());
}

#[test]
fn what_is_wrong_with_certificates() {
    let (certificate, key) = pem_pair();
    assert_eq!(error("", &key), IdentityError::NoCertificate { at: Place::Memory });
    assert_eq!(error(&key, &key), IdentityError::NoCertificate { at: Place::Memory });
    let garbage = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    let malformed = |index| IdentityError::CertificateMalformed { at: Place::Memory, index };
    assert_eq!(error(garbage, &key), malformed(0));
    assert_eq!(error(&format!("{certificate}{garbage}"), &key), malformed(1));
    let not_base64 = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    assert_eq!(error(&format!("{certificate}{not_base64}"), &key), malformed(1));
    let key = PrivateKeyDer::try_from(new_key(&PKCS_ED25519).serialize_der()).unwrap();
    let none = Identity::from_der(Vec::new(), key, &default_provider()).unwrap_err();
    assert_eq!(none, IdentityError::NoCertificate { at: Place::Memory });
}

#[test]
fn what_is_wrong_with_keys() {
    let (certificate, key) = pem_pair();
    let body = "MHcCAQEEIA==";
    let block =
        |label: &str, headers: &str| format!("-----BEGIN {label}-----\n{headers}{body}\n-----END {label}-----\n");
    let at = Place::Memory;
    assert_eq!(error(&certificate, ""), IdentityError::NoPrivateKey { at: at.clone() });
    assert_eq!(error(&certificate, &certificate), IdentityError::NoPrivateKey { at: at.clone() });
    let pkcs8 = block("ENCRYPTED PRIVATE KEY", "");
    assert_eq!(error(&certificate, &pkcs8), IdentityError::KeyEncrypted { at: at.clone() });
    let legacy = block("EC PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABB\n\n");
    assert_eq!(error(&certificate, &legacy), IdentityError::KeyEncrypted { at: at.clone() });
    assert_eq!(error(&certificate, &block("PRIVATE KEY", "")), IdentityError::KeyUnusable { at: at.clone() });
    let other = new_key(&PKCS_ECDSA_P256_SHA256).serialize_pem();
    assert_eq!(error(&certificate, &other), IdentityError::KeyMismatch { certificate: at.clone(), key: at });
    assert!(Identity::from_pem(certificate.as_bytes(), key.as_bytes(), &default_provider()).is_ok());
}

#[test]
fn files_are_named_in_what_is_wrong() {
    let directory = std::env::temp_dir().join(format!("handfast-identity-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (certificate_path, key_path) = (directory.join("chain.pem"), directory.join("key.pem"));
    let missing = directory.join("missing.pem");
    let (certificate, key) = pem_pair();
    std::fs::write(&certificate_path, certificate).unwrap();
    std::fs::write(&key_path, key).unwrap();
    let load = |certificate: &Path, key: &Path| Identity::from_files(certificate, key, &default_provider());

    assert!(load(&certificate_path, &key_path).is_ok());
    let error = load(&missing, &key_path).unwrap_err();
    assert_eq!(error.to_string(), format!("{} does not exist; check the path", missing.display()));
    assert_eq!(error.culprit(), crate::error::Culprit::Config);
    assert!(matches!(load(&directory, &key_path), Err(IdentityError::FileUnreadable { .. })));
    let error = load(&certificate_path, &certificate_path).unwrap_err();
    assert!(error.to_string().starts_with(&format!("no private key in {}", certificate_path.display())));
    std::fs::write(&key_path, vec![b'\n'; (1 << 20) + 1]).unwrap();
    assert_eq!(load(&certificate_path, &key_path).unwrap_err(), IdentityError::FileTooLarge { path: key_path });
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn the_exact_name_comes_before_the_wildcard_before_the_default() {
    let set = CertificateSet::new(
        "test",
        vec![ecdsa(&["default.example"]), ecdsa(&["*.a.example"]), ecdsa(&["www.a.example", "a.example"])],
    )
    .unwrap();
    for (name, index) in [
        (Some("www.a.example"), 2),
        (Some("WWW.A.Example."), 2),
        (Some("a.example"), 2),
        (Some("ftp.a.example"), 1),
        (Some("FTP.a.example"), 1),
        // A wildcard is exactly one label (RFC 6125 section 6.4.3).
        (Some("x.ftp.a.example"), 0),
        (Some("b.example"), 0),
        (Some("example"), 0),
        (None, 0),
    ] {
        assert_eq!(chosen(&set, name, &ALL), Some(index), "{name:?}");
    }
}

#[test]
fn side_by_side_the_schemes_decide() {
    let names = ["a.example", "*.a.example"];
    let set = CertificateSet::new("test", vec![rsa(&names), ecdsa(&names), ed25519(&names)]).unwrap();
    for name in [None, Some("a.example"), Some("www.a.example")] {
        assert_eq!(chosen(&set, name, &ALL), Some(1));
        assert_eq!(chosen(&set, name, &[Scheme::ED25519, Scheme::ECDSA_NISTP256_SHA256]), Some(2));
        assert_eq!(chosen(&set, name, &[Scheme::RSA_PSS_SHA256, Scheme::ED25519]), Some(2));
        assert_eq!(chosen(&set, name, &RSA_ONLY), Some(0));
        assert_eq!(chosen(&set, name, &[Scheme::ECDSA_NISTP521_SHA512]), None);
        assert_eq!(chosen(&set, name, &[]), None);
    }
}

#[test]
fn a_name_that_cannot_sign_falls_back() {
    let set =
        CertificateSet::new("test", vec![rsa(&["default.example"]), ecdsa(&["a.example"]), rsa(&["*.a.example"])])
            .unwrap();
    assert_eq!(chosen(&set, Some("a.example"), &RSA_ONLY), Some(0));
    assert_eq!(chosen(&set, Some("www.a.example"), &[Scheme::ECDSA_NISTP256_SHA256]), None);
    let shadowed =
        CertificateSet::new("test", vec![rsa(&["default.example"]), ecdsa(&["www.a.example"]), rsa(&["*.a.example"])]);
    assert_eq!(chosen(&shadowed.unwrap(), Some("www.a.example"), &RSA_ONLY), Some(2));
}

/// A certificate of this common name, signed by `issuer` or by itself.
fn named(name: &str, serial: u64, issuer: Option<&rcgen::Issuer<'_, KeyPair>>) -> (String, KeyPair, CertificateParams) {
    let key = new_key(&PKCS_ECDSA_P256_SHA256);
    let mut params = params(&["a.example"]);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.serial_number = Some(serial.into());
    let certificate = issuer.map_or_else(|| params.self_signed(&key), |issuer| params.signed_by(&key, issuer));
    (certificate.unwrap().pem(), key, params)
}

#[test]
fn every_certificate_has_issued_one_before_it() {
    let (root, root_key, root_params) = named("root", 1, None);
    let issuer = rcgen::Issuer::new(root_params, root_key);
    let (middle, middle_key, middle_params) = named("middle", 2, Some(&issuer));
    let (crossed, _, _) = named("middle", 3, None);
    let (leaf, leaf_key, _) = named("leaf", 4, Some(&rcgen::Issuer::new(middle_params, middle_key)));
    let (foreign, _, _) = named("foreign", 5, None);
    let load = |chain: &[&String]| {
        let chain: String = chain.iter().map(|pem| pem.as_str()).collect();
        Identity::from_pem(chain.as_bytes(), leaf_key.serialize_pem().as_bytes(), &default_provider())
    };
    for good in [&[&leaf][..], &[&leaf, &middle], &[&leaf, &middle, &root], &[&leaf, &middle, &crossed, &root]] {
        assert!(load(good).is_ok());
    }
    for (bad, stray) in [(&[&leaf, &root, &middle][..], 1), (&[&leaf, &middle, &foreign], 2), (&[&leaf, &foreign], 1)] {
        let error = load(bad).unwrap_err();
        assert_eq!(error, IdentityError::ChainBroken { at: Place::Memory, index: stray });
        assert!(error.to_string().contains(&format!("certificate {} in", stray + 1)), "{error}");
    }
}

/// A directory that is gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("handfast-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn load(&self) -> Result<CertificateSet, IdentityError> {
        CertificateSet::from_directory("web", &self.0, &default_provider())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pair_for(name: &str) -> (String, String) {
    let key = new_key(&PKCS_ECDSA_P256_SHA256);
    (params(&[name]).self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_directory_holds_pairs_and_what_acme_clients_write() {
    let scratch = Scratch::new("directory");
    assert_eq!(scratch.load().unwrap_err(), IdentityError::EmptyDirectory { path: scratch.0.clone() });
    for (name, chain, key) in [
        ("b.example", "b.pem", "b.key"),
        ("c.example", "c.crt", "c.key"),
        ("a.example", "live/a/fullchain.pem", "live/a/privkey.pem"),
        ("d.example", "d.example/fullchain.pem", "d.example/privkey.pem"),
        ("hidden.example", ".hidden.pem", ".hidden.key"),
    ] {
        let (certificate, private) = pair_for(name);
        scratch.write(chain, certificate);
        scratch.write(key, private);
    }
    let (certificate, key) = pair_for("both.example");
    scratch.write("z.pem", format!("{key}{certificate}"));
    scratch.write("README", "not for us");
    let names = |set: &CertificateSet| -> Vec<String> {
        set.identities().iter().flat_map(|i| i.dns_names().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    // In the order of the entries' names; one level deep.
    assert_eq!(names(&scratch.load().unwrap()), ["b.example", "c.example", "d.example", "both.example"]);
    let one = CertificateSet::from_directory("one", &scratch.0.join("live/a"), &default_provider()).unwrap();
    assert_eq!(names(&one), ["a.example"]);

    scratch.write("y.pem", pair_for("y.example").0);
    let (path, missing) = (scratch.0.join("y.pem"), scratch.0.join("y.key"));
    assert_eq!(scratch.load().unwrap_err(), IdentityError::Unpaired { path: path.clone(), missing: missing.clone() });
    std::fs::rename(&path, scratch.0.join("y.key")).unwrap();
    assert_eq!(scratch.load().unwrap_err(), IdentityError::Unpaired { path: missing, missing: path });
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_gives_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("exposed");
    let (certificate, key) = pair_for("a.example");
    scratch.write("a.pem", certificate);
    scratch.write("a.key", key);
    let path = scratch.0.join("a.key");
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));
    for (mode, warned) in [(0o600, false), (0o400, false), (0o640, false), (0o644, true), (0o604, true), (0o602, true)]
    {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let warnings = scratch.load().unwrap().identities()[0].warnings(now);
        let expected = warned.then(|| IdentityWarning::KeyExposed { path: path.clone(), mode });
        assert_eq!(warnings, expected.into_iter().collect::<Vec<_>>(), "{mode:o}");
    }
}

/// What a responder would say of the certificate with this serial number, but for its signature.
fn ocsp_response(serial: &[u8], issuer: &[u8], next_update: u64, revoked: bool) -> Vec<u8> {
    use x509_cert::der::asn1::{BitString, GeneralizedTime, Null, OctetString};
    use x509_cert::der::{Encode, oid::ObjectIdentifier};
    use x509_cert::{serial_number::SerialNumber, spki::AlgorithmIdentifierOwned};
    use x509_ocsp::{
        BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspResponse, ResponderId, ResponseData,
        RevokedInfo, SingleResponse, Version,
    };
    let algorithm = |oid| AlgorithmIdentifierOwned { oid: ObjectIdentifier::new_unwrap(oid), parameters: None };
    let at = |secs| OcspGeneralizedTime(GeneralizedTime::from_unix_duration(Duration::from_secs(secs)).unwrap());
    let revoked_info = RevokedInfo { revocation_time: at(1_000), revocation_reason: None };
    let single = SingleResponse {
        cert_id: CertId {
            hash_algorithm: algorithm("1.3.14.3.2.26"),
            issuer_name_hash: OctetString::new(
                digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, issuer).as_ref().to_vec(),
            )
            .unwrap(),
            issuer_key_hash: OctetString::new([0; 20]).unwrap(),
            serial_number: SerialNumber::new(serial).unwrap(),
        },
        cert_status: if revoked { CertStatus::Revoked(revoked_info) } else { CertStatus::Good(Null) },
        this_update: at(1_000),
        next_update: Some(at(next_update)),
        single_extensions: None,
    };
    let basic = BasicOcspResponse {
        tbs_response_data: ResponseData {
            version: Version::default(),
            responder_id: ResponderId::ByKey(OctetString::new([0; 20]).unwrap()),
            produced_at: at(1_000),
            responses: vec![single],
            response_extensions: None,
        },
        signature_algorithm: algorithm("1.2.840.10045.4.3.2"),
        signature: BitString::from_bytes(&[0; 8]).unwrap(),
        certs: None,
    };
    OcspResponse::successful(basic).unwrap().to_der().unwrap()
}

#[test]
fn ocsp_responses_must_concern_the_certificate() {
    let (pem, key, _) = named("itself", 0x00ab_cdef, None);
    let identity = Identity::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes(), &default_provider()).unwrap();
    let leaf = identity.certified_key().cert[0].clone();
    let issuer = parse(&leaf).unwrap().issuer().as_raw().to_vec();
    let serial = [0xab, 0xcd, 0xef];
    let staple = |der| identity.clone().with_ocsp_response(der);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));

    let good = ocsp_response(&serial, &issuer, 1_800_000_000, false);
    let stapled = staple(good.clone()).unwrap();
    assert_eq!(stapled.certified_key().ocsp.as_deref(), Some(&good[..]));
    assert_eq!(stapled.warnings(now), []);
    let since = UnixTime::since_unix_epoch(Duration::from_secs(1_600_000_000));
    let late = staple(ocsp_response(&serial, &issuer, 1_600_000_000, true)).unwrap();
    assert_eq!(late.warnings(now), [IdentityWarning::Revoked, IdentityWarning::OcspExpired { since }]);

    let at = Place::Memory;
    let foreign = IdentityError::OcspForeign { at: at.clone() };
    assert_eq!(staple(ocsp_response(&[1], &issuer, 1_800_000_000, false)).unwrap_err(), foreign);
    assert_eq!(staple(ocsp_response(&serial, b"other", 1_800_000_000, false)).unwrap_err(), foreign);
    assert_eq!(staple(good[..good.len() - 1].to_vec()).unwrap_err(), IdentityError::OcspMalformed { at: at.clone() });
    // tryLater(3), without a response.
    assert_eq!(staple(vec![48, 3, 10, 1, 3]).unwrap_err(), IdentityError::OcspUnsuccessful { at });
}

#[test]
fn an_identity_may_be_set_for_one_name() {
    let set = CertificateSet::new("web", vec![ecdsa(&["default.example"]), ecdsa(&["*.a.example"])]).unwrap();
    let pinned = rsa(&["other.example"]);
    let shown = |set: &CertificateSet, name: &str, schemes: &[Scheme]| {
        set.choose(Some(name), schemes.iter().copied()).map(Identity::fingerprint_sha256)
    };
    let with = set.with_identity("WWW.a.example.", Some(pinned.clone())).unwrap();
    assert_eq!(shown(&with, "www.A.example", &ALL), Some(pinned.fingerprint));
    assert_eq!(shown(&with, "ftp.a.example", &ALL), Some(set.identities()[1].fingerprint));
    // A client that cannot verify it is shown what there was.
    let ecdsa_only = [Scheme::ECDSA_NISTP256_SHA256];
    assert_eq!(shown(&with, "www.a.example", &ecdsa_only), Some(set.identities()[1].fingerprint));
    assert_eq!(with.all_identities().count(), 3);
    let without = with.with_identity("www.a.example", None).unwrap();
    assert_eq!(shown(&without, "www.a.example", &ALL), Some(set.identities()[1].fingerprint));
    for bad in ["", "*.a.example", "a b", &"a.".repeat(200)] {
        assert!(set.with_identity(bad, Some(pinned.clone())).is_none(), "{bad}");
    }

    let empty = CertificateSet::empty("acme");
    assert!(
        empty.choose(Some("a.example"), ALL.into_iter()).is_none() && empty.choose(None, ALL.into_iter()).is_none()
    );
    let one = empty.with_identity("a.example", Some(pinned.clone())).unwrap();
    assert_eq!(shown(&one, "a.example", &ALL), Some(pinned.fingerprint));
    assert_eq!(shown(&one, "b.example", &ALL), None);
}

#[test]
fn a_set_needs_an_identity() {
    let error = CertificateSet::new("web", Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "the certificate set \"web\" has no identity; add a certificate");
}

#[test]
fn ticket_domains() {
    use ClientAuthMode::{None, Optional, Required};
    let roots = [&b"root a"[..], b"root b"];
    let domain = ticket_domain("web", Required, roots);
    assert_eq!(domain, ticket_domain("web", Required, [roots[1], roots[0], roots[1]]));
    let none: [&[u8]; 0] = [];
    let all = [
        domain,
        ticket_domain("web2", Required, roots),
        ticket_domain("web", Optional, roots),
        ticket_domain("web", Required, &roots[..1]),
        ticket_domain("web", Required, [b"root aroot b"]),
        ticket_domain("web", Required, none),
        ticket_domain("web", None, none),
        ticket_domain("", None, none),
    ];
    for (i, one) in all.iter().enumerate() {
        assert!(!all[..i].contains(one), "{i}");
    }
}
