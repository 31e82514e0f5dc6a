//! `handfast serve` as a child process.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use handfast_tests::binaries::handfast;
use handfast_tests::certificates::{Made, make};
use handfast_tests::process::{BOUND, Ended, Pipe, Process, Scratch, Signal};

/// A running server.
pub(crate) struct Server {
    process: Process,
    endpoints: Vec<String>,
}

impl Server {
    /// `handfast serve` with these arguments, once it listens everywhere.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::with_shards("1", args)
    }

    /// The same with so many shards.
    pub(crate) fn with_shards(shards: &str, args: &[&str]) -> Self {
        let process = Process::start(handfast().args(["serve", "--shards", shards, "--no-pin"]).args(args));
        let expected = args.iter().filter(|&&a| a == "--listen").count().max(1);
        let endpoints = process.wait_for("line for each listener", Pipe::Stdout, |text| {
            let found: Vec<String> = text
                .split_inclusive('\n')
                .filter_map(|l| l.strip_suffix('\n')?.strip_prefix("handfast: listening on "))
                .map(str::to_owned)
                .collect();
            (found.len() == expected).then_some(found)
        });
        Self { process, endpoints }
    }

    /// Where it listens, as it says.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Its only TCP address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.endpoints[0].parse().expect("a TCP address")
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(self) -> Ended {
        self.process.end()
    }

    /// Ends it as an operator does; it must go in peace and have complained about nothing.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Ended {
        self.signal(Signal::TERM);
        let ended = self.end();
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{ended}");
        ended
    }
}

/// A certificate in files.
pub(crate) struct Files {
    pub(crate) made: Made,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    pub(crate) fn new(scratch: &Scratch, name: &str, made: Made) -> Self {
        let cert = scratch.file(&format!("{name}.pem"), &made.pem);
        let key = scratch.file(&format!("{name}.key"), &made.key_pem);
        Self { made, cert, key }
    }

    pub(crate) fn cert(&self) -> &str {
        text(&self.cert)
    }

    pub(crate) fn key(&self) -> &str {
        text(&self.key)
    }

    /// `ID=CERT:KEY`.
    pub(crate) fn own_of(&self, id: &str) -> String {
        format!("{id}={}:{}", self.cert(), self.key())
    }
}

/// A server for `localhost` on a free port of 127.0.0.1, with a certificate that clients can verify.
pub(crate) struct Localhost {
    pub(crate) server: Server,
    pub(crate) files: Files,
    _scratch: Scratch,
}

impl Localhost {
    pub(crate) fn start(args: &[&str]) -> Self {
        let scratch = Scratch::new();
        let files = Files::new(&scratch, "localhost", make(&["localhost"]));
        let own = ["--listen", "127.0.0.1:0", "--cert", files.cert(), "--key", files.key()];
        let server = Server::start(&[&own, args].concat());
        Self { server, files, _scratch: scratch }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The file with its certificate, for a client to trust.
    pub(crate) fn ca(&self) -> &str {
        self.files.cert()
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The value of a counter in what `--stats` printed; a counter that is zero is not printed.
pub(crate) fn counter(stats: &str, name: &str) -> u64 {
    let value = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |n| n.parse().expect("a number"))
}

/// Waits until `come` says that it has come, where nothing can be waited on but the thing itself.
#[track_caller]
pub(crate) fn until(what: &str, mut come: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !come() {
        assert!(Instant::now() < deadline, "too slow: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `addr` accepts connections, or, if `wanted` is false, until it refuses them.
#[track_caller]
pub(crate) fn until_accepting(addr: SocketAddr, wanted: bool) {
    until("the port", || match TcpStream::connect(addr) {
        Ok(_) => wanted,
        // A listener that goes away resets what it has not yet accepted.
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => !wanted,
        Err(e) => panic!("{addr}: {e}"),
    });
}

/// Whether this machine has an IPv6 loopback address.
pub(crate) fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

/// The names of a process's threads.
pub(crate) fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    let mut names: Vec<String> = names.map(|name| name.trim_end().to_owned()).collect();
    names.sort_unstable();
    names
}
