//! The reference of all keys, and a file with all defaults, both from the tables that the file is read by.

use std::fmt::Write;

use super::file::File;
use super::table::{Entry, Topic, topics_of};

/// All keys with type, default and meaning, as Markdown: the content of `docs/CONFIGURATION.md` below its introduction.
#[must_use]
pub fn reference() -> String {
    let mut out = String::new();
    for topic in topics_of(&File::default(), "") {
        markdown(&topic, &mut out);
    }
    out
}

/// A configuration file that says all defaults, each with what it means; what has no default is commented out.
#[must_use]
pub fn defaults() -> String {
    let mut out =
        String::from("# Every key of Handfast's configuration with its default. docs/CONFIGURATION.md says more.\n");
    for topic in topics_of(&File::default(), "") {
        toml(&topic, &mut out);
    }
    out
}

/// As it stands above the keys in the file.
fn header(topic: &Topic) -> String {
    if topic.repeated { format!("[[{}]]", topic.path) } else { format!("[{}]", topic.path) }
}

fn markdown(topic: &Topic, out: &mut String) {
    let title = if topic.path.is_empty() { "The server".to_owned() } else { format!("`{}`", header(topic)) };
    // Writing to a string does not fail.
    let _ = write!(out, "## {title}\n\n{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n", topic.about);
    for key in &topic.keys {
        let default = match (&key.default, key.default_said) {
            _ if key.required => "required".to_owned(),
            (_, Some(said)) => said.to_owned(),
            (Some(value), None) => format!("`{value}`"),
            (None, None) => "see below".to_owned(),
        };
        let _ = writeln!(out, "| `{}` | {} | {default} | {} |", key.name, key.kind, key.doc);
    }
    out.push('\n');
}

fn toml(topic: &Topic, out: &mut String) {
    // What has names of the operator's, or turns something on by being there, is only shown.
    let shown = topic.repeated || topic.optional;
    if !topic.path.is_empty() {
        out.push('\n');
        comment(topic.about, out);
        let _ = writeln!(out, "{}{}", if shown { "#" } else { "" }, header(topic));
    }
    for key in topic.keys.iter().filter(|key| !key.is_table) {
        out.push('\n');
        comment(key.doc, out);
        let _ = match &key.default {
            Some(value) if shown => writeln!(out, "#{} = {value}", key.name),
            Some(value) => writeln!(out, "{} = {value}", key.name),
            None => writeln!(out, "#{} = ({})", key.name, said(key)),
        };
    }
}

fn said(key: &Entry) -> String {
    match key.default_said {
        Some(said) => format!("{}; without it: {said}", key.kind),
        None => key.kind.to_owned(),
    }
}

/// In lines of a hundred or so.
fn comment(text: &str, out: &mut String) {
    const WIDTH: usize = 100;
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(out, "{line}");
}
