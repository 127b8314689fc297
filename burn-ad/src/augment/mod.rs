//! Pseudo-anomalies: defects made up from known ones, from other images, or from noise.
//!
//! ```text
//! known anomaly --RandAugment--> augmented --+
//! normal image  --foreground---> where ------+--> image and mask of a pseudo-anomaly
//! ```
//!
//! Beside them [`RandomView`], what contrastive learning makes of a picture.
//!
//! Functions of images, masks and a seeded generator, without tensors: the same seed gives the
//! same bytes. (Bytes may differ between platforms whose `sin`, `cos` and `ln` round differently.)
//!
//! ```
//! use burn_ad::augment::{AugmentConfig, Known, pseudo_anomaly};
//! use image::{GrayImage, Luma, Rgb, RgbImage};
//! use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//!
//! let normal = RgbImage::from_pixel(64, 64, Rgb([120; 3]));
//! let scratch = |x, y| if y == 20 && (10..40).contains(&x) { 255 } else { 0 };
//! let known = Known::new(
//!     RgbImage::from_fn(64, 64, |x, y| Rgb([120 + scratch(x, y) / 2; 3])),
//!     GrayImage::from_fn(64, 64, |x, y| Luma([scratch(x, y)])),
//! )?;
//! let rpag = AugmentConfig::preset("rpag")?;
//! let mut rng = ChaCha8Rng::seed_from_u64(7);
//! let made = pseudo_anomaly(&rpag, &normal, None, &known, &mut rng)?;
//! for (x, y, mask) in made.mask.enumerate_pixels() {
//!     assert!(mask[0] == 255 || made.image.get_pixel(x, y) == normal.get_pixel(x, y));
//! }
//! # Ok::<(), burn_ad::Error>(())
//! ```

mod area;
mod colour_jitter;
mod config;
mod contact_sheet;
mod draws;
mod elastic;
mod foreground;
mod known;
mod mask;
mod perlin;
mod poisson;
mod preview;
pub mod rand_augment;
mod random_view;
mod rpag;

use image::{GrayImage, RgbImage};
use rand_chacha::ChaCha8Rng;

pub use colour_jitter::ColourJitter;
pub use config::AugmentConfig;
pub use contact_sheet::{Row, contact_sheet};
pub use elastic::{Displacement, Elastic};
pub use foreground::Foreground;
pub use known::Known;
pub use perlin::Perlin;
pub use poisson::{Gradients, Poisson};
pub use preview::preview;
pub use random_view::RandomView;
pub use rpag::Rpag;

use crate::error::Result;
use area::Area;

/// A normal image with a made-up anomaly.
#[derive(Clone, Debug, PartialEq)]
pub struct PseudoAnomaly {
    /// The picture, of the normal image's size.
    pub image: RgbImage,
    /// 255 where it is anomalous, else 0. Every pixel outside is that of the normal image. Pixels
    /// inside come from the source, and may by chance equal the normal ones.
    pub mask: GrayImage,
    /// What the anomaly was taken from, after its augmentation.
    pub source: Known,
    /// For each region that [`Rpag`] pasted, the share of it that lies in the foreground. The other
    /// strategies change nothing but the foreground.
    pub foreground_shares: Vec<f64>,
    /// Whether regions were moved to get into the foreground.
    pub moved: bool,
}

/// Makes a pseudo-anomaly from a normal image.
///
/// `foreground` marks the product in the normal image (any value but 0; `None` is the whole image).
/// `source` is the known anomaly for [`Rpag`], and the image that textures or patches are cut from
/// for [`Perlin`] and [`Poisson`], which do not look at its mask. [`AugmentConfig::None`] returns
/// the source as it is.
///
/// The result may be without any marked pixel where nothing could be placed: a source without marks,
/// an image of very few pixels, an empty foreground.
///
/// # Errors
/// When a setting is out of its range, the normal image has no pixel, or the foreground mask is
/// not of its size.
pub fn pseudo_anomaly(
    config: &AugmentConfig,
    normal: &RgbImage,
    foreground: Option<&GrayImage>,
    source: &Known,
    rng: &mut ChaCha8Rng,
) -> Result<PseudoAnomaly> {
    config.validate()?;
    known::check_size(normal)?;
    let area = Area::new(normal, foreground)?;
    Ok(match config {
        AugmentConfig::None => PseudoAnomaly {
            image: source.image().clone(),
            mask: source.mask().clone(),
            source: source.clone(),
            foreground_shares: Vec::new(),
            moved: false,
        },
        AugmentConfig::Rpag(rpag) => rpag.apply(normal, &area, source, rng),
        AugmentConfig::Perlin(perlin) => perlin.apply(normal, &area, source, rng),
        AugmentConfig::Poisson(poisson) => poisson.apply(normal, &area, source, rng),
    })
}
