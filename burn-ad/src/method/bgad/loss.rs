//! What the flows minimise, and its gradient with respect to log-likelihoods.
//!
//! The losses are functions of one number a vector, its log-likelihood a dimension `l`. They and
//! their gradients are computed on the host in f64; the flow's own gradient is the backend's work.
//! That gives every backend the same selections, and empty selections need no special care.

use crate::error::{Error, Result};

/// The scale of the weights: `q = l / 10` (published code; it does not follow the normaliser).
const WEIGHT_SCALE: f64 = 10.0;

/// When the boundary terms join the likelihood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boundary {
    /// Never: the likelihood alone (NFAD).
    Off,
    /// From the second meta epoch on, in chunks that hold anomalous vectors (BGAD).
    WithAnomalies,
    /// From the second meta epoch on, in every chunk: works without any anomaly.
    Always,
}

/// Mean or sum over the vectors that a boundary term selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoundaryReduction {
    /// Published code.
    Mean,
    /// Paper, eq. 19.
    Sum,
}

/// Asymmetric weights: hard normal and hard anomalous vectors count more (appendix, eq. 4).
///
/// With `q = l / 10` and `P = exp(q)`: normal vectors weigh 1 where `q > normal_threshold`, else
/// `normal_alpha (1 - P)^normal_gamma |q|`; anomalous ones weigh 1 where
/// `q <= anomalous_threshold`, else `anomalous_alpha (1 + P)^anomalous_gamma / |q|`, at most `cap`.
/// Weights carry no gradient.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightConfig {
    /// Whether vectors are weighted at all.
    pub enabled: bool,
    /// See the type.
    pub normal_alpha: f64,
    /// See the type.
    pub normal_gamma: f64,
    /// See the type.
    pub normal_threshold: f64,
    /// See the type.
    pub anomalous_alpha: f64,
    /// See the type.
    pub anomalous_gamma: f64,
    /// See the type.
    pub anomalous_threshold: f64,
    /// Differs from the published code, where the anomalous weight grows without bound as `q`
    /// approaches 0.
    pub cap: f64,
}

impl WeightConfig {
    /// The published code's constants: both curves are nearly continuous at their thresholds.
    pub fn published() -> Self {
        Self {
            enabled: true,
            normal_alpha: 11.7,
            normal_gamma: 0.5,
            normal_threshold: -0.2,
            anomalous_alpha: 0.53,
            anomalous_gamma: 2.0,
            anomalous_threshold: -1.0,
            cap: 100.0,
        }
    }

    /// The constants printed in the paper, whose thresholds -2 and -20 are on the scale of `l`. The
    /// curves jump there.
    pub fn paper() -> Self {
        Self {
            normal_alpha: 15.0,
            normal_gamma: 1.0,
            anomalous_threshold: -2.0,
            ..Self::published()
        }
    }

    /// No weights.
    pub fn off() -> Self {
        Self {
            enabled: false,
            ..Self::published()
        }
    }

    fn normal(&self, l: f64) -> f64 {
        let q = l / WEIGHT_SCALE;
        if !self.enabled || q > self.normal_threshold {
            return 1.0;
        }
        self.normal_alpha * (1.0 - q.exp()).powf(self.normal_gamma) * q.abs()
    }

    fn anomalous(&self, l: f64) -> f64 {
        let q = l / WEIGHT_SCALE;
        if !self.enabled || q <= self.anomalous_threshold {
            return 1.0;
        }
        let weight = self.anomalous_alpha * (1.0 + q.exp()).powf(self.anomalous_gamma) / q.abs();
        weight.min(self.cap)
    }
}

/// Settings of the loss.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// When the boundary terms join.
    pub boundary: Boundary,
    /// Whether only vectors on the wrong side of their boundary are moved; `false` is BGAD-dagger.
    pub one_sided: bool,
    /// Share of the normal vectors below the normal boundary.
    pub beta: f64,
    /// Distance of the anomalous boundary below the normal one, after the normaliser.
    pub tau: f64,
    /// Boundaries and their distances are measured in `l / normaliser`.
    pub normaliser: f64,
    /// Factor on the boundary terms.
    pub lambda: f64,
    /// Mean or sum over selected vectors.
    pub reduction: BoundaryReduction,
    /// Weights of single vectors.
    pub weights: WeightConfig,
}

impl LossConfig {
    /// BGAD as published, weights on.
    pub fn bgad() -> Self {
        Self {
            boundary: Boundary::WithAnomalies,
            one_sided: true,
            beta: 0.01,
            tau: 0.1,
            normaliser: 10.0,
            lambda: 1.0,
            reduction: BoundaryReduction::Mean,
            weights: WeightConfig::published(),
        }
    }

    /// The likelihood alone.
    pub fn nfad() -> Self {
        Self {
            boundary: Boundary::Off,
            weights: WeightConfig::off(),
            ..Self::bgad()
        }
    }

    /// Push and pull without selection.
    pub fn dagger() -> Self {
        Self {
            one_sided: false,
            ..Self::bgad()
        }
    }

    pub(super) fn uses_anomalies(&self) -> bool {
        self.boundary != Boundary::Off
    }

    /// # Errors
    /// When a field is out of its range.
    pub fn validate(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::usage(message));
        if !(0.0..1.0).contains(&self.beta) {
            return wrong(format!("'loss.beta' must be in [0, 1), not {}", self.beta));
        }
        for (name, value) in [
            ("normaliser", self.normaliser),
            ("weights.cap", self.weights.cap),
        ] {
            if !(value > 0.0 && value.is_finite()) {
                return wrong(format!("'loss.{name}' must be positive, not {value}"));
            }
        }
        for (name, value) in [("tau", self.tau), ("lambda", self.lambda)] {
            if !(value >= 0.0 && value.is_finite()) {
                return wrong(format!("'loss.{name}' must be 0 or more, not {value}"));
            }
        }
        Ok(())
    }

    /// The loss of one chunk and its gradient.
    ///
    /// `boundary_phase` is `false` in the first meta epoch. Without normal vectors there is no
    /// boundary and no likelihood term: the loss is 0.
    pub fn evaluate(&self, normal: &[f32], anomalous: &[f32], boundary_phase: bool) -> ChunkLoss {
        let mut loss = ChunkLoss {
            gradient: vec![0.0; normal.len() + anomalous.len()],
            ..ChunkLoss::default()
        };
        if normal.is_empty() {
            return loss;
        }
        let (of_normal, of_anomalous) = loss.gradient.split_at_mut(normal.len());
        let count = normal.len() as f64;
        for (&l, gradient) in normal.iter().zip(of_normal.iter_mut()) {
            let l = f64::from(l);
            let weight = self.weights.normal(l) / count;
            loss.likelihood += weight * softplus(-l);
            *gradient -= (weight * sigmoid(-l)) as f32;
        }
        let joins = match self.boundary {
            Boundary::Off => false,
            Boundary::WithAnomalies => !anomalous.is_empty(),
            Boundary::Always => true,
        };
        if !(joins && boundary_phase) {
            return loss;
        }
        let normal_boundary = self.normal_boundary(normal);
        let anomalous_boundary = normal_boundary - self.tau;
        // Pull: normal vectors below their boundary. Push: anomalous vectors above theirs.
        loss.pull = self.side(normal, of_normal, -1.0, normal_boundary, |l| {
            self.weights.normal(l)
        });
        loss.push = self.side(anomalous, of_anomalous, 1.0, anomalous_boundary, |l| {
            self.weights.anomalous(l)
        });
        loss.boundaries = Some([normal_boundary, anomalous_boundary]);
        loss.lambda = self.lambda;
        loss
    }

    /// `l` of the normal vector at the share `beta` from below, over the normaliser.
    fn normal_boundary(&self, normal: &[f32]) -> f64 {
        let index = ((self.beta * normal.len() as f64) as usize).min(normal.len() - 1);
        let mut values = normal.to_vec();
        let (_, boundary, _) = values.select_nth_unstable_by(index, f32::total_cmp);
        f64::from(*boundary) / self.normaliser
    }

    /// One boundary term: how far vectors lie beyond `boundary` in the direction of `sign`. Adds
    /// its gradient to `gradient`.
    fn side(
        &self,
        values: &[f32],
        gradient: &mut [f32],
        sign: f64,
        boundary: f64,
        weight: impl Fn(f64) -> f64,
    ) -> f64 {
        let beyond = |l: f32| sign * (f64::from(l) / self.normaliser - boundary);
        let selected = |l: f32| !self.one_sided || beyond(l) >= 0.0;
        let count = match self.reduction {
            BoundaryReduction::Mean => values.iter().filter(|&&l| selected(l)).count(),
            BoundaryReduction::Sum => 1,
        };
        let mut term = 0.0;
        for (&l, gradient) in values.iter().zip(gradient) {
            if selected(l) {
                let weight = weight(f64::from(l)) / count as f64;
                term += weight * beyond(l);
                *gradient += (self.lambda * weight * sign / self.normaliser) as f32;
            }
        }
        term
    }
}

/// The loss of one chunk.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChunkLoss {
    /// Negative log-sigmoid of `l`, weighted mean over the normal vectors (`L_ml`).
    pub likelihood: f64,
    /// Normal vectors below the normal boundary (`L_n`).
    pub pull: f64,
    /// Anomalous vectors above the anomalous boundary (`L_a`).
    pub push: f64,
    /// Normal and anomalous boundary, in `l / normaliser`; `None` where there is none.
    pub boundaries: Option<[f64; 2]>,
    /// Gradient with respect to each `l`, normal vectors first.
    pub gradient: Vec<f32>,
    lambda: f64,
}

impl ChunkLoss {
    /// What is minimised: `L_ml + lambda (L_n + L_a)`.
    pub fn total(&self) -> f64 {
        self.likelihood + self.lambda * (self.pull + self.push)
    }

    /// Whether a step along the gradient makes sense.
    pub fn is_finite(&self) -> bool {
        self.total().is_finite() && self.gradient.iter().all(|value| value.is_finite())
    }

    /// Whether the gradient is zero everywhere.
    pub fn is_flat(&self) -> bool {
        self.gradient.iter().all(|&value| value == 0.0)
    }
}

/// `ln(1 + exp(x))` without overflow; `-log sigmoid(l)` is `softplus(-l)`.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, shift: f64) -> Vec<f32> {
        (0..count)
            .map(|i| ((i as f64 * 0.7).sin() * 8.0 + shift) as f32)
            .collect()
    }

    /// The loss as a function, with boundaries and weights held where they are.
    fn numerical_gradient(config: &LossConfig, normal: &[f32], anomalous: &[f32]) -> Vec<f64> {
        let at = config.evaluate(normal, anomalous, true);
        let [b_n, b_a] = at.boundaries.expect("boundaries");
        let q = |l: f64| l / config.normaliser;
        let frozen = |l: f64, base: f64, is_normal: bool| {
            if is_normal {
                let pulls = !config.one_sided || q(base) <= b_n;
                let weight = config.weights.normal(base);
                let pulled = normal
                    .iter()
                    .filter(|&&l| !config.one_sided || q(f64::from(l)) <= b_n);
                let pull = weight * (b_n - q(l)) / pulled.count() as f64;
                weight * softplus(-l) / normal.len() as f64
                    + config.lambda * if pulls { pull } else { 0.0 }
            } else {
                let pushes = !config.one_sided || q(base) >= b_a;
                let pushed = anomalous
                    .iter()
                    .filter(|&&l| !config.one_sided || q(f64::from(l)) >= b_a);
                let push = config.weights.anomalous(base) * (q(l) - b_a) / pushed.count() as f64;
                config.lambda * if pushes { push } else { 0.0 }
            }
        };
        let labelled = normal.iter().map(|&l| (l, true));
        labelled
            .chain(anomalous.iter().map(|&l| (l, false)))
            .map(|(l, is_normal)| {
                let l = f64::from(l);
                let step = 1e-5;
                (frozen(l + step, l, is_normal) - frozen(l - step, l, is_normal)) / (2.0 * step)
            })
            .collect()
    }

    #[test]
    fn the_gradient_is_the_derivative_of_the_loss() {
        let (normal, anomalous) = (values(200, -6.0), values(50, -7.0));
        for config in [
            LossConfig::bgad(),
            LossConfig::dagger(),
            LossConfig {
                lambda: 0.3,
                beta: 0.05,
                weights: WeightConfig::paper(),
                ..LossConfig::bgad()
            },
        ] {
            let said = config.evaluate(&normal, &anomalous, true).gradient;
            for (a, b) in said
                .iter()
                .zip(numerical_gradient(&config, &normal, &anomalous))
            {
                assert!((f64::from(*a) - b).abs() < 1e-6, "{a} and {b}");
            }
        }
    }

    #[test]
    fn odd_chunks_give_numbers() {
        for config in [LossConfig::bgad(), LossConfig::nfad(), LossConfig::dagger()] {
            for (normal, anomalous) in [(0, 0), (0, 3), (1, 0), (1, 1), (3, 0), (100, 1)] {
                for shift in [0.0, -1e6, 1e6] {
                    let loss =
                        config.evaluate(&values(normal, shift), &values(anomalous, shift), true);
                    assert!(loss.is_finite(), "{normal} normal, {anomalous} anomalous");
                    assert_eq!(loss.gradient.len(), normal + anomalous);
                    if normal == 0 {
                        assert!(loss.is_flat() && loss.total() == 0.0);
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_meta_epoch_knows_no_boundary() {
        let (normal, anomalous) = (values(20, -3.0), values(5, -1.0));
        let first = LossConfig::bgad().evaluate(&normal, &anomalous, false);
        assert_eq!((first.pull, first.push, first.boundaries), (0.0, 0.0, None));
        let later = LossConfig::bgad().evaluate(&normal, &anomalous, true);
        assert!(later.push > 0.0 && later.pull >= 0.0);
    }

    #[test]
    fn published_weights_are_nearly_continuous_and_capped() {
        let weights = WeightConfig::published();
        assert!((weights.normal(-2.0) - 0.996).abs() < 1e-3);
        assert!((weights.anomalous(-9.999_999) - 0.992).abs() < 1e-3);
        assert_eq!(weights.normal(-1.9), 1.0);
        assert_eq!(weights.anomalous(-10.0), 1.0);
        assert_eq!(weights.anomalous(0.0), weights.cap);
    }
}
