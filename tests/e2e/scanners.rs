//! What programs that look for weaknesses of TLS find in `handfast serve` as it is without options: a checked list.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use handfast_tests::peers::{Peer, full};
use handfast_tests::process::{Process, Scratch};
use serde_json::Value;

use crate::server::{Server, text};

/// They connect hundreds of times, one after the other.
const BOUND: Duration = Duration::from_secs(20 * 60);

/// Compares what was found with what is known, each with the reason why it is no weakness. What is known and not found
/// any more has to leave the list.
#[track_caller]
fn known(found: &BTreeSet<String>, expected: &[(&str, &str)], told: &str) {
    let expected: BTreeSet<String> = expected.iter().map(|(finding, _)| (*finding).to_owned()).collect();
    assert_eq!(*found, expected, "{told}");
}

/// By the names of the scans in SSLyze's JSON, what each must say.
const SSLYZE_SCANS: [(&str, &str, &str); 10] = [
    ("tls_compression", "supports_compression", "false"),
    ("tls_1_3_early_data", "supports_early_data", "false"),
    ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", "false"),
    ("tls_fallback_scsv", "supports_fallback_scsv", "true"),
    ("heartbleed", "is_vulnerable_to_heartbleed", "false"),
    ("robot", "robot_result", "\"NOT_VULNERABLE_RSA_NOT_SUPPORTED\""),
    ("session_renegotiation", "supports_secure_renegotiation", "true"),
    ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", "false"),
    ("tls_extended_master_secret", "supports_ems_extension", "true"),
    ("elliptic_curves", "supports_ecdh_key_exchange", "true"),
];

/// What it finds against Mozilla's "intermediate" recommendations.
const SSLYZE_KNOWN: [(&str, &str); 1] =
    [("certificate_path_validation", "the certificate is made at start, and signed by itself")];

/// What is not asked of it: headers are a site's business; and it takes a session to be resumed only when no new ticket
/// follows, where ours always do.
const SSLYZE_NOT_ASKED: [&str; 2] = ["http_headers", "session_resumption"];

#[test]
fn sslyze_finds_nothing_but_what_is_known() {
    let Some(sslyze) = Peer::Sslyze.installed() else { return };
    let scratch = Scratch::new();
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    let json = scratch.path("sslyze.json");
    let mut command = sslyze.command();
    command.args(["--mozilla_config", "intermediate", "--early_data", "--json_out", text(&json)]);
    let ended = Process::start(command.arg(server.addr().to_string())).end_within(BOUND);
    let told: Value = serde_json::from_str(&fs::read_to_string(&json).expect("its report")).expect("JSON");
    let scan = &told["server_scan_results"][0]["scan_result"];
    let scans = scan.as_object().unwrap_or_else(|| panic!("no scans: {ended}"));
    for (name, scan) in scans {
        let expected = if SSLYZE_NOT_ASKED.contains(&name.as_str()) { "NOT_SCHEDULED" } else { "COMPLETED" };
        assert_eq!(scan["status"], expected, "{name}: {ended}");
    }
    for (name, key, wanted) in SSLYZE_SCANS {
        assert_eq!(scan[name]["result"][key].to_string(), wanted, "{name}: {ended}");
    }
    for (version, suites) in [
        ("ssl_2_0", &[][..]),
        ("ssl_3_0", &[]),
        ("tls_1_0", &[]),
        ("tls_1_1", &[]),
        (
            "tls_1_2",
            &[
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            ],
        ),
        ("tls_1_3", &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]),
    ] {
        let accepted = &scan[format!("{version}_cipher_suites")]["result"]["accepted_cipher_suites"];
        let names = accepted.as_array().into_iter().flatten().filter_map(|s| s["cipher_suite"]["name"].as_str());
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        assert_eq!(names, suites, "{version}: {ended}");
    }
    // After the verdict a line for each recommendation that is not kept.
    let verdict = ended.stdout.split("COMPLIANCE AGAINST").nth(1).unwrap_or_else(|| panic!("no verdict: {ended}"));
    let found = verdict.lines().filter_map(|line| Some(line.trim().strip_prefix("* ")?.split(':').next()?.to_owned()));
    known(&found.collect(), &SSLYZE_KNOWN, &ended.to_string());
    server.stop();
}

/// The findings of testssl.sh that are neither `OK` nor `INFO`.
const TESTSSL_KNOWN: [(&str, &str); 5] = [
    ("cipher_order", "among suites that are all AEAD with forward secrecy the client knows best which it does fast"),
    ("cert_chain_of_trust", "the certificate is made at start, and signed by itself"),
    ("cert_revocation", "nobody revokes such a certificate"),
    ("DNS_CAArecord", "127.0.0.1 has no DNS zone"),
    ("HSTS", "the built-in page is no site, and its address is anybody's"),
];

/// Those that have to be among its findings: it must have looked.
const TESTSSL_LOOKED: [&str; 19] = [
    "SSLv2",
    "SSLv3",
    "TLS1",
    "TLS1_1",
    "TLS1_2",
    "TLS1_3",
    "heartbleed",
    "CCS",
    "ticketbleed",
    "ROBOT",
    "secure_renego",
    "secure_client_renego",
    "CRIME_TLS",
    "BREACH",
    "POODLE_SSL",
    "SWEET32",
    "FREAK",
    "LUCKY13",
    "RC4",
];

/// `openssl` for testssl.sh, which takes a session along from an `s_client` that has no input. That leaves after the
/// handshake, and on a busy machine nearly always before the ticket comes, as servers of TLS 1.3 send it when they have
/// the client's Finished. This one keeps the input open until the session is there, for some seconds at most.
const PATIENT_OPENSSL: &str = r#"#!/bin/sh
case " $* " in
    *" -no_ticket "*) exec OPENSSL "$@" ;;
    *" -sess_out "*) ;;
    *) exec OPENSSL "$@" ;;
esac
for argument; do
    [ "$before" = -sess_out ] && session=$argument
    before=$argument
done
{
    tries=0
    while [ ! -s "$session" ] && [ $tries -lt 200 ]; do
        sleep 0.05
        tries=$((tries + 1))
    done
} | OPENSSL "$@"
"#;

#[test]
fn testssl_finds_nothing_but_what_is_known() {
    if !full() {
        return;
    }
    let (Some(testssl), Some(openssl)) = (Peer::Testssl.installed(), Peer::OpenSsl.installed()) else { return };
    let scratch = Scratch::new();
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    let json = scratch.path("testssl.json");
    let program = openssl.command().get_program().to_str().expect("a path in UTF-8").to_owned();
    let patient = scratch.file("openssl", PATIENT_OPENSSL.replace("OPENSSL", &program));
    fs::set_permissions(&patient, fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut command = testssl.command();
    command.args(["--full", "--warnings", "off", "--color", "0", "--quiet", "--openssl", text(&patient)]);
    command.args(["--jsonfile", text(&json)]);
    let ended = Process::start(command.arg(server.addr().to_string())).end_within(BOUND);
    let told: Value = serde_json::from_str(&fs::read_to_string(&json).expect("its report")).expect("JSON");
    let findings = told.as_array().unwrap_or_else(|| panic!("no findings: {ended}"));
    let id = |finding: &Value| finding["id"].as_str().unwrap_or_default().to_owned();
    let harmless = |finding: &&Value| !matches!(finding["severity"].as_str(), Some("OK" | "INFO"));
    known(&findings.iter().filter(harmless).map(id).collect(), &TESTSSL_KNOWN, &ended.to_string());
    for looked in TESTSSL_LOOKED {
        assert!(findings.iter().any(|f| id(f) == looked), "it has not looked at {looked}: {ended}");
    }
    let resumed = findings.iter().find(|f| id(f) == "sessionresumption_ticket");
    assert!(resumed.is_some_and(|f| f["finding"] == "supported"), "{resumed:?}: {ended}");
    server.stop();
}
