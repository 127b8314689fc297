//! N-pad: neighbouring-pixel statistics, with PaDiM and PatchCore as its special cases.
//!
//! Source: Jang, Hwang, Park, "N-pad: Neighboring Pixel-based Industrial Anomaly Detection", CVPR
//! workshops 2023. Only the abstract and the appendix were at hand, so this is a reconstruction.
//! The paper's facts: per-pixel Gaussians are estimated from the target pixel and its neighbours,
//! k-means centroids represent normal features, and the score combines the Mahalanobis distance
//! to the Gaussians with the Euclidean distance to the centroids. Everything else (taps, grid,
//! regularisation, how the two distances are brought together) is our choice and a field of
//! [`NpadConfig`].
//!
//! With radius 0 and no centroids it is PaDiM ([`NpadConfig::padim`]); with a coreset alone it is
//! PatchCore ([`NpadConfig::patchcore`]).

mod bank;
mod config;
mod embed;
mod fit;
mod gaussian;
mod mahalanobis;
#[cfg(test)]
mod parity;
mod statistics;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor, TensorData};

pub use config::{
    BankConfig, BankKind, Combination, GaussianConfig, ImageScore, LevelScaling, NpadConfig,
    Reduction,
};

pub use self::gaussian::Whitening;
pub use self::mahalanobis::Gaussians;

use self::embed::Embedder;
use super::{Detector, Fit, Prediction, TrainingData, padding};
use crate::backbone::Backbone;
use crate::data::{Batch, Region};
use crate::error::Result;
use crate::ops::{self, Neighbours};
use crate::tensors::{HostTensor, TensorSet, to_vec};
use crate::train::Run;

/// A fitted N-pad, PaDiM or PatchCore.
#[derive(Clone, Debug)]
pub struct Npad<B: Backend> {
    config: NpadConfig,
    backbone: Backbone<B>,
    size: usize,
    embedder: Embedder<B>,
    gaussians: Option<Gaussians<B>>,
    bank: Option<Bank<B>>,
    scale: Scale,
}

/// Representative normal features.
#[derive(Clone, Debug)]
struct Bank<B: Backend> {
    /// Subtracted from queries and members: products of centred vectors keep more digits.
    centre: Tensor<B, 2>,
    /// Centred members, `[members, width]`.
    members: Neighbours<B>,
}

/// Mean and standard deviation of each distance on normal images.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scale {
    gaussian: [f32; 2],
    bank: [f32; 2],
}

/// The two distances at each grid position, `[batch, positions]`.
struct Distances<B: Backend> {
    gaussian: Option<Tensor<B, 2>>,
    bank: Option<(Tensor<B, 2>, Tensor<B, 2, Int>)>,
}

impl<B: Backend> Npad<B> {
    /// The settings it was fitted with.
    pub fn config(&self) -> &NpadConfig {
        &self.config
    }

    fn distances(&self, features: &Tensor<B, 3>) -> Distances<B> {
        let [batch, positions, width] = features.dims();
        let gaussian = self.gaussians.as_ref().map(|gaussians| {
            gaussians.distances(
                features.clone(),
                self.embedder.grid,
                self.config.gaussian.search,
            )
        });
        let bank = self.bank.as_ref().map(|bank| {
            let rows = features.clone().reshape([batch * positions, width]);
            let (distance, index) = bank.members.nearest(rows - bank.centre.clone());
            (
                distance.reshape([batch, positions]),
                index.reshape([batch, positions]),
            )
        });
        Distances { gaussian, bank }
    }

    /// One value a grid position, `[batch, positions]`.
    fn combine(&self, distances: &Distances<B>) -> Tensor<B, 2> {
        let standard = |values: &Tensor<B, 2>, [mean, std]: [f32; 2]| (values.clone() - mean) / std;
        match (&distances.gaussian, &distances.bank) {
            (Some(gaussian), Some((bank, _))) => match self.config.combination {
                Combination::Product => gaussian.clone() * bank.clone(),
                _ => standard(gaussian, self.scale.gaussian) + standard(bank, self.scale.bank),
            },
            (Some(gaussian), None) => gaussian.clone(),
            (None, Some((bank, _))) => bank.clone(),
            (None, None) => unreachable!("validate() leaves at least one distance"),
        }
    }

    fn image_scores(
        &self,
        maps: &Tensor<B, 3>,
        features: &Tensor<B, 3>,
        distances: &Distances<B>,
        valid: &[Region],
    ) -> Tensor<B, 1> {
        let [batch, height, width] = maps.dims();
        let device = maps.device();
        let from_host =
            |scores: Vec<f32>| Tensor::from_data(TensorData::new(scores, [batch]), &device);
        match (self.config.image_score, &distances.bank, &self.bank) {
            (ImageScore::TopShare(share), _, _) => {
                let values = to_vec(maps.clone());
                let images = values.chunks_exact(height * width).zip(valid);
                from_host(
                    images
                        .map(|(map, region)| top_mean(map, width, region, share))
                        .collect(),
                )
            }
            (ImageScore::Reweighted(neighbours), Some((distance, index)), Some(bank)) => {
                let distance = to_vec(distance.clone());
                let index = index.clone().into_data().convert::<i32>();
                let index: Vec<i32> = index.into_vec().expect("converted to i32 just now");
                let positions = self.embedder.positions();
                let scores = (0..batch).map(|image| {
                    let cells = padding::valid_cells(self.embedder.grid, &valid[image], self.size);
                    let at = image * positions;
                    let farthest = (0..positions)
                        .filter(|&cell| cells[cell])
                        .max_by(|&a, &b| distance[at + a].total_cmp(&distance[at + b]))
                        .unwrap_or(0);
                    let feature = features
                        .clone()
                        .narrow(0, image, 1)
                        .narrow(1, farthest, 1)
                        .squeeze_dim::<2>(0);
                    let member = index[at + farthest] as usize;
                    let score = distance[at + farthest];
                    score * bank.crowding(feature, member, score, neighbours)
                });
                from_host(scores.collect())
            }
            _ => padding::max_inside(maps, valid),
        }
    }
}

impl<B: Backend> Bank<B> {
    /// PatchCore's weight, eq. 7: `1 - exp(d) / sum_b exp(d_b)`, where `d` is the feature's
    /// distance to its nearest `member` and `d_b` are its distances to the bank members nearest
    /// to that member (itself included).
    fn crowding(&self, feature: Tensor<B, 2>, member: usize, score: f32, neighbours: usize) -> f32 {
        let members = self.members.members();
        let own = members.clone().narrow(0, member, 1);
        let around = to_vec(ops::distances(own, members.clone()));
        let away = to_vec(ops::distances(
            feature - self.centre.clone(),
            members.clone(),
        ));
        let mut order: Vec<usize> = (0..around.len()).collect();
        order.sort_by(|&a, &b| {
            // The member itself comes first even if its distance to itself rounds above zero.
            (a != member)
                .cmp(&(b != member))
                .then(around[a].total_cmp(&around[b]))
        });
        order.truncate(neighbours);
        // exp(d) / sum exp(d_b), shifted by the largest so that nothing overflows.
        let largest = order.iter().map(|&b| away[b]).fold(score, f32::max);
        let total: f32 = order.iter().map(|&b| (away[b] - largest).exp()).sum();
        1.0 - (score - largest).exp() / total
    }
}

/// Mean over the largest `share` of the pixels inside `region`, at least one.
fn top_mean(map: &[f32], width: usize, region: &Region, share: f64) -> f32 {
    let mut values = region.values(map, width);
    let count = ((values.len() as f64 * share).round() as usize).clamp(1, values.len());
    values.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    (values[..count].iter().map(|&v| f64::from(v)).sum::<f64>() / count as f64) as f32
}

impl<B: Backend> Detector<B> for Npad<B> {
    fn predict(&self, batch: &Batch<B>) -> Prediction<B> {
        let features = self.embedder.embed(&self.backbone, batch.images.clone());
        let distances = self.distances(&features);
        let [rows, columns] = self.embedder.grid;
        let count = features.dims()[0];
        let cells = self.combine(&distances).reshape([count, rows, columns]);
        let cells = padding::extend_over_padding(cells, &batch.valid, self.size);
        let size = [self.size; 2];
        let maps = ops::resize_bilinear(cells.unsqueeze_dim::<4>(1), size, false);
        let maps = ops::gaussian_blur(maps.squeeze_dim::<3>(1), self.config.sigma);
        let image_scores = self.image_scores(&maps, &features, &distances, &batch.valid);
        Prediction {
            image_scores,
            anomaly_maps: maps,
        }
    }

    fn backbone(&self) -> &Backbone<B> {
        &self.backbone
    }

    fn tensors(&self) -> TensorSet {
        let mut tensors = TensorSet::default();
        self.embedder.save(&mut tensors);
        if let Some(gaussians) = &self.gaussians {
            gaussians.save(&mut tensors);
        }
        if let Some(bank) = &self.bank {
            tensors.insert("bank.centre", HostTensor::from_tensor(bank.centre.clone()));
            tensors.insert(
                "bank.members",
                HostTensor::from_tensor(bank.members.members().clone()),
            );
        }
        let [a, b] = self.scale.gaussian;
        let [c, d] = self.scale.bank;
        tensors.insert("scale", HostTensor::new([4], vec![a, b, c, d]));
        tensors
    }
}

impl Fit for NpadConfig {
    type Detector<B: Backend> = Npad<B>;

    fn fit<AB: AutodiffBackend>(
        &self,
        backbone: Backbone<AB::InnerBackend>,
        data: &TrainingData<'_>,
        run: &mut Run<'_, AB>,
    ) -> Result<Npad<AB::InnerBackend>> {
        fit::fit::<AB>(self, backbone, data, run)
    }

    fn load<B: Backend>(
        &self,
        backbone: Backbone<B>,
        size: usize,
        mut tensors: TensorSet,
        device: &B::Device,
    ) -> Result<Npad<B>> {
        self.validate()?;
        let embedder = Embedder::load(self, &backbone, size, &mut tensors, device)?;
        let width = embedder.width;
        let gaussians = if self.combination.uses_gaussian() {
            Some(Gaussians::load(
                &mut tensors,
                embedder.positions(),
                width,
                device,
            )?)
        } else {
            None
        };
        let bank = if self.combination.uses_bank() {
            Some(Bank {
                centre: tensors.take_tensor("bank.centre", [Some(1), Some(width)], device)?,
                members: Neighbours::new(tensors.take_tensor(
                    "bank.members",
                    [None, Some(width)],
                    device,
                )?),
            })
        } else {
            None
        };
        let scale = tensors.take("scale", &[Some(4)])?.values;
        tensors.finish()?;
        Ok(Npad {
            config: self.clone(),
            backbone,
            size,
            embedder,
            gaussians,
            bank,
            scale: Scale {
                gaussian: [scale[0], scale[1]],
                bank: [scale[2], scale[3]],
            },
        })
    }
}
