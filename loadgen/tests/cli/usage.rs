//! Wrong usage: exit status 2, and a text that says what to write instead.

use crate::run;

#[track_caller]
fn refused(args: &[&str], says: &str) {
    let run = run(args);
    assert_eq!(run.status, 2, "{args:?}: {}", run.stderr);
    assert!(run.stderr.contains(says), "{args:?}: {}", run.stderr);
    assert!(run.stdout.is_empty(), "{}", run.stdout);
}

#[test]
fn targets() {
    refused(&["localhost"], "localhost:443");
    refused(&["localhost:https"], "port");
    refused(&["::1:443"], "brackets");
    // No resolver is asked for a name that cannot exist.
    refused(&["a..b:443", "-q"], "cannot find the host `a..b`");
}

#[test]
fn numbers_and_durations() {
    refused(&["a:1", "--duration", "ten"], "10s, 500ms or 2m");
    refused(&["a:1", "--duration", "10"], "the unit is missing");
    refused(&["a:1", "--duration", "0s"], "longer than 0");
    refused(&["a:1", "--connections", "0"], "0 is not in 1..");
    refused(&["a:1", "--connections", "1000000"], "ulimit -n");
    refused(&["a:1", "--count", "5", "--duration", "1s"], "cannot be used with");
    refused(&["a:1", "--alpn", "h2,h2"], "twice");
    refused(&["a:1", "--groups", "p999"], "x25519mlkem768");
    refused(&["a:1", "--rate", "0"], "above 0");
    refused(&["a:1", "--stages", "30s"], "30s@100,1m@500");
    refused(&["a:1", "--resume", "2"], "--resume 0.8");
    refused(&["--resume", "a:1"], "the target before --resume");
    refused(&["a:1", "--arrivals", "constant"], "--rate R or --stages LIST");
    refused(&["a:1", "--suites", "RC4"], "TLS_AES_128_GCM_SHA256");
    refused(&["a:1", "--alpn", "h2=x"], "no weight");
    refused(&["--then", "http"], "handfast serve");
    refused(&["a:1", "--source", "localhost"], "127.0.0.0/24");
    refused(&["127.0.0.1:1", "--source", "192.0.2.1"], "addresses of this machine");
    refused(&["127.0.0.1:1", "--sni", "@/nonexistent/names"], "/nonexistent/names");
    refused(&["127.0.0.1:1", "--client-cert", "/nonexistent/c.pem", "--client-key", "k"], "/nonexistent/c.pem");
}

#[test]
fn files_processes_and_cpus() {
    refused(&["127.0.0.1:1", "--ca", "/nonexistent/ca.pem"], "/nonexistent/ca.pem");
    let empty = std::env::temp_dir().join(format!("handfast-load-{}-empty.pem", std::process::id()));
    std::fs::write(&empty, "no certificate here\n").unwrap();
    refused(&["127.0.0.1:1", "--ca", empty.to_str().unwrap()], "no usable certificate");
    let _ = std::fs::remove_file(&empty);
    refused(&["127.0.0.1:1", "--server-pid", "4294967295"], "no such process");
    refused(&["--server-pid", "1"], "--server-pid");
    if cfg!(target_os = "linux") {
        refused(&["127.0.0.1:1", "--pin-client", "1000"], "choose one of them");
    }
}

#[test]
fn help_opens_with_examples() {
    let run = run(&["--help"]);
    assert_eq!(run.status, 0);
    assert!(run.stdout.starts_with("Examples:\n  handfast-load\n"), "{}", run.stdout);
}
