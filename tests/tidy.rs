//! Keeps the house: what the design forbids is looked for in the sources.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every Rust file under `dir`, with its path from the workspace's root.
fn sources(dir: &str) -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(dir), &mut found);
    assert!(!found.is_empty(), "no sources under {dir}");
    let name = |p: &Path| p.strip_prefix(root()).expect("under the root").to_string_lossy().into_owned();
    found.iter().map(|p| (name(p), fs::read_to_string(p).expect("a source"))).collect()
}

/// The code without comments and without what follows `#[cfg(test)]`, which ends each file that has it.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_handshake_knows_no_clock_no_socket_and_no_randomness() {
    let forbidden = ["Instant::now", "SystemTime", "std::net::Tcp", "mio::", "rustix::", "thread_rng", "rand::"];
    for dir in ["engine/src/handshake", "engine/src/selection", "engine/src/identity"] {
        for (name, text) in sources(dir).iter().filter(|(name, _)| !name.ends_with("tests.rs")) {
            for word in forbidden {
                assert!(!code(text).contains(word), "{name} uses {word}");
            }
        }
    }
}

#[test]
fn only_transports_have_a_clock() {
    for (name, text) in sources("engine/src") {
        // hyper's timer is defined in terms of the standard library's clock, and the blocking client has its own.
        let outside = ["/transport/", "/client/", "/worker/hyper_io.rs"].iter().any(|part| name.contains(part));
        let allowed = outside || name.ends_with("tests.rs");
        assert!(allowed || !code(&text).contains("Instant::now"), "{name} asks for the time itself");
    }
}

#[test]
fn modules_look_down_only() {
    // Each directory with what it must not know; `handshake::hello` alone is a leaf that selection reads.
    let upward = [
        (
            "transport",
            &["crate::shard", "crate::handshake", "crate::selection", "crate::identity", "crate::engine"][..],
        ),
        ("handshake", &["crate::transport", "crate::shard", "crate::engine", "crate::worker"]),
        ("selection", &["crate::shard", "crate::transport", "crate::engine", "crate::handshake::Live"]),
        ("identity", &["crate::shard", "crate::transport", "crate::engine", "crate::handshake", "crate::selection"]),
        ("crypto", &["crate::shard", "crate::transport", "crate::engine", "crate::selection", "crate::identity"]),
        ("shard", &["crate::engine", "crate::worker", "crate::websocket"]),
        ("websocket", &["crate::engine", "crate::worker", "crate::client", "crate::transport", "crate::protocol"]),
        ("worker", &["crate::engine", "crate::transport::tcp"]),
        ("interop", &["crate::engine", "crate::worker", "crate::client", "crate::transport::tcp"]),
        ("client", &["crate::engine", "crate::worker", "crate::interop", "crate::shard", "crate::transport"]),
    ];
    for (module, forbidden) in upward {
        for (name, text) in sources(&format!("engine/src/{module}")) {
            for word in forbidden {
                assert!(!code(&text).contains(word), "{name} looks up to {word}");
            }
        }
    }
    // A stream over any I/O knows the session and no more.
    let text = fs::read_to_string(root().join("engine/src/tls_stream.rs")).expect("a source");
    for word in ["crate::shard", "crate::transport", "crate::engine", "crate::client", "crate::interop"] {
        assert!(!code(&text).contains(word), "tls_stream.rs looks up to {word}");
    }
}

#[test]
fn nothing_is_left_lying_about() {
    let marks = [concat!("dbg", "!("), concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME")];
    for dir in ["engine", "loadgen/src", "bench", "tests"] {
        for (name, text) in sources(dir) {
            for mark in marks {
                assert!(!text.contains(mark), "{name} has {mark}");
            }
        }
    }
}

#[test]
fn unsafe_stays_where_the_design_allows_it() {
    for (name, text) in sources("engine/src") {
        let allowed = name.starts_with("engine/src/crypto/batch/");
        assert!(allowed || !code(&text).contains(concat!("uns", "afe ")), "{name} is not among the modules that may");
    }
}

#[test]
fn every_limit_says_what_happens_when_it_is_met() {
    let text = fs::read_to_string(root().join("engine/src/limits.rs")).expect("the limits");
    let fields = text.split("pub struct Limits {").nth(1).and_then(|t| t.split("\n}").next()).expect("the struct");
    let mut docs = String::new();
    let mut limits = 0;
    for line in fields.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push_str(doc);
        } else if line.starts_with("pub ") {
            assert!(docs.contains("Met:"), "{line} does not say what happens when it is met");
            docs.clear();
            limits += 1;
        }
    }
    assert!(limits > 8, "only {limits} limits found");
}

/// The fields of a struct in `text`.
fn fields(text: &str, name: &str) -> Vec<String> {
    let body = text.split(&format!("pub struct {name} {{")).nth(1).and_then(|t| t.split("\n}").next());
    let names = body.expect("the struct").lines().filter_map(|l| l.trim().strip_prefix("pub ")?.split(':').next());
    names.map(str::to_owned).collect()
}

#[test]
fn every_limit_has_a_counter_and_a_test() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file");
    let (limits, docs) = (read("engine/src/limits.rs"), read("docs/ARCHITECTURE.md"));
    let counters = read("engine/src/metrics.rs") + &read("engine/src/error.rs");
    // What is listed there runs over sockets and over the simulator.
    let worlds = read("tests/behaviour/main.rs");
    let tests: String = ["tests", "engine/tests"].iter().flat_map(|dir| sources(dir)).map(|(_, text)| text).collect();
    let all = fields(&limits, "Limits").into_iter().filter(|f| f != "source").chain(
        fields(&limits, "SourceLimits").into_iter().filter(|f| !f.starts_with("prefix")).map(|f| format!("source.{f}")),
    );
    let mut found = 0;
    for limit in all {
        let mut rows = docs.lines().filter(|l| l.starts_with(&format!("| `{limit}` |"))).map(|l| l.split('|'));
        // A WebSocket option of the same name has a shorter row.
        let row = rows.find(|row| row.clone().count() == 7).unwrap_or_else(|| panic!("no row for {limit}"));
        let cells: Vec<_> = row.map(str::trim).collect();
        let named = |cell: usize| cells[cell].trim_matches('`').to_owned();
        let (counter, test) = (named(4), named(5));
        let counted = counters.contains(&format!("    {counter},")) || counters.contains(&format!("\"{counter}\""));
        assert!(counted, "{limit} has no counter `{counter}`");
        assert!(tests.contains(&format!("fn {test}")), "{limit} has no test `{test}`");
        assert!(worlds.contains(&format!("        {test}")), "`{test}` of {limit} does not run in both worlds");
        found += 1;
    }
    assert!(found > 15, "only {found} limits found");
}

#[test]
fn files_have_one_reason_to_change() {
    for dir in ["engine/src", "loadgen/src", "bench/src", "tests"] {
        for (name, text) in sources(dir) {
            let lines = text.lines().count();
            assert!(lines <= 700, "{name} has {lines} lines");
        }
    }
}
