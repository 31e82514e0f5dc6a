//! The programs under test and the engine's examples, built as the tests are.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// `handfast`.
#[must_use]
pub fn handfast() -> Command {
    program("handfast")
}

/// `handfast-load`.
#[must_use]
pub fn handfast_load() -> Command {
    program("handfast-load")
}

/// One of the engine's examples.
#[must_use]
pub fn example(name: &str) -> Command {
    program(name)
}

fn program(name: &str) -> Command {
    Command::new(built().get(name).unwrap_or_else(|| panic!("cargo names no {name}")))
}

/// Builds all of them into the target directory that the running test came from, and says where they are.
///
/// Cargo names the binaries of a test's own package only, and for `cargo test -p handfast-tests` it builds no others.
/// Up to date this costs a fraction of a second.
fn built() -> &'static HashMap<String, PathBuf> {
    static BUILT: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let exe = env::current_exe().expect("the test's own path");
        let Place { target, triple, profile } = Place::of(&exe);
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
        cargo.args(["build", "--message-format=json-render-diagnostics", "--bins", "--examples"]);
        // All at once, and the tests with them: fewer would need the crates below with other features, and so again.
        cargo.args(["--package", "handfast", "--package", "handfast-load", "--package", "handfast-tests"]);
        cargo.arg("--target-dir").arg(target).args(["--profile", profile]);
        if let Some(triple) = triple {
            cargo.args(["--target", triple]);
        }
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        let output = cargo.output().expect("cargo runs");
        assert!(output.status.success(), "cargo builds no binaries: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).collect()
    })
}

fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let path = PathBuf::from(message["executable"].as_str()?);
    Some((path.file_stem()?.to_str()?.to_owned(), path))
}

/// Where cargo has put an artifact: TARGET/[TRIPLE/]PROFILE/deps/NAME.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    target: &'a Path,
    triple: Option<&'a str>,
    profile: &'a str,
}

impl<'a> Place<'a> {
    fn of(exe: &'a Path) -> Self {
        let above = |n| exe.ancestors().nth(n).expect("an executable in cargo's target directory");
        let name = |path: &'a Path| path.file_name().and_then(|n| n.to_str()).expect("a name in UTF-8");
        // Cargo's name for the directory of its profiles dev and test.
        let profile = match name(above(2)) {
            "debug" => "test",
            other => other,
        };
        let (target, triple) =
            if above(3).join("CACHEDIR.TAG").exists() { (above(3), None) } else { (above(4), Some(name(above(3)))) };
        Self { target, triple, profile }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Scratch;

    #[test]
    fn the_target_directory_is_found_with_and_without_a_triple() {
        let scratch = Scratch::new();
        let _tag = scratch.file("CACHEDIR.TAG", "");
        let (plain, cross) = (scratch.path("debug/deps/e2e-1"), scratch.path("t-u-v/release/deps/e2e-1"));
        let target = scratch.path("");
        let target = target.as_path();
        assert_eq!(Place::of(&plain), Place { target, triple: None, profile: "test" });
        assert_eq!(Place::of(&cross), Place { target, triple: Some("t-u-v"), profile: "release" });
    }
}
