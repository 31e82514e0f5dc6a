//! docs/LOADGEN.md has every field of the JSON, and none that is not there.

use std::collections::BTreeSet;

use serde_json::Value;

/// Objects whose keys are names of things, not fields.
const BY_NAME: [&str; 11] = [
    "errors",
    "error_examples",
    "negotiated",
    "tls_versions",
    "cipher_suites",
    "groups",
    "signature_schemes",
    "statuses",
    "metrics",
    "phases",
    "spread",
];

/// Holds `json` against the table of its kind.
#[track_caller]
pub(crate) fn check(json: &Value) {
    let kind = json["kind"].as_str().expect("a kind");
    let documented = table(kind);
    let (mut found, mut absent) = (BTreeSet::new(), Vec::new());
    walk("", json, &mut found, &mut absent);
    for field in &found {
        assert!(documented.contains(field), "docs/LOADGEN.md does not have `{field}` of {kind}");
    }
    for field in documented.difference(&found) {
        let under_nothing = absent.iter().any(|a| field.starts_with(a.as_str()));
        assert!(under_nothing, "docs/LOADGEN.md has `{field}`, which {kind} does not");
    }
}

/// The fields in the table under the heading of a kind.
fn table(kind: &str) -> BTreeSet<String> {
    let docs = include_str!("../../../docs/LOADGEN.md");
    let section = docs.split(&format!("\n### {kind}\n")).nth(1).unwrap_or_else(|| panic!("no section for {kind}"));
    let rows = section.split("\n### ").next().unwrap_or_default().lines();
    rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next().map(str::to_owned)).collect()
}

/// Collects the paths of all fields, and those of null and empty ones, below which nothing can be seen.
fn walk(path: &str, value: &Value, found: &mut BTreeSet<String>, absent: &mut Vec<String>) {
    let name = path.rsplit('.').next().unwrap_or_default();
    match value {
        Value::Object(fields) if is_whole(path, fields) => drop(found.insert(path.to_owned())),
        Value::Object(fields) if BY_NAME.contains(&name) => {
            let path = format!("{path}.*");
            if fields.is_empty() {
                absent.push(path.clone());
            }
            fields.values().for_each(|value| walk(&path, value, found, absent));
        }
        Value::Object(fields) => {
            if ["batch", "open", "server", "cores"].contains(&path) {
                found.insert(path.to_owned());
            }
            let dot = if path.is_empty() { "" } else { "." };
            fields.iter().for_each(|(name, value)| walk(&format!("{path}{dot}{name}"), value, found, absent));
        }
        Value::Array(items) => {
            let path = format!("{path}[]");
            if items.is_empty() {
                absent.push(path.clone());
            }
            items.iter().for_each(|value| walk(&path, value, found, absent));
        }
        Value::Null => {
            absent.push(format!("{path}."));
            found.insert(path.to_owned());
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

/// Quantiles, and runs inside other results, are described once.
fn is_whole(path: &str, fields: &serde_json::Map<String, Value>) -> bool {
    fields.contains_key("p999") || (!path.is_empty() && fields.get("kind").is_some_and(|kind| kind == "run"))
}
