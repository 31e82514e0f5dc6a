//! What ClientHellos are made of is what the server sees.

use serde_json::{Value, json};

use crate::load;
use crate::server::{Server, Shape};

fn server() -> Server {
    Server::tls(Shape { alpn: &["h2", "http/1.1"], ..Shape::default() })
}

fn good(server: &Server, args: &[&str]) -> Value {
    let (run, json) = load(&server.target(), args);
    assert_eq!((run.status, &json["errors"]), (0, &json!({})), "{}{json}", run.stderr);
    json
}

#[test]
fn alpn_lists_are_mixed_by_weight_and_measured_apart() {
    let server = server();
    let args = ["--count", "1000", "--alpn", "h2,http/1.1=70;http/1.1=20;none=10", "--shards", "2"];
    let json = good(&server, &args);
    let count = |id: &str| json["negotiated"][id].as_f64().unwrap();
    for (id, share) in [("h2", 0.7), ("http/1.1", 0.2), ("none", 0.1)] {
        // Four standard deviations of a thousand draws; the seed is fixed.
        let deviation = (share * (1.0 - share) / 1000.0_f64).sqrt();
        assert!((count(id) / 1000.0 - share).abs() < 4.0 * deviation, "{json}");
        let sort = json["sorts"].as_array().unwrap().iter().find(|s| s["alpn"] == id).unwrap();
        assert_eq!(sort["handshakes"].as_f64(), Some(count(id)), "{json}");
        assert!(sort["total"]["p50"].as_f64().unwrap() > 0.0, "{json}");
    }
    let again = good(&server, &args);
    assert_eq!(json["negotiated"], again["negotiated"], "the same seed mixes the same");
    let other = good(&server, &[&args[..], &["--seed", "2"]].concat());
    assert_ne!(json["negotiated"], other["negotiated"]);
}

#[test]
fn names_are_asked_for_by_weight_from_the_command_line_and_from_a_file() {
    let path = std::env::temp_dir().join(format!("handfast-load-{}-mixed-names", std::process::id()));
    std::fs::write(&path, "a.example 70\nb.example 30\n").unwrap();
    for mix in ["a.example=70;b.example=30".to_owned(), format!("@{}", path.display())] {
        let server = server();
        good(&server, &["--count", "1000", "--shards", "2", "--sni", &mix]);
        let names = server.names();
        assert_eq!(names.values().sum::<u64>(), 1000, "{names:?}");
        // Four standard deviations; the seed is fixed.
        assert!(names.len() == 2 && names["a.example"].abs_diff(700) < 58, "{names:?}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn suites_groups_and_signatures_are_those_that_were_asked_for() {
    let server = server();
    let count = ["--count", "4", "--connections", "2"];
    let with = |args: &[&str]| good(&server, &[&count[..], args].concat());
    let json = with(&["--suites", "TLS_CHACHA20_POLY1305_SHA256"]);
    assert_eq!(json["cipher_suites"], json!({"TLS_CHACHA20_POLY1305_SHA256": 4}));
    let json = with(&["--suites", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "--tls", "1.2"]);
    assert_eq!(json["cipher_suites"], json!({"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": 4}));
    assert_eq!(json["signature_schemes"], json!({"ecdsa_secp256r1_sha256": 4}));
    assert_eq!(with(&["--groups", "p384"])["groups"], json!({"secp384r1": 4}));
    let json = with(&["--signatures", "ed25519,ecdsa_secp256r1_sha256"]);
    assert_eq!(json["signature_schemes"], json!({"ecdsa_secp256r1_sha256": 4}));
    // The server's key is for ECDSA, so it has nothing for a client that wants RSA.
    let (run, json) = load(&server.target(), &[&count[..], &["--signatures", "rsa_pss_rsae_sha256"]].concat());
    assert_eq!((run.status, &json["handshakes"]), (1, &json!(0)), "{json}");
    assert_eq!(json["errors"], json!({"tls_alert:handshake_failure": 4}), "{json}");
}

#[test]
fn a_share_of_the_sessions_is_resumed() {
    let server = server();
    for tls in ["1.3", "1.2"] {
        for (share, resumed) in [("0.5", 100), ("0.25", 50), ("0", 0)] {
            let args = ["--count", "200", "--connections", "4", "--tls", tls, "--resume", share];
            let json = good(&server, &args);
            let got = json["resumed"].as_u64().unwrap();
            // Each of two shards may end with a half.
            assert!((resumed - 2..=resumed + 2).contains(&(got as i64)), "TLS {tls}, {share}: {json}");
        }
    }
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_asks() {
    let server = Server::tls(Shape { wants_client_certificate: true, ..Shape::default() });
    let dir = std::env::temp_dir();
    let file = |name: &str, text: &str| {
        let path = dir.join(format!("handfast-load-{}-{name}.pem", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // It trusts its own certificate alone.
    let (certificate, key) = (file("client", server.pem()), file("key", server.key_pem()));
    for tls in ["1.2", "1.3"] {
        let args = ["--count", "5", "--client-cert", &certificate, "--client-key", &key, "--tls", tls];
        assert_eq!(good(&server, &args)["handshakes"], 5);
    }
    assert_eq!(server.completed(), 10);
    for path in [certificate, key] {
        std::fs::remove_file(path).unwrap();
    }
}
