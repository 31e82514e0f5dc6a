//! Says what is wrong with a configuration, without listening.

use std::path::Path;
use std::process::ExitCode;

use handfast::Config;
use handfast::config::{Finding, Severity, defaults, reference};
use handfast::rustls::pki_types::UnixTime;
use serde_json::{Value, json};

use super::args::CheckArgs;
use super::identities;
use super::serve::say;

/// What was found in a configuration.
struct Report {
    findings: Vec<Finding>,
    /// What keeps the engine from starting though the file is right in itself.
    start: Option<String>,
    /// What the file configures, when nothing is wrong.
    summary: Option<String>,
}

/// Exit status 0: it can be served. 1: it cannot.
pub(crate) fn check(args: &CheckArgs) -> ExitCode {
    let Some(path) = &args.config else {
        say(&if args.print_defaults { defaults() } else { reference() });
        return ExitCode::SUCCESS;
    };
    let report = Report::of(path);
    if args.json {
        say(&format!("{:#}\n", report.json(path)));
    } else {
        say(&report.text(path));
    }
    if report.summary.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Report {
    fn of(path: &Path) -> Self {
        let mut config = match Config::load(path) {
            Ok(config) => config,
            Err(e) => return Self { findings: e.into_findings(), start: None, summary: None },
        };
        let mut findings = config.warnings(UnixTime::now());
        let summary = format!("{} listeners, {} protocols", config.listen.len(), config.protocols.len());
        let provider = handfast::crypto::provider();
        if config.lacks_certificates() {
            // As `handfast serve` does, for what depends on it.
            match identities::self_signed(&provider) {
                Ok((set, _)) => config.certificates = Some(set),
                Err(e) => return Self { findings, start: Some(e.to_string()), summary: None },
            }
        }
        match config.builder() {
            Ok(builder) => match builder.check() {
                Ok(()) => Self { findings, start: None, summary: Some(summary) },
                Err(e) => Self { findings, start: Some(e.to_string()), summary: None },
            },
            Err(e) => {
                findings.extend(e.into_findings());
                Self { findings, start: None, summary: None }
            }
        }
    }

    fn count(&self, severity: Severity) -> usize {
        let found = self.findings.iter().filter(|f| f.severity() == severity).count();
        found + usize::from(severity == Severity::Error && self.start.is_some())
    }

    /// A line for each finding, and one for all.
    fn text(&self, path: &Path) -> String {
        let mut lines: Vec<String> = self.findings.iter().map(Finding::to_string).collect();
        lines.extend(self.start.iter().map(|e| format!("{}: {e}", path.display())));
        let (problems, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        lines.push(match &self.summary {
            Some(summary) => format!("{}: right; {summary}; warnings: {warnings}", path.display()),
            None => format!("{}: wrong; problems: {problems}, warnings: {warnings}", path.display()),
        });
        lines.join("\n") + "\n"
    }

    fn json(&self, path: &Path) -> Value {
        let finding = |f: &Finding| {
            json!({
                "severity": if f.severity() == Severity::Error { "error" } else { "warning" },
                "file": f.file().display().to_string(),
                "line": f.line(),
                "column": f.column(),
                "key": f.key(),
                "message": f.kind().to_string(),
            })
        };
        let mut findings: Vec<Value> = self.findings.iter().map(finding).collect();
        findings.extend(self.start.iter().map(|e| {
            json!({
                "severity": "error", "file": path.display().to_string(), "line": 0, "column": 0, "key": "", "message": e,
            })
        }));
        json!({ "file": path.display().to_string(), "right": self.summary.is_some(), "findings": findings })
    }
}
