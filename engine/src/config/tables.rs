//! How values are written: addresses, names, files, and tables.

use std::path::PathBuf;

use toml::de::DeValue;

use super::table::{At, Item, Keyed, Kind, Reader, Topic, join, topic};
use super::value::OFF;
use crate::transport::tcp::Endpoint;

/// An address to listen on.
pub(super) struct Address;

impl Kind<Option<(Endpoint, At)>> for Address {
    const NAME: &'static str = "address";
    const REQUIRED: bool = true;

    fn read(into: &mut Option<(Endpoint, At)>, item: &Item<'_>, reader: &mut Reader<'_>) {
        let endpoint = item.value().as_str().and_then(|text| text.parse().ok());
        let endpoint = match endpoint {
            Some(Endpoint::Unix(path)) => Endpoint::Unix(reader.resolve(&path)),
            Some(endpoint) => endpoint,
            None => {
                return reader.misfit(
                    item,
                    "an address such as \"127.0.0.1:8443\", \"[::1]:8443\", \":8443\" or \"unix:/path/to.sock\"",
                );
            }
        };
        *into = Some((endpoint, item.at()));
    }

    fn show(_: &Option<(Endpoint, At)>) -> Option<String> {
        None
    }
}

/// A text, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) text: String,
    pub(super) at: At,
}

/// A name.
pub(super) struct Name;

impl Kind<Named> for Name {
    const NAME: &'static str = "name";

    fn read(into: &mut Named, item: &Item<'_>, reader: &mut Reader<'_>) {
        match item.value().as_str() {
            // As long as an ALPN protocol ID (RFC 7301 section 3.1).
            Some(text) if (1..=255).contains(&text.len()) => *into = Named { text: text.to_owned(), at: item.at() },
            _ => reader.misfit(item, "a name in quotes, of 1 to 255 bytes"),
        }
    }

    fn show(value: &Named) -> Option<String> {
        Some(format!("{:?}", value.text))
    }
}

/// A file that the configuration names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NamedFile {
    pub(super) path: PathBuf,
    pub(super) at: At,
}

/// The name of a file.
pub(super) struct FileName;

impl Kind<NamedFile> for FileName {
    const NAME: &'static str = "file";

    fn read(into: &mut NamedFile, item: &Item<'_>, reader: &mut Reader<'_>) {
        match item.value().as_str() {
            Some(path) if !path.is_empty() => {
                *into = NamedFile { path: reader.resolve(path.as_ref()), at: item.at() };
            }
            _ => reader.misfit(item, "the name of a file in quotes"),
        }
    }

    fn show(value: &NamedFile) -> Option<String> {
        Some(format!("{:?}", value.path))
    }
}

/// A table.
pub(super) struct Table;

impl<T: Keyed> Kind<T> for Table {
    const NAME: &'static str = "table";

    fn read(into: &mut T, item: &Item<'_>, reader: &mut Reader<'_>) {
        match item.value() {
            DeValue::Table(table) => reader.table(into, table, &item.at()),
            _ => reader.misfit(item, format!("a table: [{}], and its keys below", item.key)),
        }
    }

    fn show(_: &T) -> Option<String> {
        None
    }

    fn topics(value: &T, path: &str) -> Vec<Topic> {
        vec![topic(value, path)]
    }
}

/// A table whose presence turns something on, or `"off"`.
pub(super) struct TableOrOff;

impl<T: Keyed + Default> Kind<Option<T>> for TableOrOff {
    const NAME: &'static str = "table or \"off\"";

    fn read(into: &mut Option<T>, item: &Item<'_>, reader: &mut Reader<'_>) {
        match item.value() {
            DeValue::Table(table) => reader.table(into.get_or_insert_default(), table, &item.at()),
            DeValue::String(text) if text == OFF => *into = None,
            _ => reader.misfit(item, format!("\"off\", or a table: [{}], and its keys below", item.key)),
        }
    }

    fn show(value: &Option<T>) -> Option<String> {
        value.is_none().then(|| format!("\"{OFF}\""))
    }

    fn topics(value: &Option<T>, path: &str) -> Vec<Topic> {
        let off = value.is_none();
        let topic = value.as_ref().map_or_else(|| topic(&T::default(), path), |value| topic(value, path));
        vec![Topic { optional: off, ..topic }]
    }
}

/// Tables under one name, in their order.
pub(super) struct Tables;

impl<T: Keyed + Default> Kind<Vec<T>> for Tables {
    const NAME: &'static str = "tables";

    fn read(into: &mut Vec<T>, item: &Item<'_>, reader: &mut Reader<'_>) {
        let expected = || format!("tables: [[{}]], and its keys below", item.key);
        let Some(array) = item.value().as_array() else { return reader.misfit(item, expected()) };
        for value in array {
            let item = Item { value, ..*item };
            let DeValue::Table(table) = item.value() else {
                reader.misfit(&item, expected());
                continue;
            };
            let mut element = T::default();
            reader.table(&mut element, table, &item.at());
            into.push(element);
        }
    }

    fn show(_: &Vec<T>) -> Option<String> {
        None
    }

    fn topics(_: &Vec<T>, path: &str) -> Vec<Topic> {
        vec![Topic { repeated: true, ..topic(&T::default(), path) }]
    }
}

/// Tables with names of the operator's.
pub(super) struct NamedTables;

impl<T: Keyed + Default> Kind<Vec<(Named, T)>> for NamedTables {
    const NAME: &'static str = "tables";

    fn read(into: &mut Vec<(Named, T)>, item: &Item<'_>, reader: &mut Reader<'_>) {
        let expected = || format!("tables: [{}.NAME], and its keys below", item.key);
        let DeValue::Table(tables) = item.value() else { return reader.misfit(item, expected()) };
        for (name, value) in tables {
            let key = join(item.key, name.get_ref());
            let at = At { offset: name.span().start, key };
            let item = Item { key: &at.key, value };
            let DeValue::Table(table) = item.value() else {
                reader.misfit(&item, expected());
                continue;
            };
            let mut element = T::default();
            reader.table(&mut element, table, &at);
            into.push((Named { text: name.get_ref().to_string(), at }, element));
        }
    }

    fn show(_: &Vec<(Named, T)>) -> Option<String> {
        None
    }

    fn topics(_: &Vec<(Named, T)>, path: &str) -> Vec<Topic> {
        vec![Topic { optional: true, ..topic(&T::default(), &format!("{path}.NAME")) }]
    }
}
