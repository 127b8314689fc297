//! From images to one feature vector a grid position.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::config::{LevelScaling, NpadConfig, Reduction};
use crate::backbone::Backbone;
use crate::error::{Error, Result};
use crate::ops;
use crate::tensors::{HostTensor, TensorSet};

/// Turns images into rows of features.
#[derive(Clone, Debug)]
pub(super) struct Embedder<B: Backend> {
    levels: Vec<usize>,
    pool: bool,
    scaling: LevelScaling,
    /// Grid positions along height and width.
    pub(super) grid: [usize; 2],
    /// Channels of all taps together, `[channels, dimensions]`; `None` keeps all.
    projection: Option<Tensor<B, 2>>,
    /// Values per position.
    pub(super) width: usize,
}

impl<B: Backend> Embedder<B> {
    /// Draws the reduction and sizes the grid for images of `size` x `size` pixels.
    ///
    /// # Errors
    /// When the backbone has no tap at one of the strides.
    pub(super) fn new(
        config: &NpadConfig,
        backbone: &Backbone<B>,
        size: usize,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Result<Self> {
        let mut embedder = Self::whole(config, backbone, size)?;
        let channels = embedder.width;
        let projection = match config.reduction {
            Reduction::Subset(width) if width < channels => {
                let mut kept = rand::seq::index::sample(rng, channels, width).into_vec();
                kept.sort_unstable();
                let mut matrix = vec![0.0; channels * width];
                for (column, &row) in kept.iter().enumerate() {
                    matrix[row * width + column] = 1.0;
                }
                Some((matrix, width))
            }
            Reduction::Projection(width) if width < channels => {
                let matrix = ops::random_orthonormal(channels, width, rng);
                Some((
                    matrix.into_iter().map(|value| value as f32).collect(),
                    width,
                ))
            }
            _ => None,
        };
        if let Some((matrix, width)) = projection {
            embedder.width = width;
            let data = TensorData::new(matrix, [channels, width]);
            embedder.projection = Some(Tensor::from_data(data, device));
        }
        Ok(embedder)
    }

    /// Restores the reduction from a model.
    ///
    /// # Errors
    /// When a tensor is absent or does not fit the backbone.
    pub(super) fn load(
        config: &NpadConfig,
        backbone: &Backbone<B>,
        size: usize,
        tensors: &mut TensorSet,
        device: &B::Device,
    ) -> Result<Self> {
        let mut embedder = Self::whole(config, backbone, size)?;
        let width = match config.reduction {
            Reduction::Subset(width) | Reduction::Projection(width) => width,
            Reduction::All => embedder.width,
        };
        if width < embedder.width {
            let shape = [Some(embedder.width), Some(width)];
            embedder.projection = Some(tensors.take_tensor("projection", shape, device)?);
            embedder.width = width;
        }
        Ok(embedder)
    }

    /// Keeps every channel.
    fn whole(config: &NpadConfig, backbone: &Backbone<B>, size: usize) -> Result<Self> {
        let levels = backbone.config().levels_at_strides(&config.taps)?;
        let info = backbone.config().feature_info();
        if size < config.grid {
            return Err(Error::usage(format!(
                "images of {size} pixels are smaller than one grid cell of {} pixels",
                config.grid
            )));
        }
        Ok(Self {
            width: levels.iter().map(|&level| info[level].channels).sum(),
            levels,
            pool: config.pool,
            scaling: config.scaling,
            grid: [size.div_ceil(config.grid); 2],
            projection: None,
        })
    }

    pub(super) fn save(&self, tensors: &mut TensorSet) {
        if let Some(projection) = &self.projection {
            tensors.insert("projection", HostTensor::from_tensor(projection.clone()));
        }
    }

    /// Grid positions.
    pub(super) fn positions(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// `images` `[batch, 3, size, size]` to features `[batch, positions, width]`.
    pub(super) fn embed(&self, backbone: &Backbone<B>, images: Tensor<B, 4>) -> Tensor<B, 3> {
        let positions = self.positions();
        let levels = backbone.features(images, &self.levels);
        let rows: Vec<Tensor<B, 3>> = levels
            .into_iter()
            .map(|mut level| {
                if self.pool {
                    level = ops::average_pool_3x3(level, true);
                }
                let level = ops::resize_bilinear(level, self.grid, false);
                let [batch, channels, _, _] = level.dims();
                let rows = level.reshape([batch, channels, positions]).swap_dims(1, 2);
                match self.scaling {
                    LevelScaling::None => rows,
                    LevelScaling::UnitNorm => {
                        let norms = rows.clone().square().sum_dim(2).sqrt().clamp_min(1e-12);
                        rows / norms
                    }
                }
            })
            .collect();
        let rows = Tensor::cat(rows, 2);
        match &self.projection {
            None => rows,
            Some(projection) => {
                let [batch, positions, channels] = rows.dims();
                rows.reshape([batch * positions, channels])
                    .matmul(projection.clone())
                    .reshape([batch, positions, self.width])
            }
        }
    }
}
