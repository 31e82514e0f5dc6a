//! What the load generator counts, against what other people's servers count.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;

use handfast_tests::binaries::handfast_load;
use handfast_tests::certificates::make;
use handfast_tests::peers::Peer;
use handfast_tests::process::{BOUND, Pipe, Process, Scratch, Signal};
use serde_json::{Value, json};

use crate::measuring::good_load;
use crate::server::{Files, text, until};
use crate::servers::{Foreign, Nginx, get, nginx_with, s_server};

const HANDSHAKES: u64 = 200;
const LOAD: [&str; 6] = ["--then", "http", "--count", "200", "--connections", "8"];

/// nginx that takes early data, and writes a line for each request: whether the session was resumed (`r`), and whether
/// the request was answered before the handshake was over (`1`).
fn logging_nginx() -> Option<(Nginx, impl Fn(&Nginx) -> Vec<String>)> {
    let nginx = nginx_with(|dir, addr, plain, files| {
        let (cert, key) = (files.cert(), files.key());
        format!(
            "daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr;
             events {{ worker_connections 512; }}
             http {{
                 log_format sessions '$ssl_session_reused$ssl_early_data'; access_log {dir}/access.log sessions;
                 client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir};
                 scgi_temp_path {dir};
                 server {{
                     listen {addr} ssl; ssl_certificate {cert}; ssl_certificate_key {key};
                     ssl_protocols TLSv1.2 TLSv1.3; ssl_early_data on;
                     location / {{ return 200 ok; }}
                 }}
                 server {{ listen {plain}; }}
             }}"
        )
    })?;
    let lines = |nginx: &Nginx| {
        let log = fs::read_to_string(nginx.tls.scratch.path("access.log")).expect("its log");
        log.lines().map(str::to_owned).collect()
    };
    Some((nginx, lines))
}

fn count_of(figures: &Value, field: &str) -> u64 {
    figures.pointer(field).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {field} in {figures}"))
}

#[test]
fn nginx_counts_the_same_handshakes_and_half_of_them_resumed() {
    let Some((nginx, lines)) = logging_nginx() else { return };
    let (figures, handshakes) =
        good_load(&[&[nginx.tls.target().as_str(), "--alpn", "none", "--resume", "0.5"][..], &LOAD].concat());
    // It writes a line when it has closed, which may be after we have.
    until("its log", || lines(&nginx).len() as u64 >= HANDSHAKES);
    let lines = lines(&nginx);
    let resumed = lines.iter().filter(|line| line.starts_with('r')).count() as u64;
    assert_eq!((handshakes, lines.len() as u64), (HANDSHAKES, HANDSHAKES), "{figures}");
    assert_eq!((count_of(&figures, "/resumed"), resumed), (HANDSHAKES / 2, HANDSHAKES / 2), "{figures}");
}

#[test]
fn nginx_counts_the_same_handshakes_in_a_run_that_ends_by_time() {
    let Some((nginx, lines)) = logging_nginx() else { return };
    let target = nginx.tls.target();
    let timed = ["--alpn", "none", "--then", "http", "--duration", "1s", "--warm-up", "300ms", "--connections", "16"];
    let (figures, counted) = good_load(&[&[target.as_str()][..], &timed].concat());
    let all = count_of(&figures, "/handshakes_all");
    assert!(0 < counted && counted < all, "those of the warm-up are counted apart: {figures}");
    until("its log", || lines(&nginx).len() as u64 >= all);
    assert_eq!((lines(&nginx).len() as u64, count_of(&figures, "/unfinished")), (all, 0), "{figures}");
}

#[test]
fn early_data_that_nginx_accepts_is_counted_timed_apart_and_answered() {
    let Some((nginx, lines)) = logging_nginx() else { return };
    let target = nginx.tls.target();
    let (figures, handshakes) = good_load(&[&[target.as_str(), "--resume", "--early-data"][..], &LOAD].concat());
    let resumed = count_of(&figures, "/resumed");
    assert!(handshakes == HANDSHAKES && resumed > HANDSHAKES / 2, "{figures}");
    assert_eq!(figures["early_data"], json!({"offered": resumed, "accepted": resumed, "rejected": 0}), "{figures}");
    assert_eq!(figures["statuses"], json!({"200": HANDSHAKES}), "each request was answered once: {figures}");
    until("its log", || lines(&nginx).len() as u64 >= HANDSHAKES);
    let seen = lines(&nginx);
    assert_eq!(seen.iter().filter(|line| line.starts_with('r')).count() as u64, resumed, "{figures}");
    assert!(seen.iter().any(|line| line == "r1"), "none was answered before its handshake was over: {seen:?}");
    let sorts = figures["sorts"].as_array().expect("sorts");
    let early = sorts.iter().find(|sort| sort["early_data"] == "accepted").expect("their latencies");
    assert_eq!(early["handshakes"], resumed, "{figures}");

    let (figures, _) = good_load(&[&[target.as_str(), "--resume", "--early-data", "0.25"][..], &LOAD].concat());
    let (resumed, offered) = (count_of(&figures, "/resumed"), count_of(&figures, "/early_data/offered"));
    assert!(offered.abs_diff(resumed / 4) <= 1, "{figures}");
}

#[test]
fn early_data_that_a_server_rejects_is_sent_again() {
    // It says that it takes early data, and does not.
    let Some(server) = s_server(&["-www", "-max_early_data", "16384"]) else { return };
    let args = [&server.target(), "--resume", "--early-data", "--then", "http", "--count", "40", "--connections", "2"];
    let (figures, _) = good_load(&args);
    let resumed = count_of(&figures, "/resumed");
    assert_eq!(figures["early_data"], json!({"offered": resumed, "accepted": 0, "rejected": resumed}), "{figures}");
    assert!(resumed >= 30, "{figures}");
    assert_eq!(figures["statuses"], json!({"200": 40}), "{figures}");
}

#[test]
fn early_data_of_which_a_session_allows_only_a_part_is_sent_in_two_parts() {
    let Some(mut server) = s_server(&["-early_data", "-max_early_data", "20", "-recv_max_early_data", "20"]) else {
        return;
    };
    let mut load = handfast_load();
    load.args([&server.target(), "--resume", "--early-data", "--then", "http", "--path", "/in/two/parts"]);
    let load = Process::start(load.args(["--count", "3", "--connections", "1", "--json", "--quiet"]));
    for answers in 1..=3 {
        let asked = |text: &str| (text.matches("Connection: close\r\n\r\n").count() >= answers).then_some(());
        server.process.wait_for("the end of a request", Pipe::Stdout, asked);
        server.process.input(b"HTTP/1.1 200 OK\n");
    }
    let ended = load.end();
    let figures: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}"));
    assert_eq!(ended.code(), 0, "{ended}");
    assert_eq!(figures["early_data"], json!({"offered": 2, "accepted": 2, "rejected": 0}), "{figures}");
    let said = server.process.written(Pipe::Stdout);
    assert_eq!(said.matches("\nTP/1.1\r\n").count(), 2, "the rest of two requests: {said}");
}

#[test]
fn s_server_counts_the_same_handshakes_and_half_of_them_resumed() {
    let Some(server) = s_server(&["-www"]) else { return };
    let args = [&server.target(), "--alpn", "none", "--resume", "0.5", "--then", "http", "--count", "100"];
    let (figures, handshakes) = good_load(&[&args[..], &["--connections", "2"]].concat());
    assert_eq!((handshakes, count_of(&figures, "/resumed")), (100, 50), "{figures}");
    // Its page has its counters, and asking for it is one more handshake.
    let mut connection = server.trusting().build().expect("a client").connect(&server.target()).expect("a connection");
    let page = get(&mut connection);
    let counter = |name: &str| {
        let line = page.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name} in {page}"));
        line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).expect("a number")
    };
    assert_eq!((counter("server accepts that finished"), counter("session cache hits")), (101, 50), "{page}");
}

/// HAProxy, which counts requests, and those in resumed sessions.
fn haproxy() -> Option<Foreign> {
    let haproxy = Peer::HaProxy.installed()?;
    // It cannot tell us which free port it took; so we take one and give it up, and somebody else may be faster.
    for _ in 0..10 {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = free.local_addr().expect("an address");
        let scratch = Scratch::new();
        let files = Files::new(&scratch, "haproxy", make(&["localhost", "127.0.0.1"]));
        let config = scratch.file("haproxy.cfg", haproxy_config(&scratch, addr, &files));
        drop(free);
        let process = Process::start(haproxy.command().args(["-db", "-f", text(&config)]));
        let listens = || UnixStream::connect(scratch.path("stats")).is_ok();
        until("haproxy", || listens() || process.has_ended());
        if !process.has_ended() {
            return Some(Foreign { process, addr, files, scratch });
        }
        let ended = process.end();
        assert!(ended.stderr.contains("Address already in use"), "{ended}");
    }
    panic!("haproxy finds no free port");
}

fn haproxy_config(scratch: &Scratch, addr: SocketAddr, files: &Files) -> String {
    let both = scratch.file("both.pem", format!("{}{}", files.made.pem, files.made.key_pem));
    format!(
        "global
             stats socket {} mode 600
         defaults
             mode http
             timeout client 10s
             timeout connect 5s
             timeout server 5s
             option http-ignore-probes
         frontend tls
             bind {addr} ssl crt {} alpn h2,http/1.1 allow-0rtt ssl-min-ver TLSv1.2
             stick-table type integer size 10 store gpc0,gpc1
             http-request track-sc0 int(1)
             http-request sc-inc-gpc0(0)
             http-request sc-inc-gpc1(0) if {{ ssl_fc_is_resumed }}
             http-request return status 200 content-type text/plain string ok
",
        text(&scratch.path("stats")),
        text(&both)
    )
}

/// The number behind `name` in HAProxy's answer to `question`.
fn haproxy_says(server: &Foreign, question: &str, name: &str) -> u64 {
    let mut stats = UnixStream::connect(server.scratch.path("stats")).expect("its socket");
    stats.set_read_timeout(Some(BOUND)).expect("a time limit");
    writeln!(stats, "{question}").expect("asked");
    let mut answer = String::new();
    stats.read_to_string(&mut answer).expect("an answer");
    let value = answer.split_once(name).and_then(|(_, rest)| rest.split_whitespace().next());
    value.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no {name} in {answer}"))
}

#[test]
fn haproxy_counts_the_same_handshakes_and_half_of_them_resumed() {
    let Some(server) = haproxy() else { return };
    let target = server.target();
    let connections = || haproxy_says(&server, "show info", "CumSslConns: ");
    for (tls, runs) in [("1.2", 1), ("1.3", 2)] {
        let how = [target.as_str(), "--tls", tls, "--resume", "0.5", "--ca", server.files.cert()];
        let (figures, handshakes) = good_load(&[&how[..], &LOAD].concat());
        assert_eq!((handshakes, count_of(&figures, "/resumed")), (HANDSHAKES, HANDSHAKES / 2), "{figures}");
        assert_eq!(figures["negotiated"], json!({"h2": HANDSHAKES}), "{figures}");
        let counted = ["gpc0=", "gpc1="].map(|name| haproxy_says(&server, "show table tls", name));
        assert_eq!(counted, [runs * HANDSHAKES, runs * HANDSHAKES / 2], "{figures}");
        assert_eq!(connections(), runs * HANDSHAKES, "{figures}");
    }
    let (figures, handshakes) = good_load(&[&target, "--count", "150", "--connections", "8"]);
    assert_eq!(connections(), 2 * HANDSHAKES + handshakes, "{figures}");
}

#[test]
fn haproxy_accepts_early_data() {
    let Some(server) = haproxy() else { return };
    let (figures, _) = good_load(&[&[server.target().as_str(), "--resume", "--early-data"][..], &LOAD].concat());
    let resumed = count_of(&figures, "/resumed");
    assert_eq!(figures["early_data"], json!({"offered": resumed, "accepted": resumed, "rejected": 0}), "{figures}");
    assert_eq!(figures["statuses"], json!({"200": HANDSHAKES}), "{figures}");
}

#[test]
fn a_held_connection_answers_key_updates_and_close_notify() {
    for (server_ends, duration) in [(false, "50s"), (true, "3s")] {
        let Some(mut server) = s_server(&["-msg", "-tls1_3"]) else { return };
        let mut load = handfast_load();
        load.args(["hold", &server.target(), "--connections", "1", "--duration", duration, "--json", "--quiet"]);
        let mut load = Process::start(&mut load);
        server.process.wait_for_text("CIPHER is");
        let heard = |text: &str, what: &str| text.lines().filter(|l| l.starts_with("<<<") && l.ends_with(what)).count();
        for updates in 1..=2 {
            // Asks for a new key, and tells of its own.
            server.process.input(b"K\n");
            let answered = |text: &str| (heard(text, "KeyUpdate") >= updates).then_some(());
            server.process.wait_for("the answer", Pipe::Stdout, answered);
        }
        if server_ends {
            server.process.input(b"q\n");
        } else {
            load.signal(Signal::INT);
        }
        if server_ends {
            // It does not wait for an answer; that there is one, a test of the load generator's own has to say.
            server.process.wait_for_text("shutting down SSL");
        } else {
            // Under the new keys: under others it would not be understood.
            let closed = |text: &str| (heard(text, "close_notify") > 0).then_some(());
            server.process.wait_for("close_notify", Pipe::Stdout, closed);
        }
        let ended = load.end();
        let figures: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}"));
        let lost = u64::from(server_ends);
        assert_eq!((&figures["held"], &figures["lost"]), (&json!(1 - lost), &json!(lost)), "{ended}");
    }
}
