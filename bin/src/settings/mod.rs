//! The settings of a training run: preset, then file, then `--set`, then flags; the last one wins.

mod merge;

use std::path::{Path, PathBuf};

use burn_ad::backbone::BackboneConfig;
use burn_ad::data::{Filter, Fit, Geometry, IndexOptions, Layout};
use burn_ad::method::MethodConfig;
use burn_ad::{Error, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::merge::{Assignment, assignments, set};
use crate::weights::ChosenWeights;

/// The method where nothing else is said.
const DEFAULT_METHOD: &str = "npad";

/// The backbone where nothing else is said: real weights can be had for it anywhere, and it is fast.
pub(crate) const DEFAULT_BACKBONE: &str = "tf_efficientnet_lite0";

/// Everything that decides what a training run gives, beside the data.
///
/// In a file (TOML or JSON): sections `[method]` (its `name`, and any of its settings), `[backbone]`,
/// `[data]` and `[train]`. Whatever is absent keeps the preset's value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) method: MethodConfig,
    pub(crate) backbone: BackboneSettings,
    pub(crate) data: DataSettings,
    pub(crate) train: TrainSettings,
    /// The same, as it can be read again.
    resolved: Value,
}

/// Section `[backbone]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackboneSettings {
    /// Architecture; where absent that of the weights file, else the default.
    pub(crate) name: Option<BackboneConfig>,
    /// Weights file: imported, or a checkpoint. Relative to the working directory.
    pub(crate) weights: Option<PathBuf>,
    /// Random weights, drawn from the seed.
    pub(crate) random: bool,
}

/// Section `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataSettings {
    /// How the images are arranged in folders.
    pub(crate) layout: Layout,
    /// Side of the network's square input in pixels.
    pub(crate) size: usize,
    /// What happens to the aspect ratio.
    pub(crate) fit: Fit,
    /// Resampling filter; where absent, the one the backbone's weights were trained with.
    pub(crate) filter: Option<Filter>,
    /// Share of the normal images that train, in layouts without a split of their own.
    pub(crate) train_share: f64,
}

/// Section `[train]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainSettings {
    /// Reproduces the run: split, random draws, random weights.
    pub(crate) seed: u64,
    /// Images per forward pass.
    pub(crate) batch_size: usize,
    /// Threads that decode images; where absent, one per core.
    pub(crate) workers: Option<usize>,
    /// Share of the training images kept aside for the threshold.
    pub(crate) calibration_share: f64,
    /// Share of normal images allowed above the threshold.
    pub(crate) target_fpr: f64,
    /// Where threshold and scale come from.
    pub(crate) protocol: Protocol,
    /// Whether the backbone's weights go into the model directory.
    pub(crate) with_backbone: bool,
}

/// Where thresholds and the scale of scores come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    /// Normal training images kept aside: scores mean something for one image alone.
    #[default]
    Default,
    /// The test set, as in the papers: for reproducing their tables only.
    Paper,
}

/// Images per forward pass where nothing else is said.
pub(crate) const DEFAULT_BATCH_SIZE: usize = 8;

impl Settings {
    /// Resolves the settings.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown, or a value does not fit; the message names the key, where
    /// it was given and, for an unknown one, the nearest that exists.
    pub(crate) fn resolve(file: Option<&Path>, sets: &[String], flags: Vec<Flag>) -> Result<Self> {
        let file = match file {
            Some(path) => Some((path.display().to_string(), read(path)?)),
            None => None,
        };
        let sets = sets
            .iter()
            .map(|text| set(text))
            .collect::<Result<Vec<_>>>()?;
        let method = method_name(file.as_ref().map(|(_, value)| value), &sets, &flags);
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
        // One at a time, so that an error can name the one that does not fit.
        for assignment in all {
            assignment.apply(&mut resolved);
            Self::from_value(&resolved).map_err(|reason| assignment.misfit(&reason))?;
        }
        let mut settings = Self::from_value(&resolved).map_err(Error::usage)?;
        if settings.train.protocol == Protocol::Paper {
            // The papers fit on all normal images; threshold and scale come from the test set later.
            settings.train.calibration_share = 0.0;
            settings.resolved["train"]["calibration_share"] = json!(0.0);
        }
        settings.check()?;
        Ok(settings)
    }

    /// What would otherwise show only after hours of work.
    fn check(&self) -> Result<()> {
        self.method.validate()?;
        let DataSettings { size, fit, .. } = self.data;
        let filter = self.data.filter.unwrap_or(Filter::Bilinear);
        Geometry { fit, size, filter }.check()?;
        let train = &self.train;
        if train.batch_size == 0 {
            return Err(Error::usage("train.batch_size must be at least 1"));
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
            train: serde_json::from_value(section("train")).map_err(text)?,
            resolved: value.clone(),
        })
    }
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

fn json_of(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::usage(error.to_string()))
}

/// The settings of a preset before the user has said anything.
fn defaults(method: &str) -> Result<Value> {
    let preset = json_of(&MethodConfig::preset(method)?)?;
    let mut section = Map::from_iter([("name".to_owned(), json!(method))]);
    if let Value::Object(settings) = &preset["settings"] {
        section.extend(settings.clone());
    }
    Ok(json!({
        "method": section,
        "backbone": json_of(&BackboneSettings::default())?,
        "data": json_of(&DataSettings {
            layout: Layout::Auto,
            size: 256,
            // Differs from the papers, which crop: what is cut away is never inspected.
            fit: Fit::Letterbox,
            filter: None,
            train_share: IndexOptions::default().train_share,
        })?,
        "train": json_of(&TrainSettings {
            seed: 0,
            batch_size: DEFAULT_BATCH_SIZE,
            workers: None,
            calibration_share: 0.1,
            target_fpr: 0.01,
            protocol: Protocol::Default,
            with_backbone: false,
        })?,
    }))
}

/// The method decides which preset everything else is laid over, so it is looked for first.
fn method_name(file: Option<&Value>, sets: &[(String, Value)], flags: &[Flag]) -> String {
    let in_value = |value: &Value| value["method"]["name"].as_str().map(str::to_owned);
    let flag = flags.iter().find(|flag| flag.path == ["method", "name"]);
    flag.and_then(|flag| flag.value.as_str().map(str::to_owned))
        .or_else(|| sets.iter().rev().find_map(|(_, value)| in_value(value)))
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use burn_ad::method::npad::{ImageScore, Reduction};

    fn file(name: &str, text: &str) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Settings::resolve(Some(&path), &[], Vec::new())
    }

    fn npad(settings: &Settings) -> burn_ad::method::npad::NpadConfig {
        match &settings.method {
            MethodConfig::Npad(config) => config.clone(),
            other => panic!("{other} is not of N-pad's family"),
        }
    }

    #[test]
    fn flags_win_over_set_over_file_over_preset() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(
            &path,
            "[train]\nseed = 1\nbatch_size = 2\n[data]\nsize = 64\n",
        )
        .unwrap();
        let sets = ["train.seed=5".to_owned(), "train.batch_size=3".to_owned()];
        let flag = Flag::given("--seed", ["train", "seed"], Some(9)).unwrap();
        let settings = Settings::resolve(Some(&path), &sets, flag.into_iter().collect()).unwrap();
        let train = &settings.train;
        assert_eq!(
            (train.seed, train.batch_size, settings.data.size),
            (9, 3, 64)
        );
        assert_eq!(train.target_fpr, 0.01);
    }

    #[test]
    fn a_file_chooses_its_preset_and_changes_nested_settings() {
        let text = "[method]\nname = 'patchcore'\nsigma = 2\nreduction = { subset = 100 }\n\
                    image_score = 'max'\n[method.bank]\nshare = 0.1\n";
        let config = npad(&file("a.toml", text).unwrap());
        let preset = burn_ad::method::npad::NpadConfig::patchcore();
        assert_eq!(config.sigma, 2.0);
        assert_eq!(config.reduction, Reduction::Subset(100));
        assert_eq!(config.image_score, ImageScore::Max);
        assert_eq!(config.bank.share, 0.1);
        assert_eq!(config.bank.max_members, preset.bank.max_members);
        assert_eq!(config.taps, preset.taps);
    }

    #[test]
    fn an_unknown_key_names_the_nearest_and_the_file() {
        for (text, nearest) in [
            ("[method]\nsigm = 2\n", "method.sigma"),
            ("[method.gaussian]\nradus = 2\n", "method.gaussian.radius"),
            ("seed = 2\n", "train.seed"),
            ("[trian]\nseed = 2\n", "train"),
        ] {
            let error = file("a.toml", text).unwrap_err();
            let message = error.to_string();
            assert!(error.is_usage(), "{message}");
            assert!(message.contains("a.toml"), "{message}");
            assert!(
                message.contains(&format!("did you mean '{nearest}'")),
                "{message}"
            );
        }
    }

    #[test]
    fn a_value_that_does_not_fit_names_its_key() {
        for (name, text, part) in [
            ("a.toml", "[method]\nsigma = 'wide'\n", "method.sigma"),
            ("a.json", r#"{"data": {"fit": "stretch"}}"#, "data.fit"),
            (
                "a.json",
                r#"{"method": {"reduction": {"halve": 2}}}"#,
                "method.reduction",
            ),
            ("a.json", r#"{"method": {"name": "padm"}}"#, "padm"),
            ("a.toml", "[train]\nseed = -1\n", "train.seed"),
            ("a.toml", "method = 3\n", "method"),
            ("a.toml", "method = ", "a.toml"),
            ("a.yaml", "", ".toml or .json"),
        ] {
            let error = file(name, text).unwrap_err();
            assert!(error.is_usage(), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn resolved_settings_read_back_the_same() {
        for method in MethodConfig::PRESETS {
            let sets = [
                format!("method.name={method}"),
                "train.protocol=paper".to_owned(),
            ];
            let settings = Settings::resolve(None, &sets, Vec::new()).unwrap();
            assert_eq!(settings.train.calibration_share, 0.0);
            let again = file("resolved.json", &settings.to_value().to_string()).unwrap();
            assert_eq!(again, settings);
        }
    }

    #[test]
    fn contradictions_are_usage_errors() {
        let sets = ["backbone.random=true", "backbone.weights=x.pth"].map(str::to_owned);
        assert!(
            Settings::resolve(None, &sets, Vec::new())
                .unwrap_err()
                .is_usage()
        );
    }
}
