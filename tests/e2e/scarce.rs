//! Local ports and descriptors that are few, and what the load generator makes of them.

use std::process::Command;

use handfast_tests::binaries::handfast_load;
use handfast_tests::peers::{Peer, full, skipped};
use handfast_tests::process::{Ended, Scratch, run};
use serde_json::{Value, json};

use crate::server::Localhost;

/// Serves connections that stay.
const STAYING: [&str; 4] = ["--protocol", "echo", "--without-alpn", "echo"];

/// The load generator behind a shell that does `first`.
fn load_after(shell: &[&str], first: &str, args: &[&str]) -> Command {
    let [program, options @ ..] = shell else { panic!("no shell") };
    let mut command = Command::new(program);
    command.args(options).arg("-c").arg(format!("{first} && exec \"$@\"")).arg("sh");
    command.arg(handfast_load().get_program()).args(args);
    command
}

fn figures(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended}"))
}

/// Sixteen local ports for each address, in a network of its own.
const SIXTEEN_PORTS: &str = "ip link set lo up && echo 40000 40015 > /proc/sys/net/ipv4/ip_local_port_range";

#[test]
fn ports_that_run_out_make_a_run_invalid_and_more_addresses_mend_it() {
    let shell = ["unshare", "--net", "sh"];
    let may = Command::new(shell[0]).args(&shell[1..]).args(["-c", SIXTEEN_PORTS]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        skipped(&"this user may not make a network of its own");
        return;
    }
    let args = ["--count", "200", "--connections", "64", "--json", "--quiet"];
    let one = [&args[..], &["--source", "127.0.0.1"]].concat();
    let ended = run(&mut load_after(&shell, SIXTEEN_PORTS, &one));
    let short = figures(&ended);
    assert_eq!((ended.code(), &short["valid"]), (1, &json!(false)), "{ended}");
    assert!(short["errors"]["no_ports"].as_u64() > Some(0), "{short}");
    assert!(ended.stderr.contains("--source 127.0.0.0/24"), "{ended}");

    let ended = run(&mut load_after(&shell, SIXTEEN_PORTS, &[&args[..], &["--source", "127.0.0.0/24"]].concat()));
    let enough = figures(&ended);
    assert_eq!((ended.code(), &enough["valid"], &enough["errors"]), (0, &json!(true), &json!({})), "{ended}");
    assert_eq!(enough["handshakes"], 200, "{enough}");
}

#[test]
fn an_address_of_our_own_leaves_the_port_to_connect() {
    let Some(strace) = Peer::Strace.installed() else { return };
    let server = Localhost::start(&["--close"]);
    let (scratch, target) = (Scratch::new(), server.addr().to_string());
    let account = scratch.path("strace.txt");
    let mut command = strace.command();
    command.args(["-f", "-e", "trace=setsockopt", "-o"]).arg(&account).arg("--");
    command.arg(handfast_load().get_program()).args([&target, "--count", "20", "--source", "127.0.0.0/29", "-q"]);
    let ended = run(&mut command);
    assert_eq!(ended.code(), 0, "{ended}");
    let account = std::fs::read_to_string(&account).expect("strace's account");
    let count = |part: &str| account.lines().filter(|line| line.contains(part)).count();
    assert_eq!(count("IP_BIND_ADDRESS_NO_PORT, [1]"), 20, "{account}");
}

#[test]
fn the_limit_of_open_files_is_raised_to_the_hard_one_or_explained() {
    let server = Localhost::start(&STAYING);
    let target = server.addr().to_string();
    let args = ["hold", &target, "--alpn", "none", "--connections", "400", "--duration", "3s", "--json", "--quiet"];
    let ended = run(&mut load_after(&["sh"], "ulimit -Sn 128", &args));
    assert_eq!((ended.code(), &figures(&ended)["held"]), (0, &json!(400)), "{ended}");
    let ended = run(&mut load_after(&["sh"], "ulimit -n 128", &args));
    assert_eq!(ended.code(), 2, "{ended}");
    assert!(ended.stderr.contains("400") && ended.stderr.contains("ulimit -n"), "{ended}");
}

#[test]
fn eighteen_thousand_connections_are_held_from_one_process() {
    if !full() {
        skipped(&"eighteen thousand connections are for ./scripts/test --full");
        return;
    }
    let limit = handfast::transport::tcp::raise_descriptor_limit().unwrap_or(u64::MAX);
    if limit < 18_200 {
        skipped(&format!("18,200 open files, of which {limit} are allowed"));
        return;
    }
    let server = Localhost::start(&STAYING);
    let target = server.addr().to_string();
    let args = ["hold", &target, "--alpn", "none", "--connections", "18000", "--duration", "30s", "--json", "--quiet"];
    let ended = run(handfast_load().args(args));
    let held = figures(&ended);
    assert_eq!((ended.code(), &held["held"], &held["lost"]), (0, &json!(18_000), &json!(0)), "{ended}");
    assert!(held["idle_s"].as_f64().is_some_and(|s| s > 5.0), "{held}");
}
