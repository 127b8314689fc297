//! The products, and what can be wrong with them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What the pictures show.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Product {
    /// A brushed metal plate with holes, screws, an embossed ring and a printed mark, on a conveyor belt.
    #[default]
    MetalPlate,
    /// A striped twill cloth that fills the picture.
    Fabric,
}

/// What is wrong with a product; the name is also that of its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefectKind {
    /// Metal: a fine bright groove.
    Scratch,
    /// Metal: a shallow dip.
    Dent,
    /// A discolouration by a dried liquid.
    Stain,
    /// Metal: a dark jagged line that starts at a hole.
    Crack,
    /// A foreign thread lying on the product.
    Fibre,
    /// Metal: a piece of the outline has broken off.
    ChippedEdge,
    /// Metal, structural: one of the four corner holes was not drilled.
    MissingHole,
    /// Metal, logical: four proper holes, but one in the wrong place. The mask marks both places.
    MisplacedHole,
    /// Fabric, structural: a warp thread is missing over some length.
    BrokenThread,
    /// Fabric: a loop of yarn stands out of the cloth.
    PulledThread,
    /// Fabric: a hole.
    Tear,
    /// Fabric, logical: flawless cloth, but a stripe was woven in the ground colour.
    WrongStripe,
}

impl Product {
    /// All products.
    pub const ALL: [Self; 2] = [Self::MetalPlate, Self::Fabric];

    /// The defects this product can have.
    pub fn kinds(self) -> &'static [DefectKind] {
        match self {
            Self::MetalPlate => &[
                DefectKind::Scratch,
                DefectKind::Dent,
                DefectKind::Stain,
                DefectKind::Crack,
                DefectKind::Fibre,
                DefectKind::ChippedEdge,
                DefectKind::MissingHole,
                DefectKind::MisplacedHole,
            ],
            Self::Fabric => &[
                DefectKind::Stain,
                DefectKind::Fibre,
                DefectKind::BrokenThread,
                DefectKind::PulledThread,
                DefectKind::Tear,
                DefectKind::WrongStripe,
            ],
        }
    }

    /// Name in settings and folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::MetalPlate => "metal-plate",
            Self::Fabric => "fabric",
        }
    }
}

impl DefectKind {
    /// All kinds, of whatever product.
    pub const ALL: [Self; 12] = [
        Self::Scratch,
        Self::Dent,
        Self::Stain,
        Self::Crack,
        Self::Fibre,
        Self::ChippedEdge,
        Self::MissingHole,
        Self::MisplacedHole,
        Self::BrokenThread,
        Self::PulledThread,
        Self::Tear,
        Self::WrongStripe,
    ];

    /// Name in settings and folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scratch => "scratch",
            Self::Dent => "dent",
            Self::Stain => "stain",
            Self::Crack => "crack",
            Self::Fibre => "fibre",
            Self::ChippedEdge => "chipped-edge",
            Self::MissingHole => "missing-hole",
            Self::MisplacedHole => "misplaced-hole",
            Self::BrokenThread => "broken-thread",
            Self::PulledThread => "pulled-thread",
            Self::Tear => "tear",
            Self::WrongStripe => "wrong-stripe",
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for DefectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Product {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        by_name(text, "product", &Self::ALL, Self::name)
    }
}

impl FromStr for DefectKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        by_name(text, "kind of defect", &Self::ALL, Self::name)
    }
}

fn by_name<T: Copy>(text: &str, what: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T> {
    all.iter()
        .copied()
        .find(|&candidate| name(candidate) == text)
        .ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|&candidate| name(candidate)).collect();
            Error::usage(format!("unknown {what} `{text}`"))
                .help(format!("choose one of {}", names.join(", ")))
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_the_serialised_ones_and_parse_back() {
        for kind in DefectKind::ALL {
            assert_eq!(
                serde_json::to_value(kind).unwrap(),
                serde_json::json!(kind.name())
            );
            assert_eq!(kind.name().parse::<DefectKind>().unwrap(), kind);
        }
        for product in Product::ALL {
            assert_eq!(
                serde_json::to_value(product).unwrap(),
                serde_json::json!(product.name())
            );
            assert_eq!(product.to_string().parse::<Product>().unwrap(), product);
            assert!(product.kinds().len() >= 6);
        }
        let error = "crak".parse::<DefectKind>().unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("crack"));
    }
}
