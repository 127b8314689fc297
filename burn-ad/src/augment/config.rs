//! Which way of making pseudo-anomalies, with which settings.

use serde::{Deserialize, Serialize};

use super::perlin::Perlin;
use super::poisson::Poisson;
use super::rpag::Rpag;
use crate::error::{Error, Result};

/// How pseudo-anomalies are made (BGAD's table 9 compares these).
///
/// As a setting: `"none"` or a choice with its settings, of which those left out are the defaults:
/// `{ rpag = { attempts = 8 } }`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AugmentConfig {
    /// Not at all: known anomalies are used as they are.
    #[default]
    None,
    /// Known anomalies, augmented, on normal images (BGAD).
    Rpag(Rpag),
    /// A texture shows through where Perlin noise is high (DRAEM).
    Perlin(Perlin),
    /// Scaled patches of another image, blended seamlessly (NSA).
    Poisson(Poisson),
}

impl AugmentConfig {
    /// The names that [`preset`](Self::preset) knows.
    pub const PRESETS: [&'static str; 5] = ["none", "rpag", "perlin", "perlin-code", "poisson"];

    /// Published settings.
    ///
    /// # Errors
    /// When there is no such preset.
    pub fn preset(name: &str) -> Result<Self> {
        Ok(match name {
            "none" => Self::None,
            "rpag" => Self::Rpag(Rpag::default()),
            "perlin" => Self::Perlin(Perlin::paper()),
            "perlin-code" => Self::Perlin(Perlin::published_code()),
            "poisson" => Self::Poisson(Poisson::default()),
            _ => {
                return Err(Error::usage(format!(
                    "there is no way to make pseudo-anomalies called '{name}'"
                ))
                .help(format!("choose from {}", Self::PRESETS.join(", "))));
            }
        })
    }

    /// Whether the source must be a known anomaly with its mask, rather than any image.
    pub fn needs_anomaly(&self) -> bool {
        matches!(self, Self::None | Self::Rpag(_))
    }

    /// # Errors
    /// When a setting is out of its range.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Rpag(rpag) => rpag.validate(),
            Self::Perlin(perlin) => perlin.validate(),
            Self::Poisson(poisson) => poisson.validate(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn presets_are_valid_and_survive_json() {
        for name in AugmentConfig::PRESETS {
            let preset = AugmentConfig::preset(name).unwrap();
            preset.validate().unwrap();
            let json = serde_json::to_string(&preset).unwrap();
            assert_eq!(
                serde_json::from_str::<AugmentConfig>(&json).unwrap(),
                preset,
                "{json}"
            );
        }
        assert!(AugmentConfig::preset("rpga").unwrap_err().is_usage());
    }

    #[test]
    fn unknown_and_wrong_settings_are_errors_and_missing_ones_defaults() {
        let read = serde_json::from_str::<AugmentConfig>;
        assert!(read(r#"{"rpag": {"atempts": 3}}"#).is_err());
        let partial = read(r#"{"rpag": {"attempts": 3}}"#).unwrap();
        let expected = Rpag {
            attempts: 3,
            ..Rpag::default()
        };
        assert_eq!(partial, AugmentConfig::Rpag(expected));
        for wrong in [
            r#"{"rpag": {"attempts": 0}}"#,
            r#"{"rpag": {"augmentations": 11}}"#,
            r#"{"rpag": {"foreground_share": 1.0}}"#,
            r#"{"perlin": {"texture_weight": [0.9, 0.1]}}"#,
            r#"{"perlin": {"texture_weight": [0.5, 1.5]}}"#,
            r#"{"poisson": {"patches": 0}}"#,
            r#"{"poisson": {"scale": [0.0, 1.0]}}"#,
            r#"{"poisson": {"half_side": [0.1, 0.7]}}"#,
            r#"{"poisson": {"visible": -1.0}}"#,
        ] {
            assert!(
                read(wrong).unwrap().validate().unwrap_err().is_usage(),
                "{wrong}"
            );
        }
    }
}
