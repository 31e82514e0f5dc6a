//! Real peers: programs that other people wrote, and what is done where one is missing.

use std::env;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that the end-to-end tests talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `openssl s_client` and `openssl s_server`.
    OpenSsl,
    /// curl, with HTTP/2.
    Curl,
    /// GnuTLS's client.
    GnuTlsCli,
    /// nginx, with TLS and HTTP/2.
    Nginx,
    /// The same nginx, with its module for TCP.
    NginxStream,
    /// HAProxy, with TLS.
    HaProxy,
    /// strace, which counts system calls.
    Strace,
    /// nghttp2's load generator.
    H2load,
    /// nghttp2's client.
    Nghttp,
    /// Node.js, with its own HTTP/2.
    Node,
    /// Python with the packages of `tests/python.txt`.
    Python,
    /// The WebSocket conformance suite, one of those packages.
    Kosoku,
    /// SSLyze, which looks for weaknesses of TLS; one of those packages too.
    Sslyze,
    /// Chromium, which [`Peer::Node`] drives.
    Chromium,
    /// testssl.sh, which looks for them with an OpenSSL that has them all.
    Testssl,
}

impl Peer {
    /// Those of `scripts/test --full` besides.
    pub const FULL: [Self; 2] = [Self::Chromium, Self::Testssl];

    /// Those of every run.
    pub const ALL: [Self; 13] = [
        Self::OpenSsl,
        Self::Curl,
        Self::GnuTlsCli,
        Self::Nginx,
        Self::NginxStream,
        Self::HaProxy,
        Self::Strace,
        Self::H2load,
        Self::Nghttp,
        Self::Node,
        Self::Python,
        Self::Kosoku,
        Self::Sslyze,
    ];

    /// The program's name.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::OpenSsl => "openssl",
            Self::Curl => "curl",
            Self::GnuTlsCli => "gnutls-cli",
            Self::Nginx | Self::NginxStream => "nginx",
            Self::HaProxy => "haproxy",
            Self::Strace => "strace",
            Self::H2load => "h2load",
            Self::Nghttp => "nghttp",
            Self::Node => "node",
            Self::Python => "python",
            Self::Kosoku => "kosoku",
            Self::Sslyze => "sslyze",
            Self::Chromium => "chromium",
            // As Debian calls it.
            Self::Testssl => "testssl",
        }
    }

    /// The program, when it is installed and can do what the tests need.
    ///
    /// # Errors
    /// Why not, as in `gnutls-cli is not installed`.
    pub fn find(self) -> Result<PathBuf, String> {
        let name = self.program();
        let found = match self {
            // The system's Python may have other versions of these packages, or none.
            Self::Python | Self::Kosoku | Self::Sslyze => {
                Some(tools().join("python/bin").join(name)).filter(|file| is_program(file))
            }
            _ => search(name),
        };
        let path = found.ok_or_else(|| format!("{name} is not installed"))?;
        let (arguments, needed): (&[&str], &[&str]) = match self {
            Self::OpenSsl => (&["version"], &["OpenSSL"]),
            Self::Curl => (&["--version"], &["HTTP2", "SSL"]),
            Self::GnuTlsCli => (&["--version"], &["gnutls-cli"]),
            Self::Strace => (&["-V"], &["strace"]),
            Self::Nginx => (&["-V"], &["http_ssl_module", "http_v2_module"]),
            Self::NginxStream => (&["-V"], &["with-stream"]),
            Self::HaProxy => (&["-vv"], &["HAProxy", "OpenSSL"]),
            Self::H2load => (&["--version"], &["h2load"]),
            Self::Nghttp => (&["--version"], &["nghttp"]),
            Self::Node => (&["--version"], &["v"]),
            Self::Python => (&["-c", PACKAGES], &["httpx", "websockets"]),
            Self::Kosoku => (&["--help"], &["fuzzingserver"]),
            Self::Sslyze => (&["--help"], &["--json_out"]),
            Self::Chromium => (&["--version"], &["Chromium"]),
            Self::Testssl => (&["--version"], &["testssl.sh"]),
        };
        if self == Self::NginxStream && !Path::new(NGINX_STREAM).is_file() {
            return Err("this nginx has no stream module".into());
        }
        let told = told(&path, arguments).ok_or_else(|| format!("{name} does not run"))?;
        match needed.iter().find(|&&word| !told.contains(word)) {
            Some(word) => Err(format!("this {name} has no {word}")),
            None => Ok(path),
        }
    }

    /// What it says of its version, in short.
    #[must_use]
    pub fn version(self) -> String {
        let arguments: &[&str] = match self {
            Self::OpenSsl => &["version"],
            Self::Curl | Self::GnuTlsCli | Self::H2load | Self::Nghttp | Self::Node | Self::Chromium => &["--version"],
            Self::Nginx | Self::NginxStream | Self::HaProxy => &["-v"],
            Self::Strace => &["-V"],
            Self::Python => &["-c", PACKAGES],
            // It does not say; tests/python.txt does.
            Self::Kosoku | Self::Sslyze => return self.program().to_owned(),
            // Its first lines are ornaments.
            Self::Testssl => return "testssl.sh".to_owned(),
        };
        let told = self.find().ok().and_then(|path| told(&path, arguments)).unwrap_or_default();
        // What follows in parentheses are the versions of others.
        let line = told.lines().next().and_then(|line| line.split('(').next()).unwrap_or_default().trim();
        if self == Self::Node { format!("node {line}") } else { line.to_owned() }
    }

    /// The program for a test; `None`, said on standard error, when the test has to be skipped.
    ///
    /// # Panics
    /// When peers are [`required`] and this one is missing.
    #[must_use]
    #[track_caller]
    pub fn installed(self) -> Option<Program> {
        match self.find() {
            Ok(path) => Some(Program(path)),
            Err(why) if required() => panic!("HANDFAST_PEERS=required, but {why}"),
            Err(why) => {
                skipped(&why);
                None
            }
        }
    }
}

/// A peer that is there.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Runs it, in the language and without the settings of whoever runs the tests.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        command.env("LC_ALL", "C").env_remove("OPENSSL_CONF").env_remove("GNUTLS_SYSTEM_PRIORITY_FILE");
        command
    }
}

/// Where Debian puts the module of [`Peer::NginxStream`].
pub const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Names the packages that the tests import, with their versions.
const PACKAGES: &str =
    "import httpx, h2, websockets; print('httpx', httpx.__version__, 'websockets', websockets.__version__)";

/// Where `scripts/test` puts what does not come from apt.
#[must_use]
pub fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools")
}

/// Whether this is a run of `scripts/test --full`, which has peers that are too heavy for every run.
#[must_use]
pub fn full() -> bool {
    env::var_os("HANDFAST_FULL").is_some_and(|value| !value.is_empty())
}

/// Whether a missing peer fails the tests that need it.
///
/// # Panics
/// When `HANDFAST_PEERS` is set to something else than `required`.
#[must_use]
pub fn required() -> bool {
    match env::var("HANDFAST_PEERS").as_deref() {
        Ok("required") => true,
        Ok("") | Err(_) => false,
        Ok(other) => panic!("HANDFAST_PEERS={other}: write HANDFAST_PEERS=required, or leave it out"),
    }
}

/// Says that the running test is skipped.
pub fn skipped(why: &impl Display) {
    let thread = std::thread::current();
    say(&format!("skipped: {why} ({})", thread.name().unwrap_or("a test")));
}

/// Writes a line where the test harness does not catch it.
pub fn say(line: &str) {
    // Who does not read it does not miss it.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn search(name: &str) -> Option<PathBuf> {
    // Servers are often installed where an ordinary user's PATH does not lead.
    let path = env::var_os("PATH").unwrap_or_default();
    let also = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(also).map(|dir| dir.join(name)).find(|file| is_program(file))
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}

fn told(program: &Path, arguments: &[impl AsRef<OsStr>]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    Some(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}
