//! The losses of single images: what is minimised in training and what scores are made of.

use burn::prelude::*;

use super::config::{LossConfig, Strategy};
use super::gaussian::Gaussian;
use crate::ssim::MsSsim;

/// How images are judged.
#[derive(Clone, Debug)]
pub struct Objective {
    /// Which parts there are.
    pub strategy: Strategy,
    /// The numbers in the losses.
    pub loss: LossConfig,
    /// The similarity of images and reconstructions; its range is the span of normalised pixels.
    pub ssim: MsSsim,
}

/// Losses of single images, `[batch]` each.
#[derive(Clone, Debug)]
pub struct Losses<B: Backend> {
    /// Squared distance of the latent vector to the centre.
    pub distance: Tensor<B, 1>,
    /// Classifier's loss: `1 - exp(-distance / scale)` (eq. 8), or the distance; `None` without a
    /// classifier.
    pub classifier: Option<Tensor<B, 1>>,
    /// Loss of the reconstruction (eq. 12), or its mean squared error; `None` without one.
    pub reconstruction: Option<Tensor<B, 1>>,
    /// MS-SSIM with the reconstruction, where it takes part.
    pub similarity: Option<Tensor<B, 1>>,
}

impl Objective {
    /// Judges images `[batch, 3, side, side]` by latent vectors `[batch, latent]` and reconstructions.
    pub fn losses<B: Backend>(
        &self,
        images: &Tensor<B, 4>,
        z: &Tensor<B, 2>,
        found: Option<&Tensor<B, 4>>,
        gaussian: &Gaussian,
    ) -> Losses<B> {
        let latent = gaussian.centre.len();
        let centre = TensorData::new(gaussian.centre.clone(), [1, latent]);
        let centre = Tensor::<B, 2>::from_data(centre, &z.device());
        let distance = (z.clone() - centre).square().sum_dim(1).squeeze_dim::<1>(1);
        let classifier = match self.strategy {
            Strategy::RecGac | Strategy::Igd => {
                Some((distance.clone() / -gaussian.scale).exp().neg() + 1.0)
            }
            Strategy::Dsvdd | Strategy::DsvddRec => Some(distance.clone()),
            Strategy::Mse | Strategy::Rec => None,
        };
        let found = found.filter(|_| self.strategy.reconstructs());
        let (reconstruction, similarity) = match found {
            None => (None, None),
            Some(found) if self.strategy == Strategy::Mse => {
                let error = (images.clone() - found.clone()).square();
                (Some(mean_of_image(error)), None)
            }
            Some(found) => {
                let similarity = self.ssim.similarity(images.clone(), found.clone());
                let absolute = mean_of_image((images.clone() - found.clone()).abs());
                let rho = self.loss.rho;
                let loss = (similarity.clone().neg() + 1.0) * (1.0 - rho)
                    + absolute * (rho / self.ssim.range);
                (Some(loss), Some(similarity))
            }
        };
        Losses {
            distance,
            classifier,
            reconstruction,
            similarity,
        }
    }
}

/// `[batch, channels, height, width]` to `[batch]`.
fn mean_of_image<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 1> {
    let x: Tensor<B, 2> = x.flatten(1, 3);
    x.mean_dim(1).squeeze_dim::<1>(1)
}
