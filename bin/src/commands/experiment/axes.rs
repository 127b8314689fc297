//! What an experiment varies: named sets of settings, and settings with their values.

use burn_ad::{Error, Result};

use crate::settings::Override;

/// A named set of settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) sets: Vec<Override>,
}

impl Variant {
    /// Reads `NAME: KEY=VALUE; KEY=VALUE`. Without a name the settings are the name; without settings it is the
    /// experiment as it stands.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (name, sets) = match text.split_once(':') {
            // A colon of a value is none behind a name.
            Some((name, sets)) if !name.contains('=') => (name.trim(), sets),
            _ if text.contains('=') => (text.trim(), text),
            _ => (text.trim(), ""),
        };
        if name.is_empty() {
            return Err(Error::usage(format!("--variant '{text}' has no name"))
                .help("for instance --variant 'no weights: method.loss.weights.enabled=false'"));
        }
        let sets = sets.split(';').map(str::trim).filter(|set| !set.is_empty());
        let origin = format!("--variant '{name}'");
        let sets: Vec<Override> = sets.map(|set| over(&origin, set)).collect::<Result<_>>()?;
        Ok(Self {
            name: name.to_owned(),
            sets,
        })
    }
}

/// A setting and the values it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) key: String,
    pub(super) values: Vec<String>,
}

impl Axis {
    /// Reads `KEY=V1,V2`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!("--vary '{text}' is not KEY=VALUE,VALUE"))
                .help("for instance --vary method.loss.beta=0.01,0.05")
        };
        let (key, values) = text.split_once('=').ok_or_else(wrong)?;
        let values: Vec<String> = split_values(values);
        if key.trim().is_empty() || values.iter().any(String::is_empty) {
            return Err(wrong());
        }
        Ok(Self {
            key: key.trim().to_owned(),
            values,
        })
    }
}

/// At the commas outside brackets and quotes, which belong to a value.
fn split_values(text: &str) -> Vec<String> {
    let (mut values, mut depth, mut quote) = (vec![String::new()], 0usize, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), _) => quote = (c != open).then_some(open),
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                values.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(value) = values.last_mut() {
            value.push(c);
        }
    }
    values.iter().map(|value| value.trim().to_owned()).collect()
}

/// One `KEY=VALUE` of an experiment.
pub(super) fn over(origin: &str, text: &str) -> Result<Override> {
    let key = text.split('=').next().unwrap_or_default().trim();
    for (reserved, flag) in [
        ("train.seed", "--seeds"),
        (
            "anomalies",
            "--anomalies, --anomaly-ratio, --anomaly-kinds, --anomaly-classes and --split",
        ),
    ] {
        if key == reserved || key.starts_with(&format!("{reserved}.")) {
            return Err(Error::usage(format!(
                "{origin}: an experiment decides about {key} itself"
            ))
            .help(format!("use {flag}")));
        }
    }
    Ok(Override {
        origin: origin.to_owned(),
        text: text.to_owned(),
    })
}

/// The last word of a key, where it is enough to tell axes apart.
pub(super) fn short(axis: &Axis, all: &[Axis]) -> String {
    let last = |axis: &Axis| axis.key.rsplit('.').next().unwrap_or_default().to_owned();
    let name = last(axis);
    match all.iter().filter(|other| last(other) == name).count() {
        1 => name,
        _ => axis.key.clone(),
    }
}
