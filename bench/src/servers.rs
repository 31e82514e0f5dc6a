//! Servers and the load generator as child processes, each ended by its process id.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Why a run failed.
#[derive(Debug)]
pub enum RunError {
    /// A program could not be started or read.
    Io(PathBuf, io::Error),
    /// A program ended badly or said nothing useful.
    Failed(PathBuf, String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, e) => write!(f, "{}: {e}", path.display()),
            Self::Failed(path, what) => write!(f, "{}: {what}", path.display()),
        }
    }
}

impl std::error::Error for RunError {}

/// The release binaries that are measured, built if need be.
///
/// # Errors
/// Cargo fails.
pub fn build() -> Result<PathBuf, RunError> {
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let io = |e| RunError::Io(cargo.clone(), e);
    let packages = ["-p", "handfast", "-p", "handfast-load", "-p", "handfast-bench"];
    let programs = ["--bin", "handfast", "--bin", "handfast-load", "--bin", "peer_tokio_rustls"];
    let status =
        Command::new(&cargo).args(["build", "--release"]).args(packages).args(programs).status().map_err(io)?;
    if !status.success() {
        return Err(RunError::Failed(cargo, "the build failed".into()));
    }
    let exe = std::env::current_exe().map_err(|e| RunError::Io("current executable".into(), e))?;
    Ok(exe.parent().unwrap_or_else(|| Path::new(".")).to_owned())
}

/// A self-signed ECDSA P-256 certificate and its key, in files of a directory that goes with the value.
#[derive(Debug)]
pub struct Certificate {
    dir: PathBuf,
}

impl Certificate {
    /// Makes it.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn make() -> Result<Self, RunError> {
        let dir = std::env::temp_dir().join(format!("handfast-bench-{}", std::process::id()));
        let io = |e| RunError::Io(dir.clone(), e);
        std::fs::create_dir_all(&dir).map_err(io)?;
        let made = rcgen::generate_simple_self_signed(["localhost".into()])
            .map_err(|e| RunError::Failed(dir.clone(), e.to_string()))?;
        std::fs::write(dir.join("cert.pem"), made.cert.pem()).map_err(io)?;
        std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).map_err(io)?;
        Ok(Self { dir })
    }

    /// The certificate's file.
    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.dir.join("cert.pem")
    }

    /// The key's file.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.dir.join("key.pem")
    }

    /// The two as options of `handfast serve` and of the peers here.
    #[must_use]
    pub fn options(&self) -> [String; 4] {
        let (cert, key) = (self.cert(), self.key());
        ["--cert", &cert.to_string_lossy(), "--key", &key.to_string_lossy()].map(str::to_owned)
    }

    /// A path beside them.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A file beside them with a secret for session tickets, which the `handfast` in `bin` makes.
    ///
    /// # Errors
    /// It fails.
    pub fn ticket_secret(&self, bin: &Path) -> Result<PathBuf, RunError> {
        let (program, path) = (bin.join("handfast"), self.dir.join("tickets"));
        let made = Command::new(&program).arg("ticket-secret").arg(&path).status();
        match made {
            Ok(status) if status.success() => Ok(path),
            Ok(status) => Err(RunError::Failed(program, format!("no ticket secret: {status}"))),
            Err(e) => Err(RunError::Io(program, e)),
        }
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // Left behind it is a few bytes in the temporary directory.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A server that has said where it listens.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// What it prints from now on.
    stdout: Option<BufReader<ChildStdout>>,
    /// Its address.
    pub addr: SocketAddr,
}

impl Server {
    /// Starts `program`, which prints a line with `listening on ADDR`.
    ///
    /// # Errors
    /// It does not start, or ends without that line.
    pub fn start(program: &Path, args: &[&str]) -> Result<Self, RunError> {
        let io = |e| RunError::Io(program.to_owned(), e);
        let mut child = Command::new(program).args(args).stdout(Stdio::piped()).spawn().map_err(io)?;
        let mut stdout = child.stdout.take().map(BufReader::new);
        let lines = stdout.as_mut().into_iter().flat_map(BufRead::lines);
        let addr = lines.map_while(Result::ok).find_map(|line| line.split_once("listening on ")?.1.trim().parse().ok());
        match addr {
            Some(addr) => Ok(Self { child, stdout, addr }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(RunError::Failed(program.to_owned(), "it did not say where it listens".into()))
            }
        }
    }

    /// Starts nginx with one worker process on core 0, which answers handshakes of TLS 1.3 over X25519 with two tickets.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub fn nginx(certificate: &Certificate) -> Result<Self, RunError> {
        let program = PathBuf::from("nginx");
        let io = |e| RunError::Io(program.clone(), e);
        // It cannot tell which free port it took, so we take one and give it up.
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(io)?;
        let (dir, conf, pid) =
            (certificate.beside(""), certificate.beside("nginx.conf"), certificate.beside("nginx.pid"));
        let _ = std::fs::remove_file(&pid);
        let (cert, key) = (certificate.cert(), certificate.key());
        let config = format!(
            "daemon off; user root; worker_processes 1; worker_cpu_affinity 01; worker_rlimit_nofile 8192;
             pid {pid}; error_log stderr crit;
             events {{ worker_connections 4096; }}
             http {{
                 access_log off; client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
                 uwsgi_temp_path {dir}; scgi_temp_path {dir};
                 server {{
                     listen {addr} ssl backlog=4096;
                     ssl_certificate {cert}; ssl_certificate_key {key};
                     ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; ssl_session_tickets on;
                 }}
             }}",
            pid = pid.display(),
            dir = dir.display(),
            cert = cert.display(),
            key = key.display(),
        );
        std::fs::write(&conf, config).map_err(io)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = [path, ":/usr/sbin:/usr/local/sbin".into()].join("".as_ref());
        let mut child =
            Command::new(&program).env("PATH", path).arg("-p").arg(&dir).arg("-c").arg(&conf).spawn().map_err(io)?;
        // It writes its process id once it listens.
        while !std::fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n')) {
            if let Some(status) = child.try_wait().map_err(io)? {
                return Err(RunError::Failed(program, format!("it ended: {status}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { child, stdout: None, addr })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it, and returns what it has printed since it said where it listens.
    ///
    /// # Errors
    /// It prints something else than text.
    pub fn end(mut self) -> Result<String, RunError> {
        let stdout = self.stdout.take();
        drop(self);
        let mut text = String::new();
        let read = stdout.map_or(Ok(0), |mut stdout| stdout.read_to_string(&mut text));
        read.map(|_| text).map_err(|e| RunError::Io("what a server prints".into(), e))
    }

    /// CPU time that its threads have used; those that have ended count for nothing.
    ///
    /// # Errors
    /// It is gone, or this system does not say.
    pub fn cpu(&self) -> Result<Duration, RunError> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid()));
        let io = |e| RunError::Io(tasks.clone(), e);
        let mut nanos = 0;
        for task in std::fs::read_dir(&tasks).map_err(io)? {
            let path = task.map_err(io)?.path().join("schedstat");
            // A thread may end between the two.
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let first = text.split_ascii_whitespace().next().and_then(|n| n.parse::<u64>().ok());
            nanos += first.ok_or_else(|| RunError::Failed(path, "no CPU time in it".into()))?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Its resident memory in KiB.
    ///
    /// # Errors
    /// It is gone.
    pub fn resident_kib(&self) -> Result<f64, RunError> {
        let path = PathBuf::from(format!("/proc/{}/smaps_rollup", self.pid()));
        let text = std::fs::read_to_string(&path).map_err(|e| RunError::Io(path.clone(), e))?;
        let line = text.lines().find_map(|l| l.strip_prefix("Rss:"));
        line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok())
            .ok_or_else(|| RunError::Failed(path, "no Rss line".into()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already. One with processes of its own has to end them first, so it is asked.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
            for _ in 0..50 {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the load generator and returns its report.
///
/// # Errors
/// It fails, or its output is no JSON.
pub fn load(bin: &Path, server: &Server, args: &[&str]) -> Result<serde_json::Value, RunError> {
    let program = bin.join("handfast-load");
    let output = Command::new(&program)
        .arg(server.addr.to_string())
        .args(["--json", "--quiet", "--server-pid", &server.pid().to_string()])
        // The client would else search for local ports, and the faster the server, the longer.
        .args(["--source", "127.0.0.0/28"])
        .args(args)
        .output()
        .map_err(|e| RunError::Io(program.clone(), e))?;
    if !output.status.success() {
        return Err(RunError::Failed(program, String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| RunError::Failed(program, e.to_string()))
}

/// Pins the calling process to one core.
///
/// # Errors
/// The core is not there.
pub fn pin_to(core: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set)?;
    Ok(())
}
