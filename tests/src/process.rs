//! Child processes: killed when the test ends however it ends, their output kept and waited for.

use std::fmt;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

/// How long anything may take on a slow and busy machine; only a bug reaches it.
pub const BOUND: Duration = Duration::from_secs(60);

/// What a process has written, and whether it is still writing.
#[derive(Debug, Default)]
struct Written {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    open: u8,
}

#[derive(Debug, Default)]
struct Output {
    written: Mutex<Written>,
    changed: Condvar,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Written> {
        // What a panicking reader left behind is still what was written.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of a process's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipe {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A process that runs until it ends, or is killed on drop.
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
}

/// A process that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Ended {
    /// The exit status, -1 for a signal.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}

impl Process {
    /// Starts it with all of its streams piped.
    ///
    /// # Panics
    /// When it cannot be started, which fails the test.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        let output = Arc::new(Output::default());
        output.lock().open = 2;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        collect(stdout.expect("a piped stdout"), &output, Pipe::Stdout);
        collect(stderr.expect("a piped stderr"), &output, Pipe::Stderr);
        Self { name, stdin: child.stdin.take(), child, output }
    }

    /// Its process ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has closed all of its output, as ending does.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.output.lock().open == 0
    }

    /// What it has written so far.
    #[must_use]
    pub fn written(&self, pipe: Pipe) -> String {
        text(&self.output.lock(), pipe)
    }

    /// Waits until `wanted` finds in what it has written what the test goes on with.
    ///
    /// # Panics
    /// When it has ended without, or takes longer than [`BOUND`].
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, pipe: Pipe, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + BOUND;
        let mut written = self.output.lock();
        loop {
            if let Some(found) = wanted(&text(&written, pipe)) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if written.open == 0 || left.is_zero() {
                let (stdout, stderr) = (text(&written, Pipe::Stdout), text(&written, Pipe::Stderr));
                drop(written);
                let how = if left.is_zero() { "too slow" } else { "ended" };
                panic!("{} {how}, no {what}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.name);
            }
            written = self.output.changed.wait_timeout(written, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until it has written `line` or more on its standard output.
    #[track_caller]
    pub fn wait_for_text(&self, wanted: &str) {
        self.wait_for(wanted, Pipe::Stdout, |text| text.contains(wanted).then_some(()));
    }

    /// Gives it input; one that has ended already takes none.
    pub fn input(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes).and_then(|()| stdin.flush());
        }
    }

    /// Ends its input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn signal(&mut self, signal: Signal) {
        let ended = self.child.try_wait().expect("its state");
        assert!(ended.is_none(), "{} has ended by itself", self.name);
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw).expect("a process ID");
        kill_process(id, signal).expect("a signal to a process of ours");
    }

    /// Ends its input and waits for its end.
    ///
    /// # Panics
    /// When that takes longer than [`BOUND`].
    #[track_caller]
    pub fn end(self) -> Ended {
        self.end_within(BOUND)
    }

    /// As [`end`](Self::end), for what is known to take long.
    ///
    /// # Panics
    /// When it takes longer than `bound`.
    #[track_caller]
    pub fn end_within(mut self, bound: Duration) -> Ended {
        self.close_input();
        let deadline = Instant::now() + bound;
        let mut written = self.output.lock();
        while written.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (stdout, stderr) = (text(&written, Pipe::Stdout), text(&written, Pipe::Stderr));
                drop(written);
                panic!("{} does not end\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.name);
            }
            written = self.output.changed.wait_timeout(written, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let (stdout, stderr) = (text(&written, Pipe::Stdout), text(&written, Pipe::Stderr));
        drop(written);
        // Both streams are closed: it is ending now.
        let status = self.child.wait().expect("its exit status");
        Ended { status, stdout, stderr }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("name", &self.name).field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Runs it without input to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ended {
    Process::start(command).end()
}

fn collect(mut stream: impl Read + Send + 'static, output: &Arc<Output>, pipe: Pipe) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let read = stream.read(&mut buffer).unwrap_or(0);
            let mut written = output.lock();
            match pipe {
                Pipe::Stdout => written.stdout.extend_from_slice(&buffer[..read]),
                Pipe::Stderr => written.stderr.extend_from_slice(&buffer[..read]),
            }
            written.open -= u8::from(read == 0);
            output.changed.notify_all();
            if read == 0 {
                return;
            }
        }
    });
}

fn text(written: &Written, pipe: Pipe) -> String {
    String::from_utf8_lossy(match pipe {
        Pipe::Stdout => &written.stdout,
        Pipe::Stderr => &written.stderr,
    })
    .into_owned()
}

/// A directory of the test's own, removed on drop. Its path is short enough for Unix-domain sockets.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty one.
    ///
    /// # Panics
    /// When it cannot be made, which fails the test.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("handfast-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        // An earlier process with this ID was killed and left it.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    /// The path of a file in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file in it with this content, which only its owner can read.
    ///
    /// # Panics
    /// When it cannot be written, which fails the test.
    #[must_use]
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its permissions");
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Leaving it behind is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
