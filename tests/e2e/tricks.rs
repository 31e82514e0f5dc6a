//! What each trick of the load generator changes in the system calls that it makes.

use handfast_tests::binaries::handfast_load;
use handfast_tests::peers::Peer;
use handfast_tests::process::{Scratch, run};
use serde_json::{Value, json};

use crate::server::Localhost;

const HANDSHAKES: usize = 40;

/// What was seen of connections, as counts.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Those whose SYN-ACK waits for data before it is acknowledged.
    quick_ack_off: usize,
    /// Those whose first write came before the poller was asked anything.
    hello_at_once: usize,
    /// Writes that wait for a FIN.
    more: usize,
}

/// Runs a count of handshakes under strace, and reads its account of the one client thread.
fn seen(strace: &handfast_tests::peers::Program, options: &[&str]) -> (Seen, Value, String) {
    let server = Localhost::start(&["--close", "--tickets", "1"]);
    let (scratch, target) = (Scratch::new(), server.addr().to_string());
    let account = scratch.path("strace.txt");
    let mut command = strace.command();
    command.args([
        "-f",
        "-s",
        "1",
        "-e",
        "trace=connect,setsockopt,sendto,sendmsg,epoll_wait,epoll_pwait,epoll_pwait2",
    ]);
    command.arg("-o").arg(&account).arg("--").arg(handfast_load().get_program());
    command.args([&target, "--count", &HANDSHAKES.to_string(), "--connections", "4", "--shards", "1", "--tls", "1.3"]);
    let ended = run(command.args(["--json", "--quiet"]).args(options));
    let figures: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}"));
    assert_eq!((ended.code(), &figures["handshakes"]), (0, &json!(HANDSHAKES)), "{ended}");
    let text = std::fs::read_to_string(&account).expect("strace's account");
    let calls: Vec<&str> = text.lines().filter_map(|l| Some(l.trim_start().split_once(' ')?.1.trim_start())).collect();
    let port = format!("htons({})", server.addr().port());
    let connects: Vec<usize> =
        (0..calls.len()).filter(|i| calls[*i].starts_with("connect(") && calls[*i].contains(&port)).collect();
    assert_eq!(connects.len(), HANDSHAKES, "{text}");
    // The call behind connect, if it is a write to the same descriptor, is the ClientHello that did not wait.
    let at_once = |connect: &&usize| {
        let descriptor = calls[**connect].trim_start_matches("connect(").split(',').next().unwrap_or_default();
        calls
            .get(**connect + 1)
            .is_some_and(|next| next.starts_with("send") && next.contains(&format!("({descriptor},")))
    };
    let count = |part: &str| calls.iter().filter(|call| call.contains(part)).count();
    let seen = Seen {
        quick_ack_off: count("TCP_QUICKACK, [0]"),
        hello_at_once: connects.iter().filter(at_once).count(),
        more: count("MSG_MORE"),
    };
    (seen, figures, text)
}

#[test]
fn each_trick_is_an_option_that_changes_the_system_calls() {
    let Some(strace) = Peer::Strace.installed() else { return };
    let all = ["ack-with-hello", "hello-at-once", "fin-with-last"];
    let cases: [(&[&str], &[&str]); 5] = [
        (&[], &all),
        (&["--tricks", "none"], &[]),
        (&["--tricks", "ack-with-hello"], &all[..1]),
        (&["--tricks", "hello-at-once"], &all[1..2]),
        (&["--tricks", "fin-with-last"], &all[2..]),
    ];
    for (options, in_force) in cases {
        let (seen, figures, text) = seen(&strace, options);
        assert_eq!(figures["tricks"], json!(in_force), "{figures}");
        let times = |trick: &str| if in_force.contains(&trick) { HANDSHAKES } else { 0 };
        let expected = Seen { quick_ack_off: times(all[0]), hello_at_once: times(all[1]), more: times(all[2]) };
        assert_eq!(seen, expected, "{options:?}: {text}");
    }
}

#[test]
fn the_table_and_the_page_name_the_tricks_in_force() {
    let server = Localhost::start(&["--close"]);
    let (scratch, target) = (Scratch::new(), server.addr().to_string());
    let page = scratch.path("page.html");
    for (options, tricks, crypto) in [
        (&["--crypto", "aws-lc"][..], "ack-with-hello, hello-at-once, fin-with-last", "aws-lc"),
        (&["--tricks", "none", "--crypto", "aws-lc"], "none", "aws-lc"),
    ] {
        let mut command = handfast_load();
        let ended = run(command.args([&target, "--count", "10", "--quiet", "--html"]).arg(&page).args(options));
        assert_eq!(ended.code(), 0, "{ended}");
        for line in [format!("  tricks         {tricks}\n"), format!("  crypto         {crypto}\n")] {
            assert!(ended.stdout.contains(&line), "{line}{ended}");
        }
        let page = std::fs::read_to_string(&page).expect("the page");
        assert!(page.contains(&format!("<th>Client's tricks</th><td><code>{tricks}</code>")), "{page}");
        assert!(page.contains(&format!("<th>Client's crypto</th><td><code>{crypto}</code>")), "{page}");
    }
}
