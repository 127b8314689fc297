//! Settings of HGAD and of its ablations.

use super::loss::LossConfig;
use super::mixture::Mixture;
use crate::backbone::BackboneConfig;
use crate::error::{Error, Result};
use crate::flow::FlowConfig;

/// Settings of HGAD. Defaults are the published ones (paper, appendix C, and code of Yao et al.,
/// ECCV 2024).
///
/// Ablations: `one_class` with `loss.intra = false` is one Gaussian for everything, the baseline of
/// the paper. `loss.intra = false` with `loss.lambda_information = 0` and
/// `loss.lambda_entropy = 0` leaves one Gaussian a class; each of the three adds its part.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HgadConfig {
    /// Stride of the backbone tap.
    pub stride: usize,
    /// What the image's side is divided by for each scale; each scale gets a flow of its own.
    pub scales: Vec<usize>,
    /// The flow of each scale.
    pub flow: FlowConfig,
    /// Names of the classes in the order of the model's index; empty: those of the training
    /// images, sorted. A trained model has them here.
    pub classes: Vec<String>,
    /// Whether all images count as one class, whatever product they show.
    pub one_class: bool,
    /// Centres of a class, the main one included. Without `loss.intra` there is the main one alone.
    pub centres: usize,
    /// What is minimised.
    pub loss: LossConfig,
    /// Which images are seen how often, and how fast is learnt.
    pub schedule: ScheduleConfig,
    /// Which maps become the anomaly map.
    pub evidence: Evidence,
    /// Standard deviation of the smoothing of each map, in pixels of the input.
    pub sigma: f64,
}

/// Which images are seen how often, and how fast is learnt.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Meta epochs. 0 leaves everything as it is drawn.
    pub meta_epochs: usize,
    /// Passes over the images in a meta epoch.
    pub sub_epochs: usize,
    /// The meta epoch from which the centres within classes are learnt.
    pub intra_from: usize,
    /// Meta epochs over which the learning rate rises from a tenth.
    pub warm_up: usize,
    /// Adam's learning rate at its highest; it falls to a thousandth along a cosine.
    pub learning_rate: f64,
    /// Factor on the learning rate of centres and logits. The paper means 3; in the published code
    /// the schedule overwrites it before the first step, so 1 is what gave its results.
    pub center_lr_scale: f64,
    /// L2 penalty on the flows; centres and logits have none.
    pub weight_decay: f64,
    /// Images of a batch; all vectors of one scale are one step.
    pub batch: usize,
}

/// Which maps become the anomaly map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// The likelihood under the image's class times the entropy of the classes (paper).
    Product,
    /// The likelihood alone; also what one class alone comes to, whose entropy is 0.
    Likelihood,
    /// The entropy alone.
    Entropy,
}

impl HgadConfig {
    /// HGAD as published.
    pub fn hgad() -> Self {
        Self {
            stride: 16,
            scales: vec![1, 2, 4],
            flow: FlowConfig::hgad(),
            classes: Vec::new(),
            one_class: false,
            centres: 10,
            loss: LossConfig::hgad(),
            schedule: ScheduleConfig {
                meta_epochs: 25,
                sub_epochs: 8,
                intra_from: 2,
                warm_up: 2,
                learning_rate: 2e-4,
                center_lr_scale: 1.0,
                weight_decay: 1e-4,
                batch: 8,
            },
            evidence: Evidence::Product,
            sigma: 4.0,
        }
    }

    /// # Errors
    /// When a field is out of its range.
    pub fn validate(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::usage(message));
        if self.scales.is_empty() || self.scales.contains(&0) {
            return wrong(
                "'scales' must name at least one divisor of the image's side, from 1".into(),
            );
        }
        for (index, scale) in self.scales.iter().enumerate() {
            if self.scales[..index].contains(scale) {
                return wrong(format!("'scales' names {scale} twice"));
            }
        }
        for (index, class) in self.classes.iter().enumerate() {
            if self.classes[..index].contains(class) {
                return wrong(format!("'classes' names '{class}' twice"));
            }
        }
        self.flow.validate()?;
        self.loss.validate()?;
        let schedule = &self.schedule;
        for (name, value) in [
            ("centres", self.centres),
            ("schedule.sub_epochs", schedule.sub_epochs),
            ("schedule.batch", schedule.batch),
        ] {
            if value == 0 {
                return wrong(format!("'{name}' must be at least 1"));
            }
        }
        for (name, value) in [
            ("schedule.learning_rate", schedule.learning_rate),
            ("schedule.center_lr_scale", schedule.center_lr_scale),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return wrong(format!("'{name}' must be positive, not {value}"));
            }
        }
        for (name, value) in [
            ("schedule.weight_decay", schedule.weight_decay),
            ("sigma", self.sigma),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return wrong(format!("'{name}' must be 0 or more, not {value}"));
            }
        }
        Ok(())
    }

    /// Centres of a class that take part.
    pub(super) fn centres_used(&self) -> usize {
        if self.loss.intra { self.centres } else { 1 }
    }

    /// Parameters that training changes, and all of them with the fixed rotations as FrEIA counts
    /// these (each and its inverse). As long as the classes are not known they count as one.
    ///
    /// # Errors
    /// When the backbone has no tap at the stride.
    pub fn parameters(&self, backbone: &BackboneConfig) -> Result<[usize; 2]> {
        let level = backbone.levels_at_strides(&[self.stride])?[0];
        let channels = backbone.feature_info()[level].channels;
        let classes = if self.one_class {
            1
        } else {
            self.classes.len().max(1)
        };
        let mixture = Mixture::parameters(classes, self.centres_used(), channels);
        let trainable = self.flow.trainable_parameters(channels) + mixture;
        let fixed = self.flow.fixed_parameters(channels);
        Ok([trainable, trainable + fixed].map(|count| count * self.scales.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let config = HgadConfig::hgad;
        let schedule = config().schedule;
        let twice = || vec!["a".to_owned(), "a".to_owned()];
        for (config, word) in [
            (
                HgadConfig {
                    scales: vec![],
                    ..config()
                },
                "scales",
            ),
            (
                HgadConfig {
                    scales: vec![1, 1],
                    ..config()
                },
                "scales",
            ),
            (
                HgadConfig {
                    classes: twice(),
                    ..config()
                },
                "classes",
            ),
            (
                HgadConfig {
                    centres: 0,
                    ..config()
                },
                "centres",
            ),
            (
                HgadConfig {
                    sigma: -1.0,
                    ..config()
                },
                "sigma",
            ),
            (
                HgadConfig {
                    schedule: ScheduleConfig {
                        center_lr_scale: 0.0,
                        ..schedule.clone()
                    },
                    ..config()
                },
                "center_lr_scale",
            ),
            (
                HgadConfig {
                    schedule: ScheduleConfig {
                        batch: 0,
                        ..schedule
                    },
                    ..config()
                },
                "batch",
            ),
        ] {
            let error = config.validate().expect_err(word);
            assert!(
                error.is_usage() && error.to_string().contains(word),
                "{error}"
            );
        }
    }

    /// The method's description: 14.3 million in the flows, about 14.4 million with centres and logits.
    #[test]
    fn parameters_are_those_of_the_published_defaults() {
        let backbone = "tf_efficientnet_b6".parse().expect("known");
        let config = HgadConfig::hgad();
        let flows = 3 * config.flow.trainable_parameters(200);
        assert!((14.25e6..14.35e6).contains(&(flows as f64)), "{flows}");
        let config = HgadConfig {
            classes: (0..15).map(|class| class.to_string()).collect(),
            ..config
        };
        let [trainable, all] = config.parameters(&backbone).expect("it has the tap");
        assert!(
            (14.35e6..14.45e6).contains(&(trainable as f64)),
            "{trainable}"
        );
        assert_eq!(all - trainable, 3 * 12 * 2 * 200 * 200);
    }
}
