//! What can be measured.

use std::fmt;
use std::hint::black_box;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use burn_ad::backbone::BackboneConfig;
use burn_ad::method::npad::{Gaussians, Whitening};
use burn_ad::metrics::{aupro, pixel_metrics};
use burn_ad::ops::Neighbours;
use serde::Serialize;

use crate::maps::Maps;
use crate::resnet::ResNet18;
use crate::{ckaad, flow, igd, noise};

/// The taps that anomaly detectors use; every backbone has them.
const STRIDES: [usize; 4] = [4, 8, 16, 32];
/// False-positive rate up to which AUPRO integrates.
const AUPRO_LIMIT: f64 = 0.3;

/// A piece of work and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Work {
    /// Feature maps of a frozen backbone at strides 4, 8, 16 and 32.
    Features {
        /// The network; its weights are random.
        backbone: BackboneConfig,
        /// Images at once.
        batch: usize,
        /// Their side in pixels.
        size: usize,
    },
    /// An optimiser step of a flow of BGAD's size, by the path that training takes.
    FlowStep {
        /// Vectors of the step.
        vectors: usize,
        /// Values of a vector.
        channels: usize,
        /// Side of the map that the vectors lie on.
        side: usize,
    },
    /// Forward and backward pass of ResNet-18 with batch normalisation in training mode.
    ConvStep {
        /// Images at once.
        batch: usize,
        /// Their side in pixels.
        size: usize,
    },
    /// A step of both players of CKAAD on feature maps that are there.
    CkaadStep {
        /// Whose maps are reconstructed.
        backbone: BackboneConfig,
        /// Strides of the taps.
        strides: &'static [usize],
        /// Normal images.
        normal: usize,
        /// Anomalous images.
        anomalous: usize,
        /// Side of the images in pixels.
        size: usize,
    },
    /// A step of IGD: encoder's and decoder's, then the critic's.
    IgdStep {
        /// Side of the images in pixels.
        side: usize,
        /// Images at once.
        batch: usize,
        /// Base width of encoder and critic.
        width: usize,
        /// Base width of the decoder.
        decoder_width: usize,
        /// Values of a latent vector.
        latent: usize,
        /// Values of the frozen encoder's vectors; `None` where the encoder is learnt, too.
        features: Option<usize>,
    },
    /// The nearest member of a bank for each query, as N-pad and PatchCore search it.
    Nearest {
        /// Vectors that search.
        queries: usize,
        /// Values of a vector.
        width: usize,
        /// Vectors to be found.
        bank: usize,
    },
    /// Mahalanobis distance of each position of one image to its Gaussian, as N-pad computes it.
    Mahalanobis {
        /// Side of the grid of positions.
        side: usize,
        /// Dimensions.
        width: usize,
    },
    /// Exact AUPRO.
    Aupro {
        /// Number of maps.
        maps: usize,
        /// Their side in pixels.
        size: usize,
    },
    /// AUROC, average precision, best F1 and AUPRO of pixels.
    PixelMetrics {
        /// Number of maps.
        maps: usize,
        /// Their side in pixels.
        size: usize,
    },
}

/// Does a piece of work once, and returns when its result is there.
pub type Workload = Box<dyn FnMut()>;

impl Work {
    /// A short name without spaces, which tells works of one run apart.
    pub fn name(&self) -> String {
        match self {
            Self::Features {
                backbone, batch, ..
            } => format!("features-{backbone}-b{batch}"),
            Self::FlowStep { channels, .. } => format!("flow-step-{channels}"),
            Self::ConvStep { .. } => "conv-step".to_owned(),
            Self::CkaadStep { backbone, .. } => format!("ckaad-step-{backbone}"),
            Self::IgdStep { features: None, .. } => "igd-step-local".to_owned(),
            Self::IgdStep { .. } => "igd-step-global".to_owned(),
            Self::Nearest { .. } => "nearest".to_owned(),
            Self::Mahalanobis { width, .. } => format!("mahalanobis-{width}"),
            Self::Aupro { .. } => "aupro".to_owned(),
            Self::PixelMetrics { .. } => "pixel-metrics".to_owned(),
        }
    }

    /// How many images one run computes, where it computes images.
    pub fn images(&self) -> Option<usize> {
        match self {
            Self::Features { batch, .. }
            | Self::ConvStep { batch, .. }
            | Self::IgdStep { batch, .. } => Some(*batch),
            Self::CkaadStep {
                normal, anomalous, ..
            } => Some(normal + anomalous),
            _ => None,
        }
    }

    /// Makes the data and whatever else is not timed. Inference uses the inner backend.
    pub fn prepare<AB: AutodiffBackend>(&self, device: &AB::Device) -> Workload {
        match *self {
            Self::Features {
                backbone,
                batch,
                size,
            } => features::<AB::InnerBackend>(backbone, [batch, 3, size, size], device),
            Self::FlowStep {
                vectors,
                channels,
                side,
            } => {
                let mut learner = flow::learner::<AB>(side, channels, device);
                let positions = flow::positions(vectors, side);
                let vectors = flow::vectors(vectors, channels);
                // The step reads likelihoods back; the optimiser's update is waited for as well.
                let device = device.clone();
                Box::new(move || {
                    flow::step(&mut learner, &vectors, &positions);
                    wait::<AB>(&device);
                })
            }
            Self::ConvStep { batch, size } => {
                let network = ResNet18::<AB>::new(device);
                let images = random::<AB, 4>(4, [batch, 3, size, size], device);
                Box::new(move || read_one(network.step(images.clone())))
            }
            Self::CkaadStep {
                backbone,
                strides,
                normal,
                anomalous,
                size,
            } => {
                let mut learner = ckaad::learner::<AB>(backbone, strides, size, device);
                let images = [normal + anomalous, size];
                let features =
                    ckaad::features::<AB::InnerBackend>(backbone, strides, images, device);
                let device = device.clone();
                Box::new(move || {
                    let figures = learner.step(&features, normal);
                    black_box(figures.expect("the losses stay finite"));
                    wait::<AB>(&device);
                })
            }
            Self::IgdStep {
                side,
                batch,
                width,
                decoder_width,
                latent,
                features,
            } => {
                let size = igd::Size {
                    side,
                    batch,
                    width,
                    decoder_width,
                    latent,
                    features,
                };
                let mut step = igd::step::<AB>(size, device);
                let device = device.clone();
                Box::new(move || {
                    step();
                    wait::<AB>(&device);
                })
            }
            Self::Nearest {
                queries,
                width,
                bank,
            } => {
                let queries = random::<AB::InnerBackend, 2>(5, [queries, width], device);
                let bank = Neighbours::new(random(6, [bank, width], device));
                Box::new(move || {
                    let (distances, index) = bank.nearest(queries.clone());
                    black_box(index.narrow(0, 0, 1).into_scalar());
                    black_box(distances.narrow(0, 0, 1).into_scalar());
                })
            }
            Self::Mahalanobis { side, width } => {
                mahalanobis::<AB::InnerBackend>(side, width, device)
            }
            Self::Aupro { maps, size } => {
                let maps = Maps::new(maps, size);
                Box::new(move || {
                    let value = aupro(&maps.views(), AUPRO_LIMIT);
                    black_box(value.expect("the maps are valid"));
                })
            }
            Self::PixelMetrics { maps, size } => {
                let maps = Maps::new(maps, size);
                Box::new(move || {
                    let values = pixel_metrics(&maps.views(), AUPRO_LIMIT);
                    black_box(values.expect("the maps are valid"));
                })
            }
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Features {
                backbone,
                batch,
                size,
            } => write!(f, "features {backbone}, {batch} x {size} x {size}"),
            Self::FlowStep {
                vectors, channels, ..
            } => write!(f, "flow step, {vectors} x {channels}"),
            Self::ConvStep { batch, size } => {
                write!(f, "ResNet-18 training step, {batch} x {size} x {size}")
            }
            Self::CkaadStep {
                backbone,
                normal,
                anomalous,
                size,
                ..
            } => write!(
                f,
                "CKAAD step, {backbone}, {normal} + {anomalous} x {size} x {size}"
            ),
            Self::IgdStep { side, batch, .. } => write!(f, "IGD step, {batch} x {side} x {side}"),
            Self::Nearest {
                queries,
                width,
                bank,
            } => write!(f, "nearest neighbours, {queries} x {width} of {bank}"),
            Self::Mahalanobis { side, width } => {
                write!(f, "Mahalanobis, {} positions, D = {width}", side * side)
            }
            Self::Aupro { maps, size } => write!(f, "AUPRO, {maps} maps of {size} x {size}"),
            Self::PixelMetrics { maps, size } => {
                write!(f, "all pixel metrics, {maps} maps of {size} x {size}")
            }
        }
    }
}

fn features<B: Backend>(config: BackboneConfig, shape: [usize; 4], device: &B::Device) -> Workload {
    let network = config.random::<B>(0, device);
    let levels = config.levels_at_strides(&STRIDES);
    let levels = levels.expect("every backbone has taps at these strides");
    let images = random::<B, 4>(7, shape, device);
    Box::new(move || {
        let maps = network.features(images.clone(), &levels);
        let last = maps.last().cloned().expect("levels were asked for");
        read_one(last);
        black_box(maps);
    })
}

fn mahalanobis<B: Backend>(side: usize, width: usize, device: &B::Device) -> Workload {
    let positions = side * side;
    let mut matrices = noise::centred(8, positions * width * width, 1.0);
    for (place, value) in matrices.iter_mut().enumerate() {
        if place % width > place / width % width {
            *value = 0.0; // above the diagonal
        }
    }
    let means = noise::centred(9, positions * width, 1.0);
    let gaussians = Gaussians::<B>::new(Whitening { means, matrices }, width, device);
    let features = random::<B, 3>(10, [1, positions, width], device);
    Box::new(move || {
        let distances = gaussians.distances(features.clone(), [side; 2], 0);
        let one = distances.narrow(0, 0, 1).narrow(1, 0, 1);
        black_box(one.into_scalar());
    })
}

fn random<B: Backend, const D: usize>(
    seed: u64,
    shape: [usize; D],
    device: &B::Device,
) -> Tensor<B, D> {
    let values = noise::centred(seed, shape.iter().product(), 1.0);
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Reading a value waits for backends that compute in the background.
fn read_one<B: Backend>(map: Tensor<B, 4>) {
    black_box(map.slice([0..1, 0..1, 0..1, 0..1]).into_scalar());
}

/// Waits for everything that was asked of a device so far: it works in order.
fn wait<B: Backend>(device: &B::Device) {
    black_box((Tensor::<B, 1>::zeros([1], device) + 1.0).into_scalar());
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    #[test]
    fn every_piece_of_work_can_be_repeated() {
        let backbone = "resnet18".parse().expect("known");
        for work in [
            Work::Features {
                backbone,
                batch: 2,
                size: 32,
            },
            Work::FlowStep {
                vectors: 64,
                channels: 8,
                side: 4,
            },
            Work::ConvStep { batch: 1, size: 32 },
            Work::CkaadStep {
                backbone: "tf_efficientnet_lite0".parse().expect("known"),
                strides: &[8, 16],
                normal: 2,
                anomalous: 1,
                size: 64,
            },
            Work::IgdStep {
                side: 32,
                batch: 2,
                width: 2,
                decoder_width: 3,
                latent: 5,
                features: None,
            },
            Work::IgdStep {
                side: 256,
                batch: 2,
                width: 1,
                decoder_width: 1,
                latent: 5,
                features: Some(7),
            },
            Work::Nearest {
                queries: 5,
                width: 7,
                bank: 9,
            },
            Work::Mahalanobis { side: 3, width: 5 },
            Work::Aupro { maps: 4, size: 96 },
            Work::PixelMetrics { maps: 4, size: 96 },
        ] {
            let mut run = work.prepare::<Autodiff<Flex>>(&Default::default());
            run();
            run();
            assert!(!work.name().contains(' '), "{work}");
        }
    }
}
