//! Settings of IGD, of its ablations and of the baselines it is compared with.

use burn::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::network::{Generator, GeneratorPlan};
use super::objective::Objective;
use crate::backbone::BackboneConfig;
use crate::error::{Error, Result};
use crate::network::residual::{Maker, Normalisation, blocks};
use crate::network::{Init, NormMode};
use crate::ssim::MsSsim;

/// Side of the patches that the local model looks at.
pub(super) const PATCH: usize = 32;

/// Settings of IGD. Defaults are the paper's (Chen et al., AAAI 2022); where the published code differs, a
/// setting says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IgdConfig {
    /// Which parts of the loss there are (tables 5 and 6).
    pub strategy: Strategy,
    /// Which models there are.
    pub scales: Scales,
    /// The model of whole images.
    pub global: ScaleConfig,
    /// The model of patches of 32 x 32 pixels.
    pub local: ScaleConfig,
    /// Which patches the local model looks at.
    pub patches: PatchConfig,
    /// Values of a latent vector.
    pub latent: usize,
    /// The numbers in the losses.
    pub loss: LossConfig,
    /// How long and how fast is learnt.
    pub schedule: ScheduleConfig,
    /// Statistics of batch normalisation in training steps; `eval` is what the published code does.
    pub norm_mode: NormMode,
    /// Whether images are mirrored at random.
    pub flip: bool,
    /// What the parts of the score weigh.
    pub score: ScoreConfig,
}

/// Which parts of the loss there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Mean squared error of reconstructions.
    Mse,
    /// MS-SSIM and absolute error of reconstructions (eq. 12).
    Rec,
    /// And the Gaussian anomaly classifier (eq. 8).
    RecGac,
    /// And the interpolation critic (eqs. 10, 11): IGD.
    Igd,
    /// Distance to a fixed centre (Deep SVDD; the encoder has no offsets).
    Dsvdd,
    /// And the reconstruction of `rec`.
    DsvddRec,
}

impl Strategy {
    /// Whether images are reconstructed.
    pub fn reconstructs(self) -> bool {
        self != Self::Dsvdd
    }

    /// Whether the Gaussian classifier takes part.
    pub fn classifies(self) -> bool {
        matches!(self, Self::RecGac | Self::Igd)
    }

    /// Whether vectors are drawn to a centre that stays.
    pub fn is_svdd(self) -> bool {
        matches!(self, Self::Dsvdd | Self::DsvddRec)
    }

    /// Whether a critic takes part.
    pub fn interpolates(self) -> bool {
        self == Self::Igd
    }
}

/// Which models there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scales {
    /// One of whole images and one of patches; scores are their mean.
    Both,
    /// One of whole images.
    Global,
    /// One of patches; of images of 32 x 32 pixels that is one of whole images.
    Local,
}

impl Scales {
    /// In the order of training.
    pub fn iter(self) -> impl Iterator<Item = Scale> {
        let all = match self {
            Self::Both => &[Scale::Global, Scale::Local][..],
            Self::Global => &[Scale::Global],
            Self::Local => &[Scale::Local],
        };
        all.iter().copied()
    }
}

/// A model's field of view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Whole images.
    #[default]
    Global,
    /// Patches.
    Local,
}

impl Scale {
    /// The name in files and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Local => "local",
        }
    }
}

/// Where latent vectors come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderSource {
    /// The frozen backbone's deepest tap, its mean over positions, and a linear layer that is learnt:
    /// weights from ImageNet or from `burn-ad pretrain`.
    Backbone,
    /// An encoder that is learnt with everything else.
    Scratch,
}

/// Settings of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleConfig {
    /// Where latent vectors come from.
    pub encoder: EncoderSource,
    /// Channels of the first maps of the encoder that is learnt, and of the critic.
    pub width: usize,
    /// Channels of the last maps of the decoder.
    pub decoder_width: usize,
    /// Side of MS-SSIM's Gaussian window.
    pub window: usize,
    /// What the scales of MS-SSIM weigh, finest first.
    pub weights: Vec<f64>,
    /// Images of a step.
    pub batch: usize,
}

/// Which patches the local model looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchConfig {
    /// Pixels from one patch to the next.
    pub stride: usize,
    /// Patches of an image that are learnt from in an epoch, drawn anew each time; 0 for all.
    pub drawn: usize,
}

/// The numbers in the losses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Weight of the absolute error against MS-SSIM, rho of eq. 12, in `[0, 1]`.
    pub rho: f64,
    /// Weight of fooling the critic, lambda 3 of eq. 11.
    pub lambda: f64,
    /// Shares of an image in the mixture with its reconstruction that the critic sees.
    pub zeta: Zeta,
}

/// Shares of an image in a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zeta {
    /// Drawn from (0, 1) for each image (the paper).
    Uniform,
    /// 0.2 (the published code).
    Fixed,
}

impl Zeta {
    /// The share for one image.
    pub(super) fn draw(self, rng: &mut ChaCha8Rng) -> f32 {
        match self {
            Self::Uniform => rng.random(),
            Self::Fixed => 0.2,
        }
    }
}

/// How long and how fast is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Passes over the images.
    pub epochs: usize,
    /// Epochs from one E-step to the next.
    pub e_step: usize,
    /// Both Adams' first learning rate.
    pub learning_rate: f64,
    /// Power of its decay to zero.
    pub decay: f64,
    /// Adam's weight decay of encoder and decoder.
    pub weight_decay: f64,
}

impl ScheduleConfig {
    /// The learning rate of step `step` of `steps`.
    pub(super) fn rate(&self, step: u64, steps: u64) -> f64 {
        let left = 1.0 - step as f64 / steps.max(1) as f64;
        self.learning_rate * left.powf(self.decay)
    }
}

/// What the parts of the score weigh: reconstruction, then classifier. With two models the score is the
/// mean of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreConfig {
    /// Of the model of whole images.
    pub global: [f64; 2],
    /// Of the model of patches.
    pub local: [f64; 2],
}

impl IgdConfig {
    /// For products: a global model on a frozen backbone and a local one from scratch, weighed as in the
    /// published code.
    pub fn products() -> Self {
        let scale = |encoder, window, weights: &[f64]| ScaleConfig {
            encoder,
            width: 64,
            decoder_width: 64,
            window,
            weights: weights.to_vec(),
            batch: 16,
        };
        let global = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];
        let local = [0.0516, 0.3295, 0.3463, 0.2726];
        Self {
            strategy: Strategy::Igd,
            scales: Scales::Both,
            global: scale(EncoderSource::Backbone, 11, &global),
            local: ScaleConfig {
                batch: 2,
                ..scale(EncoderSource::Scratch, 3, &local)
            },
            patches: PatchConfig {
                stride: 16,
                drawn: 0,
            },
            latent: 128,
            loss: LossConfig {
                rho: 0.15,
                lambda: 0.1,
                zeta: Zeta::Uniform,
            },
            schedule: ScheduleConfig {
                epochs: 256,
                e_step: 10,
                learning_rate: 1e-4,
                decay: 0.9,
                weight_decay: 1e-6,
            },
            norm_mode: NormMode::Train,
            flip: true,
            score: ScoreConfig {
                global: [0.1, 0.9],
                local: [0.9, 0.1],
            },
        }
    }

    /// For sets of small images (MNIST, CIFAR-10), without pre-training: the local model on images of
    /// 32 x 32 pixels, batches of 64, the paper's sum as the score.
    pub fn scratch() -> Self {
        let products = Self::products();
        Self {
            scales: Scales::Local,
            local: ScaleConfig {
                batch: 64,
                ..products.local
            },
            score: ScoreConfig {
                global: [1.0, 1.0],
                local: [1.0, 1.0],
            },
            ..products
        }
    }

    /// The settings of one model.
    pub fn scale(&self, scale: Scale) -> &ScaleConfig {
        match scale {
            Scale::Global => &self.global,
            Scale::Local => &self.local,
        }
    }

    /// The side of images that it was published for.
    pub fn default_size(&self) -> usize {
        match self.scales {
            Scales::Local => PATCH,
            Scales::Both | Scales::Global => 256,
        }
    }

    /// Whether a frozen backbone is looked through.
    pub fn needs_backbone(&self) -> bool {
        let mut scales = self.scales.iter();
        scales.any(|scale| self.scale(scale).encoder == EncoderSource::Backbone)
    }

    /// The side of the images that a model sees.
    pub(super) fn side(scale: Scale, size: usize) -> usize {
        match scale {
            Scale::Global => size,
            Scale::Local => PATCH,
        }
    }

    /// MS-SSIM of a model; `range` is the span of normalised pixels.
    pub(super) fn ssim(&self, scale: Scale, range: f64) -> MsSsim {
        let config = self.scale(scale);
        MsSsim {
            window: config.window,
            sigma: 1.5,
            weights: config.weights.clone(),
            range,
        }
    }

    /// Encoder and decoder of a model.
    pub(super) fn generator<B: Backend>(
        &self,
        plan: &GeneratorPlan,
        init: Init,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Generator<B> {
        let mut maker = Maker {
            norm: Normalisation::Batch(self.norm_mode),
            init,
            offsets: !self.strategy.is_svdd(),
            rng,
            device,
        };
        Generator::new(plan, &mut maker)
    }

    /// How a model judges images; `range` is the span of normalised pixels.
    pub(super) fn objective(&self, scale: Scale, range: f64) -> Objective {
        Objective {
            strategy: self.strategy,
            loss: self.loss,
            ssim: self.ssim(scale, range),
        }
    }

    /// What reconstruction and classifier weigh in a model's score: parts that were not trained nothing.
    pub(super) fn score_weights(&self, scale: Scale) -> [f64; 2] {
        let weights = match scale {
            Scale::Global => self.score.global,
            Scale::Local => self.score.local,
        };
        match self.strategy {
            Strategy::Mse | Strategy::Rec => [1.0, 0.0],
            Strategy::Dsvdd => [0.0, 1.0],
            Strategy::RecGac | Strategy::Igd | Strategy::DsvddRec => weights,
        }
    }

    /// The networks of a model.
    ///
    /// # Errors
    /// When the backbone has no features to look at.
    pub(super) fn plan(
        &self,
        scale: Scale,
        size: usize,
        backbone: BackboneConfig,
    ) -> Result<GeneratorPlan> {
        let config = self.scale(scale);
        let frozen = match config.encoder {
            EncoderSource::Scratch => None,
            EncoderSource::Backbone => {
                let info = backbone.feature_info();
                let deepest = info.last().ok_or_else(|| {
                    let what = format!("the {} model looks through a backbone", scale.name());
                    Error::usage(format!("{what}, and none is given")).help(format!(
                        "name one with --backbone, or set method.{}.encoder=scratch",
                        scale.name()
                    ))
                })?;
                Some(deepest.channels)
            }
        };
        Ok(GeneratorPlan {
            side: Self::side(scale, size),
            width: config.width,
            decoder_width: config.decoder_width,
            latent: self.latent,
            frozen,
            decodes: self.strategy.reconstructs(),
        })
    }

    /// # Errors
    /// When a setting is out of its range.
    pub fn validate(&self) -> Result<()> {
        let wrong =
            |name: &str, what: &str| Err(Error::usage(format!("method.{name} must be {what}")));
        for scale in self.scales.iter() {
            let (config, name) = (self.scale(scale), scale.name());
            for (key, value) in [
                ("width", config.width),
                ("decoder_width", config.decoder_width),
                ("batch", config.batch),
            ] {
                if value == 0 {
                    return wrong(&format!("{name}.{key}"), "at least 1");
                }
            }
            if config.window < 3 || config.window.is_multiple_of(2) {
                return wrong(&format!("{name}.window"), "odd, and at least 3");
            }
            let positive = |weight: &f64| *weight > 0.0 && weight.is_finite();
            if config.weights.is_empty() || !config.weights.iter().all(positive) {
                return wrong(&format!("{name}.weights"), "one positive number or more");
            }
        }
        if self.patches.stride == 0 || self.patches.stride > PATCH {
            return wrong("patches.stride", "from 1 to 32");
        }
        if self.latent == 0 {
            return wrong("latent", "at least 1");
        }
        if !(0.0..=1.0).contains(&self.loss.rho) {
            return wrong("loss.rho", "in [0, 1]");
        }
        let schedule = &self.schedule;
        for (name, value) in [("epochs", schedule.epochs), ("e_step", schedule.e_step)] {
            if value == 0 {
                return wrong(&format!("schedule.{name}"), "at least 1");
            }
        }
        if !(schedule.learning_rate > 0.0 && schedule.learning_rate.is_finite()) {
            return wrong("schedule.learning_rate", "positive");
        }
        let [global, local] = [self.score.global, self.score.local];
        for (name, value) in [
            ("loss.lambda", self.loss.lambda),
            ("schedule.decay", schedule.decay),
            ("schedule.weight_decay", schedule.weight_decay),
            ("score.global", global[0].min(global[1])),
            ("score.local", local[0].min(local[1])),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return wrong(name, "zero or positive");
            }
        }
        for scale in self.scales.iter() {
            let [reconstruction, classifier] = self.score_weights(scale);
            if reconstruction + classifier <= 0.0 {
                return wrong(&format!("score.{}", scale.name()), "positive in one part");
            }
        }
        Ok(())
    }

    /// Whether images of `size` pixels can be looked at.
    ///
    /// # Errors
    /// When they cannot.
    pub fn check_size(&self, size: usize) -> Result<()> {
        for scale in self.scales.iter() {
            let side = Self::side(scale, size);
            if blocks(side).is_none() {
                return Err(Error::usage(format!(
                    "there is no global model of images of {size} pixels"
                ))
                .help("choose 32, 64, 128 or 256 with data.size"));
            }
            if self.strategy.reconstructs() && self.strategy != Strategy::Mse {
                self.ssim(scale, 1.0).check(side, side).map_err(|error| {
                    let name = scale.name();
                    error.context(format!("method.{name}.window and method.{name}.weights"))
                })?;
            }
        }
        let stride = self.patches.stride;
        let local = self.scales.iter().any(|scale| scale == Scale::Local);
        if local && (size < PATCH || !(size - PATCH).is_multiple_of(stride)) {
            return Err(Error::usage(format!(
                "patches of {PATCH} pixels at a distance of {stride} do not cover images of {size} pixels"
            ))
            .help(format!("choose {PATCH} plus a multiple of {stride} with data.size")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let check = |change: fn(&mut IgdConfig), name: &str| {
            let mut config = IgdConfig::products();
            assert!(config.validate().is_ok());
            change(&mut config);
            let error = config.validate().expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        };
        check(|c| c.global.batch = 0, "global.batch");
        check(|c| c.local.window = 1, "local.window");
        check(|c| c.global.window = 10, "global.window");
        check(|c| c.local.weights.clear(), "local.weights");
        check(|c| c.patches.stride = 33, "patches.stride");
        check(|c| c.latent = 0, "latent");
        check(|c| c.loss.rho = 1.5, "rho");
        check(|c| c.loss.lambda = f64::NAN, "lambda");
        check(|c| c.schedule.epochs = 0, "epochs");
        check(|c| c.schedule.e_step = 0, "e_step");
        check(|c| c.schedule.learning_rate = 0.0, "learning_rate");
        check(|c| c.score.local = [0.0, 0.0], "score.local");
    }

    #[test]
    fn sizes_without_a_network_or_with_too_small_a_window_are_refused() {
        let config = IgdConfig::products();
        assert!(config.check_size(256).is_ok());
        for (size, parts) in [
            (200, ["no global model", "32, 64, 128 or 256"]),
            (128, ["method.global.window", "161"]),
        ] {
            let error = config.check_size(size).expect_err(parts[0]).to_string();
            for part in parts {
                assert!(error.contains(part), "{error}");
            }
        }
        let scratch = IgdConfig::scratch();
        for (size, possible) in [(32, true), (64, true), (40, false), (28, false)] {
            assert_eq!(scratch.check_size(size).is_ok(), possible, "{size}");
        }
    }

    #[test]
    fn the_rate_falls_to_zero() {
        let schedule = IgdConfig::scratch().schedule;
        assert!((schedule.rate(0, 100) - 1e-4).abs() < 1e-12);
        // 1e-4 * (1 - 50 / 100) ** 0.9
        assert!((schedule.rate(50, 100) - 5.358_867e-5).abs() < 1e-10);
        assert!(schedule.rate(99, 100) > 0.0);
    }
}
