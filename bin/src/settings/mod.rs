//! The settings of a training run: preset, then file, then `--set`, then flags; the last one wins.

mod merge;
mod sections;

use std::path::Path;

use burn_ad::augment::AugmentConfig;
use burn_ad::backbone::BackboneConfig;
use burn_ad::data::contamination::check_contamination;
use burn_ad::data::{Filter, Fit, Geometry, IndexOptions, KnownAnomalies, Layout};
use burn_ad::method::MethodConfig;
use burn_ad::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use self::merge::{Assignment, assignments, set};
pub(crate) use self::sections::{
    BackboneSettings, DEFAULT_BATCH_SIZE, DataSettings, Protocol, TrainSettings,
};
use crate::weights::ChosenWeights;

/// The method where nothing else is said.
const DEFAULT_METHOD: &str = "npad";

/// The backbone where nothing else is said: real weights can be had for it anywhere, and it is fast.
pub(crate) const DEFAULT_BACKBONE: &str = "tf_efficientnet_lite0";

/// Everything that decides what a training run gives, beside the data.
///
/// In a file (TOML or JSON): sections `[method]` (its `name`, and any of its settings), `[backbone]`,
/// `[data]`, `[anomalies]` and `[train]`. Whatever is absent keeps the preset's value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) method: MethodConfig,
    pub(crate) backbone: BackboneSettings,
    pub(crate) data: DataSettings,
    pub(crate) anomalies: KnownAnomalies,
    pub(crate) train: TrainSettings,
    /// The same, as it can be read again.
    resolved: Value,
}

impl Settings {
    /// Resolves the settings.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown, or a value does not fit; the message names the key, where
    /// it was given and, for an unknown one, the nearest that exists.
    pub(crate) fn resolve(file: Option<&Path>, sets: &[String], flags: Vec<Flag>) -> Result<Self> {
        Self::resolve_variant(file, sets, flags, &[])
    }

    /// The same with `variant` on top, which wins over all others.
    ///
    /// # Errors
    /// Those of [`resolve`](Self::resolve).
    pub(crate) fn resolve_variant(
        file: Option<&Path>,
        sets: &[String],
        flags: Vec<Flag>,
        variant: &[Override],
    ) -> Result<Self> {
        let file = match file {
            Some(path) => Some((path.display().to_string(), read(path)?)),
            None => None,
        };
        let sets = sets
            .iter()
            .map(|text| set("--set", text))
            .collect::<Result<Vec<_>>>()?;
        let variant = variant
            .iter()
            .map(|over| set(&over.origin, &over.text))
            .collect::<Result<Vec<_>>>()?;
        let method = method_name(
            file.as_ref().map(|(_, value)| value),
            &sets,
            &flags,
            &variant,
        );
        let mut resolved = defaults(&method)?;

        let mut all: Vec<Assignment> = Vec::new();
        if let Some((origin, value)) = &file {
            all.extend(assignments(&resolved, value, origin)?);
        }
        for (origin, value) in &sets {
            all.extend(assignments(&resolved, value, origin)?);
        }
        all.extend(flags.into_iter().map(|flag| Assignment {
            path: flag.path.iter().map(|&key| key.to_owned()).collect(),
            value: flag.value,
            origin: flag.name.to_owned(),
        }));
        for (origin, value) in &variant {
            all.extend(assignments(&resolved, value, origin)?);
        }
        // The preset is chosen; the name of another one that was overruled would not fit its settings.
        all.retain(|given| given.path != ["method", "name"] || !given.value.is_string());
        // One at a time, so that an error can name the one that does not fit.
        for mut assignment in all {
            name_augmentation(&mut assignment)?;
            assignment.apply(&mut resolved);
            Self::from_value(&resolved).map_err(|reason| assignment.misfit(&reason))?;
        }
        let mut settings = Self::from_value(&resolved).map_err(Error::usage)?;
        if settings.train.protocol == Protocol::Paper {
            // The papers fit on all normal images; threshold and scale come from the test set later.
            settings.train.calibration_share = 0.0;
            settings.resolved["train"]["calibration_share"] = json!(0.0);
        }
        if !settings.method.needs_backbone() {
            // Whichever is named: nobody looks through it, and no weights need to be found.
            settings.backbone = BackboneSettings {
                name: Some(BackboneConfig::None),
                ..BackboneSettings::default()
            };
            settings.resolved["backbone"] = json_of(&settings.backbone)?;
        }
        // However they were written: the same class and shares make the same run.
        let data = &settings.data;
        settings.resolved["data"]["normal_class"] = json!(data.normal_class);
        settings.resolved["data"]["train_limit"] = json!(data.train_limit);
        settings.resolved["data"]["contamination"] = json!(data.contamination);
        settings.check()?;
        Ok(settings)
    }

    /// What would otherwise show only after hours of work.
    fn check(&self) -> Result<()> {
        self.method.validate()?;
        self.anomalies.validate()?;
        let DataSettings { size, fit, .. } = self.data;
        let filter = self.data.filter.unwrap_or(Filter::Bilinear);
        Geometry { fit, size, filter }.check()?;
        check_contamination(self.data.contamination)?;
        self.method.check_size(size)?;
        let train = &self.train;
        if train.batch_size == 0 {
            return Err(Error::usage("train.batch_size must be at least 1"));
        }
        if train.watch_every == Some(0) {
            return Err(Error::usage("train.watch_every must be at least 1"));
        }
        if train.watch_every.is_some() && !self.method.watches() {
            let method = &self.method;
            return Err(
                Error::usage(format!("{method} cannot watch images while it trains"))
                    .help("leave train.watch_every out"),
            );
        }
        if !(0.0..1.0).contains(&train.calibration_share) {
            let share = train.calibration_share;
            return Err(Error::usage(format!(
                "train.calibration_share must be in [0, 1), not {share}"
            )));
        }
        if !(train.target_fpr > 0.0 && train.target_fpr < 1.0) {
            let rate = train.target_fpr;
            return Err(Error::usage(format!(
                "train.target_fpr, a false-positive rate, must be in (0, 1), not {rate}"
            )));
        }
        if self.backbone.random && self.backbone.weights.is_some() {
            let error = Error::usage("both random weights and a weights file are asked for");
            return Err(error.help("leave one of them out"));
        }
        Ok(())
    }

    /// The settings as a file would give them.
    pub(crate) fn to_value(&self) -> &Value {
        &self.resolved
    }

    /// Writes down what the settings left to the weights.
    pub(crate) fn pin(&mut self, weights: &ChosenWeights) {
        let filter = *self.data.filter.get_or_insert_with(|| weights.filter());
        self.backbone.name = Some(weights.arch());
        self.resolved["data"]["filter"] = json!(filter);
        self.resolved["backbone"]["name"] = json!(weights.arch());
    }

    /// How the dataset is split.
    pub(crate) fn index_options(&self) -> IndexOptions {
        IndexOptions {
            seed: self.train.seed,
            train_share: self.data.train_share,
            normal_class: self.data.normal_class.clone(),
            train_limit: self.data.train_limit,
            test_limit: self.data.test_limit,
        }
    }

    fn from_value(value: &Value) -> Result<Self, String> {
        let section = |name: &str| value[name].clone();
        let mut method = section("method");
        let name = method
            .as_object_mut()
            .and_then(|method| method.remove("name"))
            .and_then(|name| name.as_str().map(str::to_owned))
            .ok_or("the name of a method is a text")?;
        let family = MethodConfig::preset(&name)
            .and_then(|preset| json_of(&preset))
            .map_err(|error| error.to_string())?;
        let method = json!({ "name": family["name"], "settings": method });
        let text = |error: serde_json::Error| error.to_string();
        Ok(Self {
            method: serde_json::from_value(method).map_err(text)?,
            backbone: serde_json::from_value(section("backbone")).map_err(text)?,
            data: serde_json::from_value(section("data")).map_err(text)?,
            anomalies: serde_json::from_value(section("anomalies")).map_err(text)?,
            train: serde_json::from_value(section("train")).map_err(text)?,
            resolved: value.clone(),
        })
    }
}

/// `KEY=VALUE` that wins over everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    /// The flag it was given by, for errors.
    pub(crate) origin: String,
    /// `KEY=VALUE`.
    pub(crate) text: String,
}

/// A setting given as a flag of its own.
#[derive(Clone, Debug)]
pub(crate) struct Flag {
    name: &'static str,
    path: [&'static str; 2],
    value: Value,
}

impl Flag {
    /// `value` for the setting at `path` (section, key), given by flag `name`; `None` where it was not given.
    pub(crate) fn given(
        name: &'static str,
        path: [&'static str; 2],
        value: Option<impl Serialize>,
    ) -> Result<Option<Self>> {
        let Some(value) = value else { return Ok(None) };
        let value = json_of(&value).map_err(|error| error.context(name))?;
        Ok(Some(Self { name, path, value }))
    }
}

/// `defaults` with each `KEY=VALUE` of `--set` laid over.
///
/// # Errors
/// When a key is unknown, or a value does not fit; the message names the key and, for an unknown one, the nearest that
/// exists.
pub(crate) fn overlaid<T: Serialize + DeserializeOwned>(
    defaults: &T,
    sets: &[String],
) -> Result<T> {
    let read = |value: &Value| serde_json::from_value(value.clone());
    let mut settings = json_of(defaults)?;
    for text in sets {
        let (origin, given) = set("--set", text)?;
        for assignment in assignments(&settings, &given, &origin)? {
            assignment.apply(&mut settings);
            let fits: Result<T, _> = read(&settings);
            fits.map_err(|reason| assignment.misfit(&reason.to_string()))?;
        }
    }
    read(&settings).map_err(|error| Error::usage(error.to_string()))
}

fn json_of(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::usage(error.to_string()))
}

/// The settings of a preset before the user has said anything.
fn defaults(method: &str) -> Result<Value> {
    let preset = MethodConfig::preset(method)?;
    let size = preset.default_size();
    let preset = json_of(&preset)?;
    let mut section = Map::from_iter([("name".to_owned(), json!(method))]);
    if let Value::Object(settings) = &preset["settings"] {
        section.extend(settings.clone());
    }
    Ok(json!({
        "method": section,
        "backbone": json_of(&BackboneSettings::default())?,
        "data": json_of(&DataSettings {
            layout: Layout::Auto,
            size,
            // Differs from the papers, which crop: what is cut away is never inspected.
            fit: Fit::Letterbox,
            filter: None,
            train_share: IndexOptions::default().train_share,
            normal_class: None,
            train_limit: None,
            test_limit: None,
            contamination: 0.0,
        })?,
        "anomalies": json_of(&KnownAnomalies::default())?,
        "train": json_of(&TrainSettings {
            seed: 0,
            batch_size: DEFAULT_BATCH_SIZE,
            workers: None,
            feature_memory_mib: None,
            init_flows: None,
            init_from: None,
            watch_every: None,
            calibration_share: 0.1,
            target_fpr: 0.01,
            protocol: Protocol::Default,
            with_backbone: false,
        })?,
    }))
}

/// `method.augment` may be the name of a preset.
fn name_augmentation(assignment: &mut Assignment) -> Result<()> {
    if assignment.path == ["method", "augment"]
        && let Some(name) = assignment.value.as_str()
    {
        let preset = AugmentConfig::preset(name)
            .map_err(|error| error.context(assignment.origin.clone()))?;
        assignment.value = json_of(&preset)?;
    }
    Ok(())
}

/// The method decides which preset everything else is laid over, so it is looked for first.
fn method_name(
    file: Option<&Value>,
    sets: &[(String, Value)],
    flags: &[Flag],
    variant: &[(String, Value)],
) -> String {
    let in_value = |value: &Value| value["method"]["name"].as_str().map(str::to_owned);
    let in_sets =
        |sets: &[(String, Value)]| sets.iter().rev().find_map(|(_, value)| in_value(value));
    let flag = flags.iter().find(|flag| flag.path == ["method", "name"]);
    in_sets(variant)
        .or_else(|| flag.and_then(|flag| flag.value.as_str().map(str::to_owned)))
        .or_else(|| in_sets(sets))
        .or_else(|| file.and_then(in_value))
        .unwrap_or_else(|| DEFAULT_METHOD.to_owned())
}

fn read(path: &Path) -> Result<Value> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let parse: fn(&str) -> Result<Value, String> = match extension.to_lowercase().as_str() {
        "toml" => |text| toml::from_str(text).map_err(|error| error.to_string()),
        "json" => |text| serde_json::from_str(text).map_err(|error| error.to_string()),
        _ => {
            return Err(Error::usage("a settings file ends in .toml or .json").path(path));
        }
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::usage(format!("the settings cannot be read: {error}")).path(path)
    })?;
    parse(&text).map_err(|reason| Error::usage(reason.trim_end().to_owned()).path(path))
}

#[cfg(test)]
mod tests;
