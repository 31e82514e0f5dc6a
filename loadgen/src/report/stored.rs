//! Results that were written before, read back.

use std::path::Path;

use serde_json::Value;

use super::{Rounds, RunResult, SCHEMA};
use crate::error::UsageError;

/// The rounds in a file: of `run --rounds N --json`, or of several `run --json` one after the other.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn rounds(path: &Path) -> Result<Vec<RunResult>, UsageError> {
    let mut rounds = Vec::new();
    for value in objects(path)? {
        match kind(&value) {
            "run" => rounds.push(read(path, value)?),
            "rounds" => rounds.extend(read::<Rounds>(path, value)?.rounds),
            other => return Err(wrong(path, format!("it holds a result of `{other}`, not of `run`"))),
        }
    }
    if rounds.is_empty() {
        return Err(wrong(path, "it is empty".to_owned()));
    }
    Ok(rounds)
}

/// The one object of kind `of` in a file.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn one<T: serde::de::DeserializeOwned>(path: &Path, of: &str) -> Result<T, UsageError> {
    let mut objects = objects(path)?;
    match (objects.pop(), objects.is_empty()) {
        (Some(value), true) if kind(&value) == of => read(path, value),
        (Some(value), true) => Err(wrong(path, format!("it holds a result of `{}`, not of `{of}`", kind(&value)))),
        (None, _) => Err(wrong(path, "it is empty".to_owned())),
        (Some(_), false) => Err(wrong(path, "it holds several results, where one is wanted".to_owned())),
    }
}

fn kind(value: &Value) -> &str {
    value["kind"].as_str().unwrap_or("something else")
}

fn objects(path: &Path) -> Result<Vec<Value>, UsageError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| UsageError::FileUnreadable { path: path.to_owned(), source })?;
    let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>().collect::<Result<Vec<_>, _>>();
    let values = values.map_err(|why| wrong(path, why.to_string()))?;
    for value in &values {
        match value["schema"].as_u64() {
            Some(schema) if schema <= u64::from(SCHEMA) => {}
            Some(schema) => {
                return Err(wrong(path, format!("its schema is {schema}, and this version knows {SCHEMA} and older")));
            }
            None => return Err(wrong(path, "it has no field `schema`".to_owned())),
        }
    }
    Ok(values)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path, value: Value) -> Result<T, UsageError> {
    serde_json::from_value(value).map_err(|why| wrong(path, why.to_string()))
}

fn wrong(path: &Path, why: String) -> UsageError {
    UsageError::BadResult { path: path.to_owned(), why }
}
