//! A product for demonstrations and tests, drawn in code from a seed, with defects and their exact masks.
//!
//! Good products vary as real ones do: position and angle, light, grain or yarn, sensor noise. The same configuration
//! gives the same bytes, whatever the number of threads, and a picture depends only on its own place in the set,
//! not on how many others there are. (Bytes may differ between platforms whose `sin` and `exp` round differently.)
//!
//! ```
//! use burn_ad::data::synthetic::{DefectKind, Product, Split, SyntheticConfig, render_defect, render_normal};
//!
//! let config = SyntheticConfig::mini(Product::MetalPlate);
//! let good = render_normal(&config, Split::Train, 0)?;
//! let (bad, mask) = render_defect(&config, DefectKind::Scratch, 0)?;
//! assert_eq!(good.dimensions(), bad.dimensions());
//! assert!(mask.pixels().any(|pixel| pixel[0] == 255));
//! # Ok::<(), burn_ad::Error>(())
//! ```

mod camera;
mod canvas;
mod change;
mod defects;
mod fabric;
mod kinds;
mod marks;
mod noise;
mod plate;
mod print;
mod shapes;
mod stream;
mod writer;

use std::sync::Arc;

use image::{GrayImage, RgbImage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::sample::{Dataset, ImageSource, Label, MaskSource, Sample};
use crate::error::{Error, Result};
use camera::Exposure;
use stream::{Address, Draws, Purpose};

pub use kinds::{DefectKind, Product};
pub use writer::{MARKER, write_mvtec};

/// What to draw, and how many pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticConfig {
    /// The product.
    pub product: Product,
    /// Seed of everything.
    pub seed: u64,
    /// Side of the square pictures in pixels, 64 to 2048.
    pub size: usize,
    /// Number of good products to train on.
    pub train: usize,
    /// Number of good products to test on.
    pub test_normal: usize,
    /// Number of defective products of each kind.
    pub per_kind: usize,
    /// The kinds of defect, each at most once.
    pub kinds: Vec<DefectKind>,
}

impl SyntheticConfig {
    /// The demo: 256 x 256 pixels, 60 training pictures, 20 good test pictures, 6 of every kind of defect, seed 0.
    pub fn new(product: Product) -> Self {
        Self {
            product,
            seed: 0,
            size: 256,
            train: 60,
            test_normal: 20,
            per_kind: 6,
            kinds: product.kinds().to_vec(),
        }
    }

    /// A few small pictures for automated tests: 64 x 64 pixels, 8 training, 3 good test pictures, 1 of every kind.
    pub fn mini(product: Product) -> Self {
        Self {
            size: 64,
            train: 8,
            test_normal: 3,
            per_kind: 1,
            ..Self::new(product)
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// When the size is out of range, or a kind is listed twice or does not fit the product.
    pub fn validate(&self) -> Result<()> {
        if !(64..=2048).contains(&self.size) {
            return Err(
                Error::usage(format!("cannot draw pictures of {} pixels", self.size))
                    .help("choose a size from 64 to 2048"),
            );
        }
        for (position, kind) in self.kinds.iter().enumerate() {
            if !self.product.kinds().contains(kind) {
                return Err(unknown_defect(self.product, *kind));
            }
            if self.kinds[..position].contains(kind) {
                return Err(Error::usage(format!(
                    "kind of defect `{kind}` is listed twice"
                )));
            }
        }
        Ok(())
    }
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self::new(Product::default())
    }
}

/// Which part of the set a good product belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Pictures to learn from.
    Train,
    /// Pictures to evaluate on.
    Test,
}

/// A good product; `index` may exceed the counts of the configuration.
///
/// # Errors
/// When the configuration is not valid.
pub fn render_normal(config: &SyntheticConfig, split: Split, index: usize) -> Result<RgbImage> {
    config.validate()?;
    let address = address(config, split, None, index);
    let mut scene = Draws::new(address, Purpose::Scene);
    let canvas = defects::normal(config.product, config.size, &mut scene);
    Ok(exposure(config, address).take(&canvas))
}

/// A defective product and its mask (255 marks a defective pixel, 0 a good one).
///
/// The mask marks exactly the pixels that differ from the same picture of the same product without the defect;
/// changes too faint to be seen are not made. `index` may exceed the counts of the configuration.
///
/// # Errors
/// When the configuration is not valid, or the product does not know this kind of defect.
pub fn render_defect(
    config: &SyntheticConfig,
    kind: DefectKind,
    index: usize,
) -> Result<(RgbImage, GrayImage)> {
    let (_clean, defective, mask) = render_pair(config, kind, index)?;
    Ok((defective, mask))
}

/// Draws of a defect before giving up; a defect that falls where nobody sees it is drawn again elsewhere.
const ATTEMPTS: u64 = 16;

/// A product without a defect, the same product in the same picture with it, and the mask.
fn render_pair(
    config: &SyntheticConfig,
    kind: DefectKind,
    index: usize,
) -> Result<(RgbImage, RgbImage, GrayImage)> {
    config.validate()?;
    let address = address(config, Split::Test, Some(kind), index);
    let exposure = exposure(config, address);
    // Regions and masks below these sizes (pixels of the default picture size) are not worth marking.
    let scale = (config.size as f32 / canvas::DESIGN).powi(2);
    let smallest_region = ((12.0 * scale) as usize).max(2);
    let smallest_mask = ((40.0 * scale) as usize).max(4);
    for attempt in 0..ATTEMPTS {
        let (clean, changed) = defects::canvases(
            config.product,
            kind,
            config.size,
            &mut Draws::new(address, Purpose::Scene),
            &mut Draws::new(address, Purpose::Defect { attempt }),
        )
        .ok_or_else(|| unknown_defect(config.product, kind))?;
        let clean = exposure.take(&clean);
        let (defective, mask) =
            change::keep_visible(&clean, exposure.take(&changed), smallest_region);
        if change::area(&mask) >= smallest_mask {
            return Ok((clean, defective, mask));
        }
    }
    Err(Error::numeric(format!(
        "no visible `{kind}` in {ATTEMPTS} attempts for picture {index}, seed {}",
        config.seed
    ))
    .help("choose another seed or a larger size"))
}

fn address(
    config: &SyntheticConfig,
    split: Split,
    kind: Option<DefectKind>,
    index: usize,
) -> Address {
    Address {
        seed: config.seed,
        product: config.product as u32,
        split: split as u32,
        kind: kind.map_or(0, |kind| kind as u64 + 1),
        index: index as u64,
    }
}

fn exposure(config: &SyntheticConfig, address: Address) -> Exposure {
    Exposure::draw(config.size, &mut Draws::new(address, Purpose::Noise))
}

fn unknown_defect(product: Product, kind: DefectKind) -> Error {
    let names: Vec<_> = product.kinds().iter().map(|kind| kind.name()).collect();
    Error::usage(format!("a {product} cannot have the defect `{kind}`"))
        .help(format!("choose from {}", names.join(", ")))
}

/// One picture of the set.
#[derive(Clone, Copy)]
struct Item {
    split: Split,
    kind: Option<DefectKind>,
    index: usize,
}

impl Item {
    /// All pictures in the order of the folders: training, then good, then defective test pictures.
    fn all(config: &SyntheticConfig) -> Vec<Self> {
        let normal = |split, count| {
            (0..count).map(move |index| Self {
                split,
                kind: None,
                index,
            })
        };
        let defective = config.kinds.iter().flat_map(|&kind| {
            (0..config.per_kind).map(move |index| Self {
                split: Split::Test,
                kind: Some(kind),
                index,
            })
        });
        normal(Split::Train, config.train)
            .chain(normal(Split::Test, config.test_normal))
            .chain(defective)
            .collect()
    }

    fn render(self, config: &SyntheticConfig) -> Result<(RgbImage, Option<GrayImage>)> {
        match self.kind {
            None => Ok((render_normal(config, self.split, self.index)?, None)),
            Some(kind) => {
                let (image, mask) = render_defect(config, kind, self.index)?;
                Ok((image, Some(mask)))
            }
        }
    }

    /// Name of the folder: `good` or the kind of defect.
    fn folder(self) -> &'static str {
        self.kind.map_or("good", DefectKind::name)
    }

    /// Path of the picture in the layout of MVTec AD, with `/`.
    fn path(self) -> String {
        let split = match self.split {
            Split::Train => "train",
            Split::Test => "test",
        };
        format!("{split}/{}/{:03}.png", self.folder(), self.index)
    }

    /// Path of its mask.
    fn mask_path(self) -> String {
        format!("ground_truth/{}/{:03}_mask.png", self.folder(), self.index)
    }
}

/// The whole set in memory, in the order in which the folder would be read with kinds as configured.
///
/// # Errors
/// When the configuration is not valid.
pub fn in_memory(config: &SyntheticConfig) -> Result<Dataset> {
    config.validate()?;
    let items = Item::all(config);
    let samples = items
        .par_iter()
        .map(|item| {
            let (image, mask) = item.render(config)?;
            Ok(Sample {
                image: ImageSource::Memory {
                    name: item.path(),
                    image: Arc::new(image),
                },
                label: match item.kind {
                    None => Label::Normal,
                    Some(_) => Label::Anomalous,
                },
                kind: item.folder().to_owned(),
                mask: mask.map(|mask| MaskSource::Memory(Arc::new(mask))),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut train = samples;
    let test = train.split_off(config.train);
    Ok(Dataset {
        name: config.product.name().to_owned(),
        train,
        test,
        ..Dataset::default()
    })
}

#[cfg(test)]
mod tests;
