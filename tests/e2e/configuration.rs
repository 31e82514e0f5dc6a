//! `handfast serve --config` and `handfast check`.

use std::fs;
use std::path::{Path, PathBuf};

use handfast::Config;
use handfast_tests::batch::batch;
use handfast_tests::binaries::handfast;
use handfast_tests::certificates::{Key, make, make_with};
use handfast_tests::peers::Peer;
use handfast_tests::process::{Ended, Scratch, Signal, run};
use serde_json::Value;

use crate::facts;
use crate::measuring::{SHORT, good_load};
use crate::s_client::{SClient, handshake};
use crate::server::{Files, Server, counter, text};

/// A configuration with certificates beside it: `site` for `localhost`, `own` for `own.test`.
struct Configured {
    scratch: Scratch,
    site: Files,
    own: Files,
}

const SETS: &str = "[[certificates.default.identity]]\ncertificate = \"site.pem\"\nkey = \"site.key\"\n\
                    [[certificates.own.identity]]\ncertificate = \"own.pem\"\nkey = \"own.key\"\n";

impl Configured {
    fn new() -> Self {
        let scratch = Scratch::new();
        let site = Files::new(&scratch, "site", make(&["localhost"]));
        let own = Files::new(&scratch, "own", make(&["own.test"]));
        Self { scratch, site, own }
    }

    fn file(&self, content: &str) -> PathBuf {
        self.scratch.file("handfast.toml", content)
    }

    fn check(&self, content: &str, args: &[&str]) -> Ended {
        check(&self.file(content), args)
    }
}

fn check(file: &Path, args: &[&str]) -> Ended {
    run(handfast().args(["check", "--config", text(file)]).args(args))
}

/// `handfast serve` with a file, once it listens at so many addresses.
fn serve(file: &Path, args: &[&str]) -> Server {
    Server::start(&[&["--config", text(file)], args].concat())
}

#[test]
fn a_file_s_keys_sign_as_the_command_line_says() {
    if batch().is_none() {
        return;
    }
    let configured = Configured::new();
    let (only, _) = SETS.split_once("[[certificates.own").expect("two sets");
    let file = |crypto| {
        configured.file(&format!(
            "crypto = \"{crypto}\"\nbatch_wait = \"10ms\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n{only}\
             [[protocol]]\nid = \"h2\"\n"
        ))
    };
    for (crypto, args, presigns) in [
        ("auto", &["--presign", "on"][..], true),
        ("batch", &["--presign", "off"], false),
        ("auto", &["--crypto", "batch"], true),
        ("batch", &[], true),
    ] {
        let server = serve(&file(crypto), &[&["--stats"], args].concat());
        let target = server.addr().to_string();
        good_load(&[&[&*target, "--ca", text(&configured.site.cert), "--sni", "localhost"], &SHORT[..]].concat());
        let stats = server.stop().stdout;
        assert_eq!(counter(&stats, "batch_presigned") > 0, presigns, "{crypto} {args:?}: {stats}");
    }
}

#[test]
fn each_protocol_is_served_as_the_file_says() {
    let (Some(openssl), Some(curl)) = (Peer::OpenSsl.installed(), Peer::Curl.installed()) else { return };
    let configured = Configured::new();
    let file = configured.file(&format!(
        "prefer = \"client\"\ntickets = 0\nwithout_alpn = \"echo\"\nfallback = \"http/1.1\"\n\
         [[listen]]\naddress = \"127.0.0.1:0\"\n{SETS}\
         [[protocol]]\nid = \"h2\"\n[[protocol]]\nid = \"http/1.1\"\ntls_versions = [\"1.2\"]\n\
         [[protocol]]\nid = \"shout/1\"\nserve = \"echo\"\ncertificates = \"own\"\ntls_versions = [\"1.3\"]\n\
         [[protocol]]\nid = \"echo\"\n[http1]\nkeep_alive = false\n"
    ));
    let server = serve(&file, &[]);
    let connect = format!("localhost:{}:127.0.0.1", server.addr().port());
    let url = format!("https://localhost:{}/", server.addr().port());
    for (flag, version, tls) in [("--http2", "2", "TLSv1.3"), ("--http1.1", "1.1", "TLSv1.2")] {
        let args =
            ["-q", "--noproxy", "*", "--silent", "--cacert", configured.site.cert(), "--resolve", &connect, flag];
        let ended = run(curl.command().args(args).args(["--write-out", "%{http_version}\n", &url]));
        assert!(ended.stdout.ends_with(&format!("\n{version}\n")), "{ended}");
        assert_eq!(facts::find(&ended.stdout).expect("facts")["tls_version"], tls, "{ended}");
    }

    // A certificate, a version and a worker of its own.
    let args = ["-alpn", "shout/1", "-CAfile", configured.own.cert(), "-verify_return_error"];
    let mut client = SClient::start(&openssl, server.addr(), &args).established();
    client.input(b"hello\n");
    client.wait_for_text("hello\n");
    let ended = client.end();
    assert!(ended.stdout.contains("TLSv1.3") && ended.stdout.contains("ALPN protocol: shout/1"), "{ended}");
    assert!(!ended.stdout.contains("Post-Handshake New Session Ticket"), "{ended}");
    let refused = SClient::start(&openssl, server.addr(), &["-alpn", "shout/1", "-tls1_2"]).end();
    assert!(refused.stderr.contains("SSL alert number 70"), "{refused}");

    // The client's preference, the fallback, and who offers no ALPN.
    let ended = handshake(&openssl, server.addr(), &["-alpn", "echo,h2"]);
    assert!(ended.stdout.contains("ALPN protocol: echo\n"), "{ended}");
    let mut other = SClient::start(&openssl, server.addr(), &["-alpn", "foreign", "-tls1_2"]).established();
    assert_eq!(other.facts()["protocol"], "http/1.1");
    let mut none = SClient::start(&openssl, server.addr(), &[]).established();
    none.input(b"hello\n");
    none.wait_for_text("hello\n");
    server.stop();
}

#[test]
fn the_command_line_beats_the_file() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let configured = Configured::new();
    let file = configured.file(&format!(
        "shards = 2\ntls_versions = [\"1.3\"]\nwithout_alpn = \"refuse\"\n[[listen]]\naddress = \"192.0.2.1:1\"\n{SETS}\
         [[protocol]]\nid = \"h2\"\ntls_versions = [\"1.3\"]\n[[protocol]]\nid = \"echo\"\ncertificates = \"own\"\n"
    ));
    let own = ["--cert", configured.own.cert(), "--key", configured.own.key()];
    let server =
        serve(&file, &[&["--listen", "127.0.0.1:0", "--tls", "1.2", "--without-alpn", "h2"], &own[..]].concat());
    let args = ["-alpn", "h2", "-tls1_2", "-CAfile", configured.own.cert(), "-verify_return_error"];
    handshake(&openssl, server.addr(), &args);
    handshake(&openssl, server.addr(), &["-tls1_2"]);
    let refused = SClient::start(&openssl, server.addr(), &["-alpn", "h2", "-tls1_3"]).end();
    assert!(refused.stderr.contains("SSL alert number 70"), "{refused}");
    server.stop();

    let args = ["--listen", "127.0.0.1:0", "--protocol", "http/1.1"];
    let server = serve(&file, &[&args[..], &["--fallback", "http/1.1"]].concat());
    handshake(&openssl, server.addr(), &["-alpn", "echo"]);
    server.stop();
    let server = serve(&file, &args);
    let ended = handshake(&openssl, server.addr(), &["-alpn", "http/1.1,echo"]);
    assert!(ended.stdout.contains("ALPN protocol: http/1.1\n"), "{ended}");
    let refused = SClient::start(&openssl, server.addr(), &["-alpn", "echo"]).end();
    assert!(refused.stderr.contains("SSL alert number 120"), "{refused}");
    server.stop();
}

#[test]
fn a_file_without_certificates_gets_one_that_is_announced() {
    let configured = Configured::new();
    let file = configured.file("[[listen]]\naddress = \"127.0.0.1:0\"\n");
    let mut server = serve(&file, &[]);
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(ended.stdout.starts_with("handfast: self-signed certificate, SHA-256 "), "{ended}");
    assert!(ended.stderr.contains("handfast.toml: warning: no certificates here"), "{ended}");
}

#[test]
fn a_right_file_is_said_to_be_right_and_nothing_is_listened_on() {
    let configured = Configured::new();
    let protocols = "[[protocol]]\nid = \"h2\"\n[[protocol]]\nid = \"echo\"\ncertificates = \"own\"\n";
    // An address that this machine does not have (RFC 5737) shows that none is tried.
    let listen = "[[listen]]\naddress = \"192.0.2.1:443\"\n";
    let ended = configured.check(&format!("{listen}{SETS}{protocols}"), &[]);
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{ended}");
    assert!(ended.stdout.ends_with("handfast.toml: right; 1 listeners, 2 protocols; warnings: 0\n"), "{ended}");
    assert_eq!(ended.stdout.lines().count(), 1, "{ended}");
}

#[test]
fn a_wrong_file_is_refused_alike_by_check_and_serve() {
    let configured = Configured::new();
    let wrong = "shard = 2\n[limits]\nlinger = \"soon\"\n[[certificates.default.identity]]\ncertificate = \"site.pem\"\n\
                 key = \"own.key\"\n";
    let checked = configured.check(wrong, &[]);
    assert_eq!((checked.code(), checked.stderr.as_str()), (1, ""), "{checked}");
    let file = configured.scratch.path("handfast.toml");
    for (line, says) in [
        ("1:1", "shard: there is no such key; did you mean `shards`?"),
        ("3:10", "limits.linger: `\"soon\"` does not fit; write a time over zero"),
        ("6:7", "certificates.default.identity.key: the private key in "),
    ] {
        let says = format!("{}:{line}: {says}", text(&file));
        assert!(checked.stdout.contains(&says), "{says}: {checked}");
    }
    assert!(checked.stdout.ends_with("handfast.toml: wrong; problems: 3, warnings: 0\n"), "{checked}");
    let served = run(handfast().args(["serve", "--config", text(&file)]));
    assert_eq!((served.code(), served.stdout.as_str()), (2, ""), "{served}");
    let findings: Vec<&str> = checked.stdout.lines().take(3).collect();
    let said: Vec<&str> = served.stderr.lines().filter_map(|l| l.strip_prefix("handfast: ")).collect();
    assert_eq!(said, findings);
}

#[test]
fn json_has_each_finding_with_its_place() {
    let configured = Configured::new();
    let ended = configured.check("shard = 2\n", &["--json"]);
    assert_eq!(ended.code(), 1, "{ended}");
    let told: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(told["right"], false);
    let finding = &told["findings"][0];
    assert_eq!((&finding["line"], &finding["column"], &finding["key"]), (&1.into(), &1.into(), &"shard".into()));
    assert_eq!((&finding["severity"], &finding["file"]), (&"error".into(), &told["file"]));
    assert!(finding["message"].as_str().is_some_and(|m| m.contains("did you mean `shards`?")), "{told}");
    let told: Value = serde_json::from_str(&configured.check("", &["--json"]).stdout).expect("JSON");
    assert_eq!((&told["right"], told["findings"].as_array().map(Vec::len)), (&true.into(), Some(1)), "{told}");
    assert_eq!(told["findings"][0]["severity"], "warning");
}

#[test]
fn an_expired_certificate_is_a_warning_with_its_line() {
    let configured = Configured::new();
    let expired = make_with(&["localhost"], Key::P256, |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let _expired = Files::new(&configured.scratch, "expired", expired);
    let file = "[[listen]]\naddress = \"127.0.0.1:0\"\n[[certificates.default.identity]]\ncertificate = \"expired.pem\"\n\
                key = \"expired.key\"\n";
    let checked = configured.check(file, &[]);
    assert_eq!(checked.code(), 0, "{checked}");
    assert!(
        checked.stdout.contains("handfast.toml:4:15: warning: certificates.default.identity.certificate: "),
        "{checked}"
    );
    assert!(checked.stdout.contains("expired") && checked.stdout.contains("warnings: 1\n"), "{checked}");
    let mut server = serve(&configured.scratch.path("handfast.toml"), &[]);
    server.signal(Signal::TERM);
    let ended = server.end();
    assert_eq!(ended.code(), 0, "{ended}");
    assert!(ended.stderr.contains("handfast.toml:4:15: warning: "), "{ended}");
}

#[test]
fn what_check_prints_can_be_checked() {
    let scratch = Scratch::new();
    let printed = run(handfast().args(["check", "--print-defaults"]));
    assert_eq!((printed.code(), printed.stderr.as_str()), (0, ""), "{printed}");
    let checked = check(&scratch.file("printed.toml", &printed.stdout), &[]);
    assert_eq!(checked.code(), 0, "{checked}");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    assert_eq!(fs::read_to_string(docs.join("handfast.toml")).expect("the example"), printed.stdout);
    let reference = run(handfast().args(["check", "--print-reference"]));
    let page = fs::read_to_string(docs.join("CONFIGURATION.md")).expect("the reference");
    assert!(reference.code() == 0 && page.ends_with(&reference.stdout), "{reference}");
}

#[test]
fn check_that_is_called_wrongly() {
    for args in [&["check"][..], &["check", "--json"], &["check", "--config", "a", "--print-defaults"], &["check", "a"]]
    {
        let ended = run(handfast().args(args));
        assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{args:?}: {ended}");
    }
    let missing = check(Path::new("/nowhere/handfast.toml"), &[]);
    assert_eq!(missing.code(), 1, "{missing}");
    assert!(missing.stdout.starts_with("/nowhere/handfast.toml: does not exist; check the path\n"), "{missing}");
    let help = run(handfast().args(["check", "--help"]));
    assert!(help.code() == 0 && help.stdout.starts_with("Examples:"), "{help}");
}

#[test]
fn an_edited_file_is_reloaded_whole_or_not_at_all() {
    let Some(openssl) = Peer::OpenSsl.installed() else { return };
    let configured = Configured::new();
    let expired = make_with(&["localhost"], Key::P256, |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let _expired = Files::new(&configured.scratch, "expired", expired);
    // What stands first, which certificate, and what follows.
    let edit = |first: &str, set: &str, more: &str| {
        configured.file(&format!(
            "{first}shards = 1\npin = \"off\"\n[[listen]]\naddress = \"127.0.0.1:0\"\n\
             [[certificates.default.identity]]\ncertificate = \"{set}.pem\"\nkey = \"{set}.key\"\n\
             [[protocol]]\nid = \"close\"\n{more}"
        ))
    };
    let file = edit("", "site", "");
    let load = || Config::load(&file)?.builder();
    let engine = load().expect("a configuration").start().expect("an engine");
    let (handle, addr) = (engine.handle(), engine.handle().local_addr().expect("an address"));
    let verified = |files: &Files, alpn: &str| {
        let ended = SClient::start(&openssl, addr, &["-alpn", alpn, "-CAfile", files.cert(), "-verify_return_error"]);
        ended.end().code() == 0
    };
    assert!(verified(&configured.site, "close") && !verified(&configured.own, "close"));

    // Nothing of a file that is wrong is served, and it is told where it is wrong.
    for (first, set, more, says) in [
        (
            "",
            "own",
            "[limits]\nhandshake_byte = 1\n",
            "handfast.toml:11:1: limits.handshake_byte: there is no such key",
        ),
        ("", "gone", "", "handfast.toml:6:15: certificates.default.identity.certificate: "),
        ("fallback = \"chat/1\"\n", "own", "", "handfast.toml:1:12: fallback: there is no protocol `chat/1`"),
        ("= 1\n", "own", "", "handfast.toml:1:1: not TOML"),
    ] {
        edit(first, set, more);
        let error = load().expect_err(says).to_string();
        assert!(error.contains(says), "{error}\nshould say {says}");
    }
    for (first, set, more) in [
        ("workers = 2\n", "own", ""),
        ("", "expired", "[[protocol]]\nid = \"echo\"\n"),
        ("", "own", "[limits]\nmailbox_depth = 7\n"),
    ] {
        edit(first, set, more);
        handle.reload(load().expect("nothing is wrong with the file by itself")).expect_err("a reload");
        assert!(verified(&configured.site, "close") && !verified(&configured.own, "close"), "{first}{set}{more}");
        assert!(!verified(&configured.site, "echo"));
    }

    // Certificate, protocols and limits change together.
    edit("", "own", "[[protocol]]\nid = \"echo\"\n[limits]\nclient_hello_bytes = \"8KiB\"\n");
    handle.reload(load().expect("a configuration")).expect("a reload");
    assert!(verified(&configured.own, "close") && verified(&configured.own, "echo"));
    assert!(!verified(&configured.site, "close"));
    edit("", "own", "[limits]\nclient_hello_bytes = 64\n");
    handle.reload(load().expect("a configuration")).expect("a reload");
    let refused = SClient::start(&openssl, addr, &["-alpn", "close"]).end();
    assert!(refused.stderr.contains("SSL alert number 50"), "decode_error: {refused}");
    edit("", "site", "");
    handle.reload(load().expect("a configuration")).expect("a reload");
    assert!(verified(&configured.site, "close") && !verified(&configured.site, "echo"));
    engine.shutdown().expect("an end");
}
