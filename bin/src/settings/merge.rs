//! Laying a user's settings over others, key by key.

use burn_ad::{Error, Result};
use serde_json::{Map, Value};

/// One setting that the user gave.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    /// Keys from the outside in.
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    /// The file or flag.
    pub(super) origin: String,
}

impl Assignment {
    /// Sets the value; tables on the way exist, as [`assignments`] has checked.
    pub(super) fn apply(&self, settings: &mut Value) {
        let mut target = settings;
        for key in &self.path {
            target = &mut target[key.as_str()];
        }
        *target = self.value.clone();
    }

    /// The error for a value of the wrong type or name.
    pub(super) fn misfit(&self, reason: &str) -> Error {
        let key = self.path.join(".");
        Error::usage(format!("{key} = {}: {reason}", self.value)).context(self.origin.clone())
    }
}

/// A table of settings, whose keys are laid over one by one. A table with one key is a choice with a value
/// (`{ subset = 100 }`), which is replaced whole.
fn as_table(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object().filter(|map| map.len() != 1)
}

/// Takes `given` apart into single settings that exist in `known`.
///
/// # Errors
/// When a key does not exist; the message names the nearest one.
pub(super) fn assignments(known: &Value, given: &Value, origin: &str) -> Result<Vec<Assignment>> {
    let mut found = Vec::new();
    collect(known, known, given, &mut Vec::new(), origin, &mut found)?;
    Ok(found)
}

fn collect(
    root: &Value,
    known: &Value,
    given: &Value,
    path: &mut Vec<String>,
    origin: &str,
    found: &mut Vec<Assignment>,
) -> Result<()> {
    let Some(table) = as_table(known) else {
        found.push(Assignment {
            path: path.clone(),
            value: given.clone(),
            origin: origin.to_owned(),
        });
        return Ok(());
    };
    let Value::Object(given) = given else {
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        let what = match path.as_slice() {
            [] => "the settings are".to_owned(),
            path => format!("{} is", path.join(".")),
        };
        return Err(Error::usage(format!("{what} a table, not {given}"))
            .context(origin)
            .help(format!("its keys are {}", keys.join(", "))));
    };
    for (key, value) in given {
        path.push(key.clone());
        let Some(next) = table.get(key) else {
            let unknown = path.join(".");
            let mut error =
                Error::usage(format!("there is no setting '{unknown}'")).context(origin);
            if let Some(nearest) = nearest(root, path) {
                error = error.help(format!("did you mean '{nearest}'?"));
            }
            return Err(error);
        };
        collect(root, next, value, path, origin, found)?;
        path.pop();
    }
    Ok(())
}

/// The existing setting that looks most like `path`: the whole of it, or its last key under another table.
fn nearest(root: &Value, path: &[String]) -> Option<String> {
    let mut all = Vec::new();
    list(root, &mut Vec::new(), &mut all);
    let (whole, last) = (path.join("."), path.last().map_or("", String::as_str));
    let likeness = |candidate: &[String]| {
        let by_whole = strsim::jaro_winkler(&whole, &candidate.join("."));
        let by_last = strsim::jaro_winkler(last, candidate.last().map_or("", String::as_str));
        // A table is not meant where a setting below it is as near.
        let same_depth = f64::from(u8::from(candidate.len() == path.len()));
        by_whole.max(0.95 * by_last) + 0.01 * same_depth
    };
    let best = all
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.map(|candidate| candidate.join("."))
}

fn list(value: &Value, path: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
    for (key, value) in as_table(value).into_iter().flatten() {
        path.push(key.clone());
        all.push(path.clone());
        list(value, path, all);
        path.pop();
    }
}

/// `KEY=VALUE` as (where it was given, nested tables); the value is JSON, TOML, or else a plain text.
///
/// # Errors
/// When there is no `=` or no key.
pub(super) fn set(origin: &str, text: &str) -> Result<(String, Value)> {
    let wrong = || {
        Error::usage(format!("{origin} '{text}' is not KEY=VALUE"))
            .help("for instance method.sigma=2")
    };
    let (key, value) = text.split_once('=').ok_or_else(wrong)?;
    let keys: Vec<&str> = key.split('.').map(str::trim).collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(wrong());
    }
    let value = parse(value.trim());
    let nested = keys.iter().rev().fold(value, |value, key| {
        Value::Object(Map::from_iter([((*key).to_owned(), value)]))
    });
    Ok((format!("{origin} {text}"), nested))
}

fn parse(text: &str) -> Value {
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    let toml: Result<Map<String, Value>, _> = toml::from_str(&format!("value = {text}"));
    match toml.map(|mut table| table.remove("value")) {
        Ok(Some(value)) => value,
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_json_toml_or_text() {
        for (text, value) in [
            ("2.5", json!(2.5)),
            ("[4, 8]", json!([4, 8])),
            ("{ subset = 100 }", json!({ "subset": 100 })),
            ("{\"subset\": 100}", json!({ "subset": 100 })),
            ("true", json!(true)),
            ("unit-norm", json!("unit-norm")),
            ("'max'", json!("max")),
        ] {
            let (_, found) = set("--set", &format!("a.b={text}")).unwrap();
            assert_eq!(found, json!({ "a": { "b": value } }), "{text}");
        }
        for text in ["sigma", "=2", "a..b=2"] {
            assert!(set("--set", text).unwrap_err().is_usage(), "{text}");
        }
    }

    #[test]
    fn a_choice_with_a_value_is_replaced_whole() {
        let known = json!({ "method": { "reduction": { "all": 1 }, "sigma": 1 }, "x": 1 });
        let given = json!({ "method": { "reduction": { "subset": 3 } } });
        let found = assignments(&known, &given, "here").unwrap();
        let mut settings = known;
        found.iter().for_each(|one| one.apply(&mut settings));
        let expected = json!({ "method": { "reduction": { "subset": 3 }, "sigma": 1 }, "x": 1 });
        assert_eq!(settings, expected);
    }
}
