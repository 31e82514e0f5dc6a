//! What the server says of a connection.

use serde_json::Value;

/// The facts in `text`, once they are there as a whole line.
pub(crate) fn find(text: &str) -> Option<Value> {
    all(text).into_iter().next()
}

/// All of the facts in `text`, a line each.
pub(crate) fn all(text: &str) -> Vec<Value> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().filter(|line| line.starts_with("{\"protocol\""));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}
