//! Every key is read, every mistake is told with its line, and no text panics.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::file::File;
use super::table::{Entry, Topic, topics_of};
use super::*;
use crate::crypto::batch::pretend::{Kernel, Machine};
use crate::identity::Identity;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "/nowhere/hf.toml")
}

/// All that is said of a text that is wrong.
#[track_caller]
fn wrong(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("nothing is wrong with {text}"),
        Err(e) => e.to_string(),
    }
}

/// What a configuration comes to, but for the file it is from.
fn shown(config: &Config) -> String {
    let mut config = config.clone();
    config.places = Places::default();
    format!("{config:?}")
}

#[test]
fn a_file_of_all_defaults_is_an_empty_file() {
    assert_eq!(shown(&parse(&defaults()).unwrap()), shown(&Config::default()));
    assert_eq!(shown(&parse("").unwrap()), shown(&Config::default()));
}

/// Another value than the default, of the same kind.
fn other(key: &Entry) -> &'static str {
    match (key.kind, key.name) {
        ("true or false", "presign") => "false",
        ("true or false", _) => {
            if key.default.as_deref() == Some("true") {
                "false"
            } else {
                "true"
            }
        }
        ("number", "prefix_v4" | "prefix_v6" | "level" | "server_window_bits" | "client_window_bits") => "9",
        ("number", _) => "77",
        ("size", "frame_bytes_max") => "77777",
        ("size", _) => "\"77KiB\"",
        ("time or \"off\"", "batch_wait") => "\"77us\"",
        ("time" | "time or \"off\"", _) => "\"77s\"",
        ("name", "without_alpn" | "fallback") => "\"h2\"",
        ("name", _) => "\"default\"",
        ("\"shared-core\" or number", _) => "7",
        ("\"auto\", \"off\" or list of cores", _) => "[7]",
        ("\"server\" or \"client\"", _) => "\"client\"",
        ("\"facts\", \"echo\", \"close\" or \"program\"", _) => "\"echo\"",
        ("\"any\", \"same-host\" or list of origins", _) => "[\"https://example.com\"]",
        ("\"none\", \"optional\" or \"required\"", _) => "\"required\"",
        ("\"aws-lc\", \"batch\" or \"auto\"", _) => "\"auto\"",
        ("number or \"off\"", _) => "7",
        ("rate or \"off\"", _) => "{ per_second = 7, burst = 7 }",
        ("list of networks or \"off\"", _) => "[\"10.0.0.0/8\", \"::1\"]",
        ("list of texts", _) => "[\"one\"]",
        ("[] or [\"brotli\"]", _) => "[\"brotli\"]",
        ("address", _) => "\"127.0.0.1:7777\"",
        ("[\"1.2\", \"1.3\"], [\"1.3\"] or [\"1.2\"]", _) => "[\"1.3\"]",
        (kind, name) => panic!("no other value for {name}, a {kind}"),
    }
}

#[test]
fn every_key_changes_the_configuration() {
    let files = Files::new();
    let mut tried = 0;
    for topic in topics_of(&File::default(), "") {
        for key in topic.keys.iter().filter(|key| !key.is_table && key.kind != "file") {
            // What has to be there besides the key, and to compare with.
            let (before, after) = match topic.path.as_str() {
                "" if key.name == "batch_wait" => ("crypto = \"auto\"\n".into(), String::new()),
                "" => (String::new(), String::new()),
                "listen" if key.name != "address" => ("[[listen]]\naddress = \"127.0.0.1:1\"\n".into(), String::new()),
                "listen" => ("[[listen]]\n".into(), String::new()),
                "protocol" if key.name == "id" => ("[[protocol]]\nserve = \"close\"\n".into(), String::new()),
                "protocol" => ("[[protocol]]\nid = \"h2\"\n".into(), files.set("default")),
                "client_auth" => ("[client_auth]\n".into(), "roots = \"one.pem\"\n".into()),
                "protocol.client_auth" => {
                    ("[[protocol]]\nid = \"h2\"\n[protocol.client_auth]\n".into(), "roots = \"one.pem\"\n".into())
                }
                path => (format!("[{path}]\n"), String::new()),
            };
            let plain =
                if before.ends_with("]]\n") || key.required { String::new() } else { format!("{before}{after}") };
            let changed = format!("{before}{} = {}\n{after}", key.name, other(key));
            let plain = if key.name == "mode" { changed.replace("required", "none") } else { plain };
            let (plain, other) = (parse_at(&plain, &files), parse_at(&changed, &files));
            assert_ne!(shown(&other), shown(&plain), "{changed} changes nothing");
            // What a builder shows of itself, it has been told.
            if ["", "listen", "limits", "client_auth"].contains(&topic.path.as_str()) {
                assert_ne!(told(&other), told(&plain), "{changed} is not told to the builder");
            }
            tried += 1;
        }
    }
    assert!(tried > 50, "only {tried} keys");
}

fn told(config: &Config) -> String {
    format!("{:?}", config.builder().unwrap())
}

#[track_caller]
fn parse_at(text: &str, files: &Files) -> Config {
    Config::parse(text, files.0.join("hf.toml")).unwrap_or_else(|e| panic!("{text}\n{e}"))
}

/// A certificate and its key in a directory of their own.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("handfast-config-{}-{n}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for name in ["one", "two"] {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(directory.join(format!("{name}.pem")), made.cert.pem()).unwrap();
            let key = directory.join(format!("{name}.key"));
            fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self(directory)
    }

    fn set(&self, name: &str) -> String {
        assert!(self.0.is_dir());
        format!("[[certificates.{name}.identity]]\ncertificate = \"one.pem\"\nkey = \"one.key\"\n")
    }

    #[track_caller]
    fn wrong(&self, text: &str) -> String {
        let path = self.0.join("hf.toml");
        fs::write(&path, text).unwrap();
        match Config::load(&path) {
            Ok(_) => panic!("nothing is wrong with {text}"),
            Err(e) => e.to_string().replace(&format!("{}/", self.0.display()), ""),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_mistake_has_its_place_and_its_mend() {
    let cases = [
        ("shard = 2", "1:1: shard: there is no such key; did you mean `shards`?"),
        (
            "\nhandshake_deadline = \"5s\"",
            "2:1: handshake_deadline: there is no such key; did you mean `limits.handshake_deadline`?",
        ),
        (
            "colour = 1",
            "1:1: colour: there is no such key; `handfast check --print-defaults` shows those that there are",
        ),
        ("[limits]\nlingr = \"1s\"", "2:1: limits.lingr: there is no such key; did you mean `linger`?"),
        ("[limit]", "1:2: limit: there is no such key; did you mean `limits`?"),
        ("[\"odd name\"]", "1:2: \"odd name\": there is no such key"),
        ("shards = 0", "1:10: shards: `0` does not fit; write a number, at least 1"),
        ("shards = -1", "1:10: shards: `-1` does not fit"),
        ("shards = 99999999999999999999", "1:10: shards: `99999999999999999999` does not fit"),
        ("shards = \"two\"", "1:10: shards: `\"two\"` does not fit; write a number"),
        ("workers = 0", "1:11: workers: `0` does not fit; write \"shared-core\", or how many"),
        (
            "pin = [\"a\"]",
            "1:7: pin: `[\"a\"]` does not fit; write \"auto\", \"off\", or a list of cores such as [0, 2]",
        ),
        ("prefer = \"both\"", "1:10: prefer: `\"both\"` does not fit; write \"server\" or \"client\""),
        ("tls_versions = [\"1.1\"]", "1:16: tls_versions: `[\"1.1\"]` does not fit; write [\"1.2\", \"1.3\"]"),
        ("tls_versions = []", "1:16: tls_versions: `[]` does not fit"),
        (
            "[client_auth]\nmode = \"maybe\"",
            "2:8: client_auth.mode: `\"maybe\"` does not fit; write \"none\", \"optional\" or \"required\"",
        ),
        ("[client_auth]\nmode = \"required\"", "2:8: client_auth.roots: is missing; add it"),
        (
            "[client_auth]\nmode = \"optional\"\nroots = \"none.pem\"",
            "3:9: client_auth.roots: /nowhere/none.pem does not exist",
        ),
        ("[[protocol]]\nid = \"h2\"\n[protocol.client_auth]", "3:1: protocol.client_auth.mode: is missing; add it"),
        (
            "ticket_lifetime = \"200h\"",
            "1:19: ticket_lifetime: `\"200h\"` does not fit; write a time from 1 second to 7 days, such as \"6h\"",
        ),
        ("ticket_secrets = \"none\"", "1:18: ticket_secrets: "),
        ("tls12_tickets = 1", "1:17: tls12_tickets: `1` does not fit; write true or false"),
        ("crypto = \"fast\"", "1:10: crypto: `\"fast\"` does not fit; write \"aws-lc\", \"batch\" or \"auto\""),
        ("presign = true\ncrypto = \"aws-lc\"", "1:11: presign: presigning is a part of batched cryptography"),
        (
            "batch_wait = \"200us\"",
            "1:14: batch_wait: waiting for more ClientHellos is a part of batched cryptography: choose that as well",
        ),
        (
            "crypto = \"auto\"\nbatch_wait = \"2s\"",
            "2:14: batch_wait: ClientHellos cannot wait 2s for others: 1 second at most",
        ),
        (
            "[limits.source]\nrate = 10",
            "2:8: limits.source.rate: `10` does not fit; write a rate such as { per_second = 10, burst = 50 }, or \"off\"",
        ),
        (
            "[limits.source]\nhandshakes = 0",
            "2:14: limits.source.handshakes: `0` does not fit; write a number, at least 1",
        ),
        (
            "[[listen]]\naddress = \":1\"\nproxy_protocol = [\"proxy.example\"]",
            "3:18: listen.proxy_protocol: `[\"proxy.example\"]` does not fit; write \"off\", or a list of networks",
        ),
        ("limits = 1", "1:10: limits: `1` does not fit; write a table: [limits], and its keys below"),
        ("listen = \"127.0.0.1:1\"", "1:10: listen: `\"127.0.0.1:1\"` does not fit; write tables: [[listen]]"),
        (
            "[listen]\naddress = \":1\"",
            "1:1: listen: `[listen]` does not fit; write tables: [[listen]], and its keys below",
        ),
        ("[[listen]]", "1:1: listen.address: is missing; add it"),
        ("[[listen]]\naddress = \"here\"", "2:11: listen.address: `\"here\"` does not fit; write an address such as"),
        (
            "[[listen]]\naddress = \":1\"\n[[listen]]\naddress = \":1\"",
            "4:11: listen.address: `[::]:1,v6only=off` is there already, in line 2; keep one of them",
        ),
        (
            "[limits]\nlinger = \"10 parsecs\"",
            "2:10: limits.linger: `\"10 parsecs\"` does not fit; write a time over zero, such as \"10s\"",
        ),
        ("[limits]\nlinger = 10", "2:10: limits.linger: `10` does not fit; write a time"),
        ("[limits]\nlinger = \"0s\"", "2:10: limits.linger: `\"0s\"` does not fit"),
        (
            "[limits]\nhandshake_bytes = \"64KB\"",
            "2:19: limits.handshake_bytes: `\"64KB\"` does not fit; write a size such as \"64KiB\"",
        ),
        ("[limits]\nhandshake_bytes = \"99999999999GiB\"", "2:19: limits.handshake_bytes"),
        (
            "[http2]\nframe_bytes_max = \"1KiB\"",
            "2:19: http2.frame_bytes_max: `\"1KiB\"` does not fit; write a size such as \"64KiB\", \"1MiB\" or a number of bytes, from 16KiB to 16777215B",
        ),
        ("[http2]\nconnect_protocol = true", "2:1: http2.connect_protocol: there is no such key"),
        ("[http1]\nkeep_alive = \"yes\"", "2:14: http1.keep_alive: `\"yes\"` does not fit; write true or false"),
        (
            "[websocket]\ndeflate = true",
            "2:11: websocket.deflate: `true` does not fit; write \"off\", or a table: [websocket.deflate], and its keys below",
        ),
        (
            "[websocket.deflate]\nlevel = 10",
            "2:9: websocket.deflate.level: `10` does not fit; write a number, from 1 to 9",
        ),
        (
            "[websocket]\norigins = \"some\"",
            "2:11: websocket.origins: `\"some\"` does not fit; write \"any\", \"same-host\", or a list",
        ),
        ("[[protocol]]\nserve = \"echo\"", "1:1: protocol.id: is missing; add it"),
        ("[[protocol]]\nid = \"\"", "2:6: protocol.id: `\"\"` does not fit; write a name in quotes, of 1 to 255 bytes"),
        (
            "[[protocol]]\nid = \"chat/1\"",
            "2:6: protocol.id: nothing serves `chat/1`; add serve = \"echo\", \"close\" or \"program\"",
        ),
        (
            "[[protocol]]\nid = \"chat/1\"\nserve = \"facts\"",
            "2:6: protocol.id: `chat/1` has no pages; \"facts\" is for `h2` and `http/1.1`",
        ),
        ("[[protocol]]\nid = \"h2\"\n[[protocol]]\nid = \"h2\"", "4:6: protocol.id: `h2` is there already, in line 2"),
        (
            "[[protocol]]\nid = \"h2\"\ncertificates = \"web\"\n[certificates.wep]",
            "3:16: protocol.certificates: there is no certificate set `web`; did you mean `wep`?",
        ),
        (
            "[[protocol]]\nid = \"h2\"\ncertificates = \"web\"",
            "3:16: protocol.certificates: there is no certificate set `web`; add its identities as [[certificates.NAME.identity]]",
        ),
        ("fallback = \"h1\"", "1:12: fallback: there is no protocol `h1`; did you mean `h2`?"),
        ("fallback = \"a\\nb\"", "1:12: fallback: there is no protocol `a\\nb`; register it as a [[protocol]]"),
        ("fallback = \"refuse\"", "1:12: fallback: there is no protocol `refuse`; register it as a [[protocol]]"),
        ("without_alpn = \"refuze\"", "1:16: without_alpn: there is no protocol `refuze`; did you mean `refuse`?"),
        (
            "[certificates.web]",
            "1:15: certificates.web: the certificate set \"web\" has no identity; add a certificate",
        ),
        (
            "[[certificates.web.identity]]\nkey = \"k\"",
            "1:1: certificates.web.identity.certificate: is missing; add it",
        ),
        (
            "[[certificates.web.identity]]\ncertificate = 1\nkey = \"k\"",
            "2:15: certificates.web.identity.certificate: `1` does not fit; write the name of a file in quotes",
        ),
        ("shards = 1\nshards = 2", "2:1: not TOML: duplicate key"),
        ("shards = \n", "1:10: not TOML:"),
        ("[limits\n", "1:8: not TOML:"),
    ];
    for (text, says) in cases {
        let said = wrong(text);
        let expected = format!("/nowhere/hf.toml:{says}");
        assert!(said.lines().any(|line| line.starts_with(&expected)), "{text}\nshould say\n{expected}\nsays\n{said}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file() {
    let text = "shard = 1\n[[listen]]\naddress = 1\n[limits]\nlinger = 1\nhandshake_bytes = true\nunknown = 1\n\
                [certificates.a]\n[[protocol]]\nid = 1\n";
    let error = parse(text).unwrap_err();
    let lines: Vec<usize> = error.findings().iter().map(Finding::line).collect();
    assert_eq!(lines, [1, 3, 5, 6, 7, 8, 10], "{error}");
    assert!(error.findings().iter().all(|f| f.severity() == Severity::Error), "{error}");
    // What is not TOML hides the rest.
    let error = parse("a = \nb = \n").unwrap_err();
    assert!(error.findings().iter().all(|f| matches!(f.kind(), FindingKind::Syntax(_))), "{error}");
}

#[test]
fn a_file_is_blamed_at_the_key_that_names_it() {
    let files = Files::new();
    fs::write(files.0.join("prose.txt"), "Dear Sir or Madam,\n").unwrap();
    let cases = [
        ("none.pem", "one.key", "2:15: certificates.web.identity.certificate: none.pem does not exist; check the path"),
        ("one.pem", "none.key", "3:7: certificates.web.identity.key: none.key does not exist; check the path"),
        ("prose.txt", "one.key", "2:15: certificates.web.identity.certificate: no certificate in prose.txt"),
        ("one.pem", "prose.txt", "3:7: certificates.web.identity.key: no private key in prose.txt"),
        ("one.key", "one.pem", "2:15: certificates.web.identity.certificate: no certificate in one.key"),
        (
            "one.pem",
            "two.key",
            "3:7: certificates.web.identity.key: the private key in two.key does not belong to the first certificate in one.pem",
        ),
        (".", "one.key", "2:15: certificates.web.identity.certificate: . cannot be read"),
    ];
    for (certificate, key, says) in cases {
        let text = format!("[[certificates.web.identity]]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
        let said = files.wrong(&text);
        assert!(said.starts_with(&format!("hf.toml:{says}")), "should say\n{says}\nsays\n{said}");
    }
    // All files of all sets, whatever else is wrong.
    let set = |name| format!("[[certificates.{name}.identity]]\ncertificate = \"none\"\nkey = \"none\"\n");
    let said = files.wrong(&format!("shard = 1\n{}{}", set("a"), set("b")));
    assert_eq!(said.lines().count(), 3, "{said}");
}

#[test]
fn a_set_is_of_its_identities_and_those_of_a_directory() {
    let files = Files::new();
    let text = "[certificates.default]\ndirectory = \".\"\n[[certificates.default.identity]]\n\
                certificate = \"two.pem\"\nkey = \"two.key\"\n";
    let config = parse_at(text, &files);
    let own = |config: &Config| {
        let identities = config.certificates.as_ref().unwrap().identities().iter();
        identities.map(Identity::fingerprint_sha256).collect::<Vec<_>>()
    };
    // The directory's come after the others, in the order of their names.
    let [first, one, two] = own(&config)[..] else { panic!("{:?}", config.certificates) };
    assert!(first == two && one != two);
    // Later they have expired, each where it is named.
    let late = UnixTime::since_unix_epoch(Duration::from_secs(1 << 40));
    let lines: Vec<usize> = config.warnings(late).iter().map(Finding::line).filter(|line| *line > 0).collect();
    assert_eq!(lines, [2, 2, 4]);
    fs::write(files.0.join("one.ocsp"), b"no response").unwrap();
    for (text, says) in [
        ("[certificates.web]\ndirectory = \"gone\"", "2:13: certificates.web.directory: gone does not exist"),
        ("[certificates.web]\ndirectory = 1", "2:13: certificates.web.directory: `1` does not fit"),
        ("[certificates.web]\ndirectory = \".\"", "2:13: certificates.web.directory: the OCSP response in"),
        (
            &format!("{}ocsp = \"one.ocsp\"", files.set("web")),
            "4:8: certificates.web.identity.ocsp: the OCSP response in",
        ),
    ] {
        let said = files.wrong(text);
        assert!(said.starts_with(&format!("hf.toml:{says}")), "{text}\nshould say\n{says}\nsays\n{said}");
    }
}

#[test]
fn files_that_are_no_configurations() {
    let error = Config::load("/nowhere/hf.toml").unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/hf.toml: does not exist; check the path");
    let files = Files::new();
    let error = Config::load(&files.0).unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
    let noise = files.0.join("noise");
    fs::write(&noise, b"shards = 1\n# \xff\n").unwrap();
    let error = Config::load(&noise).unwrap_err().to_string();
    assert!(error.ends_with("noise:2:3: there are bytes that are not UTF-8; save the file as UTF-8"), "{error}");
    fs::write(&noise, vec![b'#'; (1 << 20) + 1]).unwrap();
    let error = Config::load(&noise).unwrap_err().to_string();
    assert!(error.contains("over 1 MiB"), "{error}");
}

#[test]
fn a_file_says_all_that_the_builder_can_be_told() {
    let files = Files::new();
    let text = format!(
        "shards = 3\nworkers = 2\npin = [0, 1]\nprefer = \"client\"\nfallback = \"chat/1\"\nwithout_alpn = \"refuse\"\n\
         [[listen]]\naddress = \"unix:run/hf.sock\"\nbacklog = 9\ndefer_accept = \"off\"\n[[listen]]\naddress = \":443\"\n\
         [[protocol]]\nid = \"h2\"\ncertificates = \"web\"\ntls_versions = [\"1.3\"]\ntickets = 4\nearly_data = 99\n\
         [[protocol]]\nid = \"chat/1\"\nserve = \"program\"\n{}{}{}",
        files.set("default"),
        files.set("web"),
        files.set("web"),
    );
    let mut config = parse_at(&text, &files);
    assert_eq!((config.shards, config.workers, &config.pin), (Some(3), Placement::Threads(2), &Pin::Cores(vec![0, 1])));
    assert!(matches!(config.policy, Policy::ClientPreference));
    assert_eq!((config.fallback.as_deref(), &config.without_alpn), (Some("chat/1"), &WithoutAlpn::Refuse));
    assert_eq!(config.listen[0].endpoint, Endpoint::Unix(files.0.join("run/hf.sock")));
    assert_eq!((config.listen[0].options.backlog, config.listen[0].options.defer_accept), (9, None));
    assert_eq!(config.listen[1].endpoint, ":443".parse().unwrap());
    let h2 = &config.protocols[0];
    assert_eq!(
        (h2.id.as_str(), h2.serve, h2.versions, h2.tickets, h2.early_data),
        ("h2", Serve::Facts, Some(TlsVersions::Tls13), Some(4), 99)
    );
    assert_eq!(h2.certificates.as_ref().map(|set| (set.name(), set.identities().len())), Some(("web", 2)));
    assert!(
        config.protocols[1].certificates.is_none() && config.certificates.is_some() && !config.lacks_certificates()
    );
    // What the program has to serve, it has to serve.
    let error = config.builder().unwrap_err().to_string();
    assert!(error.contains("hf.toml:20:6: protocol.id: this program does not serve `chat/1` itself"), "{error}");
    config.serve(Protocol::alpn("chat/1").close()).serve(Protocol::alpn("more").close());
    assert_eq!(config.protocols.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["h2", "chat/1", "more"]);
    config.builder().unwrap().check().unwrap();
}

#[test]
fn what_can_be_served_all_the_same_is_a_warning() {
    let files = Files::new();
    let text = format!("{}{}[[protocol]]\nid = \"h2\"\n", files.set("web"), files.set("other"));
    let config = parse_at(&text, &files);
    let warnings = config.warnings(UnixTime::now());
    let said: Vec<String> =
        warnings.iter().map(|f| format!("{}:{} {} {}", f.line(), f.column(), f.key(), f.kind())).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("1:16 certificates.web no protocol uses"), "{said:?}");
    assert!(said[1].starts_with("4:16 certificates.other no protocol uses"), "{said:?}");
    assert!(said[2].starts_with("8:6 protocol.id no certificates here"), "{said:?}");
    // Later the certificates have expired.
    let late = UnixTime::since_unix_epoch(Duration::from_secs(1 << 40));
    let expired = config.warnings(late).into_iter().filter(|f| matches!(f.kind(), FindingKind::IdentityWarning(_)));
    assert_eq!(
        expired.map(|f| (f.line(), f.severity())).collect::<Vec<_>>(),
        [(2, Severity::Warning), (5, Severity::Warning)]
    );
}

#[test]
fn a_failed_self_test_is_a_warning_where_auto_is_chosen() {
    let _there = Machine::Faulty(Kernel::P256Multiples).pretend();
    let shortfall = |config: &Config| {
        let warnings = config.warnings(UnixTime::now()).into_iter();
        let mut said = warnings.filter(|f| matches!(f.kind(), FindingKind::Shortfall(_))).map(|f| f.to_string());
        (said.next(), said.next())
    };
    let why = "warning: crypto: the self-test of batched ECDSA nonces failed: do not trust this CPU or this build; \
               nothing is signed ahead";
    let mut config = parse("presign = true\ncrypto = \"auto\"").unwrap();
    assert_eq!(shortfall(&config), (Some(format!("/nowhere/hf.toml:2:10: {why}")), None));
    config.presign = None;
    assert_eq!(shortfall(&config), (None, None));
    // A program that has no file, or chooses otherwise than its file.
    for (mut config, place) in [(Config::default(), ""), (parse("").unwrap(), "/nowhere/hf.toml: ")] {
        (config.crypto, config.presign) = (Crypto::Auto, Some(true));
        assert_eq!(shortfall(&config), (Some(format!("{place}{why}")), None));
    }
    assert!(wrong("crypto = \"batch\"").contains("the self-test of batched ECDSA nonces failed"));
}

#[test]
fn a_key_that_others_can_read_is_a_warning_where_it_is_named() {
    let files = Files::new();
    fs::set_permissions(files.0.join("one.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let text = format!("{}[[protocol]]\nid = \"h2\"\ncertificates = \"web\"\n", files.set("web"));
    let warnings = parse_at(&text, &files).warnings(UnixTime::now());
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert_eq!((warning.line(), warning.severity()), (2, Severity::Warning));
    assert!(warning.to_string().contains("(mode 0644); run `chmod 600` on it"), "{warning}");
}

#[test]
fn values_are_read_as_they_are_shown() {
    for topic in topics_of(&File::default(), "") {
        assert!(!topic.about.is_empty());
        for key in &topic.keys {
            assert!(key.doc.ends_with('.') && !key.doc.contains("  "), "{}.{}: {}", topic.path, key.name, key.doc);
        }
    }
    for (text, micros) in [("10s", 10_000_000), ("1.5h", 5_400_000_000), ("7us", 7), ("2 m", 120_000_000)] {
        assert_eq!(parse_duration(text), Some(Duration::from_micros(micros)), "{text}");
    }
    for text in ["", "10", "s", "-1s", "10 parsecs", "1e400s", "nans", "infs"] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
}

/// The docs of this repository.
fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

/// Compares a file with what it should end with, or with `HANDFAST_WRITE_DOCS=1` writes it.
fn assert_current(name: &str, begin: &str, current: &str) {
    let text = fs::read_to_string(docs(name)).unwrap_or_default();
    let kept = text.find(begin).map_or(text.as_str(), |at| &text[..at]);
    if std::env::var_os("HANDFAST_WRITE_DOCS").is_some() {
        fs::write(docs(name), format!("{kept}{current}")).unwrap();
    } else {
        assert!(
            text == format!("{kept}{current}"),
            "docs/{name} is not current: run this test with HANDFAST_WRITE_DOCS=1"
        );
    }
}

#[test]
fn the_reference_is_that_of_the_code() {
    let current = reference();
    let begin = current.lines().next().unwrap_or_default().to_owned();
    assert_current("CONFIGURATION.md", &begin, &current);
    assert_current("handfast.toml", "# Every key", &defaults());
}

#[test]
fn what_the_docs_show_can_be_read() {
    let text = fs::read_to_string(docs("CONFIGURATION.md")).unwrap();
    let examples: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty(), "no examples");
    for example in examples {
        // Their files are not here; nothing else may be wrong.
        let findings = parse(example).map_or_else(ConfigError::into_findings, |_| Vec::new());
        let other: Vec<&Finding> = findings.iter().filter(|f| !matches!(f.kind(), FindingKind::Identity(_))).collect();
        assert!(other.is_empty(), "{example}\n{other:?}");
    }
}

/// The words between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn what_the_builder_can_be_told_has_a_key_or_a_reason_and_each_key_its_method() {
    let sources = [
        ("Builder", include_str!("../engine.rs")),
        ("Builder", include_str!("../engine/cryptography.rs")),
        ("Protocol", include_str!("../protocol.rs")),
    ];
    let methods = sources.into_iter().flat_map(|(name, source)| {
        let start = format!("impl {name} {{");
        let block = source.split(&start).nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
        let method = move |line: &str| {
            let method = line.strip_prefix("    pub fn ")?.split(['(', '<']).next()?;
            Some(format!("{name}::{method}"))
        };
        block.lines().filter_map(method).collect::<Vec<_>>()
    });
    // These are told nothing.
    let asking = [
        "Builder::warnings",
        "Builder::check",
        "Builder::start",
        "Builder::batch",
        "Builder::shortfall",
        "Protocol::destination",
    ];
    let methods: Vec<String> = methods.filter(|method| !asking.contains(&method.as_str())).collect();
    assert!(methods.len() > 30, "{methods:?}");

    let text = fs::read_to_string(docs("CONFIGURATION.md")).unwrap();
    let table = text.split("## The builder").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().filter(|l| l.starts_with("| `")).map(|l| l.split('|').collect()).collect();
    let documented: Vec<&str> = rows.iter().flat_map(|row| quoted(row[1])).collect();
    for method in &methods {
        assert!(documented.contains(&method.as_str()), "docs/CONFIGURATION.md has no key for {method}, and no reason");
    }
    for method in documented {
        assert!(methods.iter().any(|m| m == method), "docs/CONFIGURATION.md has {method}, which there is not");
    }
    let topics = topics_of(&File::default(), "");
    let topics = topics.iter().filter(|topic| ["", "protocol"].contains(&topic.path.as_str()));
    let keys: Vec<String> =
        topics.flat_map(|topic| topic.keys.iter().map(|k| table::join(&topic.path, k.name))).collect();
    let named: Vec<&str> = rows.iter().flat_map(|row| quoted(row[2])).collect();
    for key in &keys {
        assert!(named.contains(&key.as_str()), "docs/CONFIGURATION.md has no method for the key {key}");
    }
    for key in named {
        assert!(keys.iter().any(|k| k == key), "docs/CONFIGURATION.md names the key {key}, which there is not");
    }
}

fn any_line() -> impl Strategy<Value = String> {
    let topics: Vec<Topic> = topics_of(&File::default(), "");
    let names: Vec<&str> = topics.iter().flat_map(|t| t.keys.iter().map(|k| k.name)).collect();
    let headers: Vec<String> =
        topics.iter().flat_map(|t| [format!("[{}]", t.path), format!("[[{}]]", t.path)]).collect();
    let values = [
        "1",
        "-1",
        "\"10s\"",
        "\"64KiB\"",
        "\"off\"",
        "[]",
        "[1, \"a\"]",
        "{}",
        "{ a = 1 }",
        "1.5",
        "inf",
        "true",
        "1979-05-27",
        "\"\\u0000\"",
        "'''a\nb'''",
        "99999999999999999999",
        "0x1f",
        "\"\"",
    ];
    prop_oneof![
        (prop::sample::select(names), prop::sample::select(values.to_vec())).prop_map(|(k, v)| format!("{k} = {v}")),
        prop::sample::select(headers),
        ".{0,12}",
    ]
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = parse(&text).map_err(|e| e.to_string());
    }

    #[test]
    fn no_mix_of_keys_and_values_panics(lines in prop::collection::vec(any_line(), 0..12)) {
        let said = parse(&lines.join("\n")).map_err(|e| e.to_string());
        // Each finding has a place in the file.
        for line in said.err().iter().flat_map(|said| said.lines()) {
            prop_assert!(line.starts_with("/nowhere/hf.toml:"), "{line}");
        }
    }
}
