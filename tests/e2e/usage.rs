//! Wrong command lines of `handfast serve`: what it says, and that nothing goes on running.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use handfast_tests::binaries::handfast;
use handfast_tests::certificates::{Made, make, make_with};
use handfast_tests::peers::Peer;
use handfast_tests::process::{Scratch, run};

use crate::server::{Files, Server, text};

/// It ends by itself with status 2, prints nothing on standard output, and says each of `says`.
#[track_caller]
fn refused(args: &[&str], says: &[&str]) {
    let ended = run(handfast().arg("serve").args(args));
    assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{args:?}: {ended}");
    for part in says {
        assert!(ended.stderr.contains(part), "{args:?} should say {part:?}: {ended}");
    }
}

/// Refused for its certificate or key.
#[track_caller]
fn files_refused(cert: &str, key: &str, says: &[&str]) {
    let listen = ["--listen", "127.0.0.1:0"];
    refused(&[&listen[..], &["--cert", cert, "--key", key]].concat(), says);
    // The same files, the same words, for a protocol of its own.
    refused(&[&listen[..], &["--protocol", &format!("h2={cert}:{key}")]].concat(), says);
}

fn good(scratch: &Scratch) -> Files {
    Files::new(scratch, "good", make(&["localhost"]))
}

#[test]
fn files_that_are_missing() {
    let scratch = Scratch::new();
    let good = good(&scratch);
    let missing = scratch.path("missing.pem");
    files_refused(text(&missing), good.key(), &[text(&missing), "does not exist", "check the path"]);
    files_refused(good.cert(), text(&missing), &[text(&missing), "does not exist", "check the path"]);
}

#[test]
fn files_that_cannot_be_read() {
    let scratch = Scratch::new();
    let good = good(&scratch);
    let directory = scratch.path("directory.pem");
    fs::create_dir(&directory).expect("a directory");
    files_refused(text(&directory), good.key(), &[text(&directory), "cannot be read"]);
    fs::set_permissions(&good.key, fs::Permissions::from_mode(0o000)).expect("no permissions");
    // Whoever runs this as root may read everything.
    if fs::File::open(&good.key).is_err() {
        files_refused(good.cert(), good.key(), &[good.key(), "may not be read", "owner and mode"]);
    }
}

#[test]
fn files_that_are_not_pem() {
    let scratch = Scratch::new();
    let good = good(&scratch);
    let prose = scratch.file("prose.txt", "Dear Sir or Madam,\n");
    let noise = scratch.file("noise.bin", [0xff, 0, 0x80, 0x0a].repeat(100));
    for wrong in [&prose, &noise] {
        let wrong = text(wrong);
        files_refused(wrong, good.key(), &[wrong, "no certificate", "-----BEGIN CERTIFICATE-----"]);
        files_refused(good.cert(), wrong, &[wrong, "no private key", "-----BEGIN PRIVATE KEY-----"]);
    }
    // Swapped.
    files_refused(good.key(), good.cert(), &[good.key(), "no certificate"]);
    let cut = scratch.file("cut.pem", &good.made.pem[..good.made.pem.len() / 2]);
    files_refused(text(&cut), good.key(), &[text(&cut)]);
}

#[test]
fn a_key_that_is_not_the_certificates() {
    let scratch = Scratch::new();
    let (one, other) = (good(&scratch), Files::new(&scratch, "other", make(&["localhost"])));
    files_refused(one.cert(), other.key(), &[one.cert(), other.key(), "does not belong"]);
}

#[test]
fn an_encrypted_key() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let scratch = Scratch::new();
    let good = good(&scratch);
    // PKCS #8, and OpenSSL's own older form.
    for args in [&["pkcs8", "-topk8"][..], &["ec", "-aes128"]] {
        let encrypted = scratch.path("encrypted.key");
        let mut command = openssl.command();
        command.args(args).args(["-in", good.key(), "-out", text(&encrypted), "-passout", "pass:secret"]);
        let ended = run(&mut command);
        assert_eq!(ended.code(), 0, "{ended}");
        files_refused(good.cert(), text(&encrypted), &[text(&encrypted), "encrypted", "openssl pkey"]);
    }
}

#[test]
fn an_expired_certificate_is_a_warning() {
    let scratch = Scratch::new();
    let expired = expired();
    let files = Files::new(&scratch, "expired", expired);
    let mut server = Server::start(&["--listen", "127.0.0.1:0", "--cert", files.cert(), "--key", files.key()]);
    server.signal(handfast_tests::process::Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(ended.stderr.contains("warning") && ended.stderr.contains("expired"), "{ended}");
    assert!(ended.stderr.contains("renew it"), "{ended}");
}

fn expired() -> Made {
    make_with(&["localhost"], handfast_tests::certificates::Key::P256, |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    })
}

#[test]
fn certificates_and_keys_that_do_not_pair_up() {
    let scratch = Scratch::new();
    let good = good(&scratch);
    refused(&["--listen", "127.0.0.1:0", "--cert", good.cert()], &["1 --cert but 0 --key"]);
    refused(&["--listen", "127.0.0.1:0", "--key", good.key()], &["0 --cert but 1 --key"]);
    refused(&["--protocol", &format!("h2={}", good.cert())], &["--protocol", "h2=chain.pem:key.pem"]);
}

#[test]
fn protocols_that_are_not_there() {
    refused(&["--listen", "127.0.0.1:0", "--protocol", "h3"], &["`h3`", "`h2`, `http/1.1`, `echo` and `close`"]);
    refused(&["--listen", "127.0.0.1:0", "--without-alpn", "spdy"], &["`spdy`", "not registered"]);
}

#[test]
fn endpoints_that_are_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    refused(&["--listen", &addr], &[&addr, "in use", "choose another"]);
    // Ours do not share a port by accident either, though each of their shards does.
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    let addr = server.addr().to_string();
    refused(&["--listen", "127.0.0.1:0", "--listen", &addr], &[&addr, "in use"]);
    server.stop();

    let scratch = Scratch::new();
    let path = scratch.path("taken.sock");
    let _taken = UnixListener::bind(&path).expect("a socket");
    refused(&["--listen", &format!("unix:{}", text(&path))], &[text(&path), "another process listens there"]);
    assert!(path.exists(), "it removed the socket of another process");
}

#[test]
fn endpoints_that_make_no_sense() {
    for wrong in ["8443", "localhost", "127.0.0.1", "127.0.0.1:99999", "::1:8443", "unix:", "[::1]:1,v6only=perhaps"] {
        refused(&["--listen", wrong], &["--listen", wrong, "[::1]:8443"]);
    }
    // Documentation addresses (RFC 5737) belong to no machine.
    refused(&["--listen", "192.0.2.1:0"], &["192.0.2.1:0", "does not have that address"]);
}

#[test]
fn numbers_and_times_that_make_no_sense() {
    for option in ["--drain-timeout", "--handshake-timeout"] {
        for wrong in ["10", "ten", "-1s", "10 parsecs"] {
            refused(&[&format!("{option}={wrong}")], &[option, wrong, "10s, 500ms or 2m"]);
        }
    }
    for wrong in ["0", "many", "-1"] {
        refused(&[&format!("--workers={wrong}")], &["--workers", wrong, "shared-core"]);
    }
    refused(&["--shards", "0", "--listen", "127.0.0.1:0"], &["at least one shard"]);
    refused(&["--shards", "x"], &["--shards", "x"]);
    refused(&["--tls", "1.1"], &["--tls", "1.2", "1.3"]);
    refused(&["--unknown"], &["--unknown"]);
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = run(handfast().args(["serve", "--help"]));
    assert_eq!((help.code(), help.stderr.as_str()), (0, ""), "{help}");
    assert!(help.stdout.starts_with("Examples:") && help.stdout.contains("--drain-timeout"), "{help}");
    let version = run(handfast().arg("--version"));
    assert_eq!((version.code(), version.stderr.as_str()), (0, ""), "{version}");
    assert!(version.stdout.starts_with("handfast "), "{version}");
    let nothing = run(&mut handfast());
    assert!(nothing.code() == 2 && nothing.stderr.contains("handfast serve"), "{nothing}");
}
