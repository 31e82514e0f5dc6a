//! Keys as data: what is read, what is shown and what the reference says come from one table each.

use std::fmt::Write;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Finding, FindingKind};

/// One key of a table that is read into a `T`.
pub(super) struct Key<T> {
    pub(super) name: &'static str,
    /// What is written there, as the reference calls it.
    pub(super) kind: &'static str,
    pub(super) required: bool,
    /// What the key means; the reference's words.
    pub(super) doc: &'static str,
    /// Said instead of a default that is no value of the file.
    pub(super) default: Option<&'static str>,
    pub(super) read: fn(&mut T, &Item<'_>, &mut Reader<'_>),
    pub(super) show: fn(&T) -> Option<String>,
    pub(super) topics: fn(&T, &str) -> Vec<Topic>,
}

/// What a table of the file is read into. The default is what holds without the table.
pub(super) trait Keyed: Sized + 'static {
    /// What the table is for.
    const ABOUT: &'static str;
    const KEYS: &'static [Key<Self>];
}

/// How a value is written in the file.
pub(super) trait Kind<T> {
    const NAME: &'static str;
    const REQUIRED: bool = false;

    fn read(into: &mut T, item: &Item<'_>, reader: &mut Reader<'_>);

    /// As it is written in the file; `None` for what is not there unless it is written.
    fn show(value: &T) -> Option<String>;

    /// Tables inside, at `path`.
    fn topics(_: &T, _path: &str) -> Vec<Topic> {
        Vec::new()
    }
}

/// The name of `K` for the type of a field.
pub(super) const fn kind_name<S, T, K: Kind<T>>(_: fn(&S) -> &T) -> &'static str {
    K::NAME
}

/// Whether `K` has to be there, for the type of a field.
pub(super) const fn is_required<S, T, K: Kind<T>>(_: fn(&S) -> &T) -> bool {
    K::REQUIRED
}

/// Declares the keys of a struct. Each field is a key of its name, or is listed as no key; a field that is neither
/// does not compile.
macro_rules! keys {
    (
        $type:ident, $about:literal $(, not_keys($($other:ident),+))? ;
        $($field:ident: $kind:ty $([$default:literal])? = $doc:literal;)+
    ) => {
        impl $crate::config::table::Keyed for $type {
            const ABOUT: &'static str = $about;
            const KEYS: &'static [$crate::config::table::Key<Self>] = {
                const fn every(value: &$type) {
                    let $type { $($field: _,)+ $($($other: _,)+)? } = value;
                }
                let _ = every;
                &[$($crate::config::table::Key {
                    name: stringify!($field),
                    kind: $crate::config::table::kind_name::<Self, _, $kind>(|value| &value.$field),
                    required: $crate::config::table::is_required::<Self, _, $kind>(|value| &value.$field),
                    doc: $doc,
                    default: keys!(@default $($default)?),
                    read: |into, item, reader| {
                        <$kind as $crate::config::table::Kind<_>>::read(&mut into.$field, item, reader);
                    },
                    show: |value| <$kind as $crate::config::table::Kind<_>>::show(&value.$field),
                    topics: |value, path| <$kind as $crate::config::table::Kind<_>>::topics(&value.$field, path),
                }),+]
            };
        }
    };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
}
pub(super) use keys;

/// A value with its key.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    /// With the tables that it is in.
    pub(super) key: &'a str,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Item<'a> {
    pub(super) fn value(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    pub(super) fn at(&self) -> At {
        At { offset: self.value.span().start, key: self.key.to_owned() }
    }
}

/// Where a value stands, for what is found out about it later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct At {
    pub(super) offset: usize,
    pub(super) key: String,
}

/// A file while it is read, with all that is wrong so far.
pub(super) struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, findings: Vec::new() }
    }

    pub(super) const fn file(&self) -> &'a Path {
        self.file
    }

    pub(super) const fn text(&self) -> &'a str {
        self.text
    }

    /// `path` as seen from the directory of the file.
    pub(super) fn resolve(&self, path: &Path) -> std::path::PathBuf {
        self.file.parent().map_or_else(|| path.to_owned(), |directory| directory.join(path))
    }

    /// Line and column, from 1, of a byte.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    pub(super) fn finding(&self, at: &At, kind: FindingKind) -> Finding {
        let (line, column) = self.position(at.offset);
        Finding { file: self.file.to_owned(), line, column, key: at.key.clone(), kind }
    }

    pub(super) fn wrong(&mut self, at: &At, kind: FindingKind) {
        let finding = self.finding(at, kind);
        self.findings.push(finding);
    }

    /// The value is not what was expected.
    pub(super) fn misfit(&mut self, item: &Item<'_>, expected: impl Into<String>) {
        let found = self.excerpt(item.value.span());
        self.wrong(&item.at(), FindingKind::Value { found, expected: expected.into() });
    }

    /// What stands in the file there, in short.
    fn excerpt(&self, span: Range<usize>) -> String {
        const CHARS_MAX: usize = 40;
        let mut chars = self.text.get(span).unwrap_or_default().chars();
        let mut excerpt = String::new();
        for c in chars.by_ref().take_while(|c| *c != '\n').take(CHARS_MAX) {
            // A terminal must not be steered by a file.
            if c.is_control() { excerpt.extend(c.escape_default()) } else { excerpt.push(c) }
        }
        if chars.next().is_some() {
            excerpt.push_str("...");
        }
        excerpt
    }

    /// Reads a table at `path` into `into`: unknown keys and missing ones are findings.
    pub(super) fn table<T: Keyed>(&mut self, into: &mut T, table: &DeTable<'_>, at: &At) {
        for (name, value) in table {
            let key = join(&at.key, name.get_ref());
            match T::KEYS.iter().find(|k| k.name == *name.get_ref()) {
                Some(known) => (known.read)(into, &Item { key: &key, value }, self),
                None => {
                    let meant =
                        nearest(name.get_ref(), T::KEYS.iter().map(|k| k.name)).or_else(|| elsewhere(name.get_ref()));
                    self.wrong(&At { offset: name.span().start, key }, FindingKind::UnknownKey { meant });
                }
            }
        }
        let missing = |k: &&Key<T>| k.required && !table.keys().any(|name| name.get_ref() == k.name);
        for key in T::KEYS.iter().filter(missing) {
            let at = At { offset: at.offset, key: join(&at.key, key.name) };
            self.wrong(&at, FindingKind::MissingKey);
        }
    }
}

/// A key inside a table, as it would be written.
pub(super) fn join(path: &str, name: &str) -> String {
    let mut key = path.to_owned();
    if !key.is_empty() {
        key.push('.');
    }
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    // Writing to a string does not fail.
    let _ = if bare { write!(key, "{name}") } else { write!(key, "{name:?}") };
    key
}

/// The name that was probably meant.
pub(super) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    // A third of the letters may be wrong; in short names one.
    let allowed = (name.chars().count() / 3).max(1);
    let ranked = names.map(|n| (strsim::osa_distance(name, n), n)).filter(|(distance, _)| *distance <= allowed);
    ranked.min_by_key(|(distance, _)| *distance).map(|(_, n)| n.to_owned())
}

/// The key of this name in another table, if there is one such.
fn elsewhere(name: &str) -> Option<String> {
    let topics = topics_of(&super::file::File::default(), "");
    let mut found = topics.iter().filter(|t| t.keys.iter().any(|k| k.name == name)).map(|t| join(&t.path, name));
    found.next().filter(|_| found.next().is_none())
}

/// A table of the file, as the reference shows it.
pub(super) struct Topic {
    /// With the tables that it is in; empty for the file itself.
    pub(super) path: String,
    pub(super) repeated: bool,
    /// Whether it means something even when it is empty.
    pub(super) optional: bool,
    pub(super) about: &'static str,
    pub(super) keys: Vec<Entry>,
    pub(super) inner: Vec<Self>,
}

/// A key, as the reference shows it.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) required: bool,
    /// As written in the file.
    pub(super) default: Option<String>,
    pub(super) default_said: Option<&'static str>,
    pub(super) doc: &'static str,
    pub(super) is_table: bool,
}

/// `value`'s own table, and those inside.
pub(super) fn topic<T: Keyed>(value: &T, path: &str) -> Topic {
    let mut inner = Vec::new();
    let keys = T::KEYS.iter().map(|key| {
        let topics = (key.topics)(value, &join(path, key.name));
        let is_table = !topics.is_empty();
        inner.extend(topics);
        Entry {
            name: key.name,
            kind: key.kind,
            required: key.required,
            default: (key.show)(value),
            default_said: key.default,
            doc: key.doc,
            is_table,
        }
    });
    let keys = keys.collect();
    Topic { path: path.to_owned(), repeated: false, optional: false, about: T::ABOUT, keys, inner }
}

/// All tables, each before those inside it.
pub(super) fn topics_of<T: Keyed>(value: &T, path: &str) -> Vec<Topic> {
    fn flatten(mut topic: Topic, into: &mut Vec<Topic>) {
        let inner = std::mem::take(&mut topic.inner);
        into.push(topic);
        inner.into_iter().for_each(|t| flatten(t, into));
    }
    let mut all = Vec::new();
    flatten(topic(value, path), &mut all);
    all
}
