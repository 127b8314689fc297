//! Module names of the `efficientnet_pytorch` package and of the Lite files on PyPI.

use std::collections::HashSet;

use burn_ad::backbone::UnitSpec;

/// timm's convolution, the other package's convolution, and the BatchNorm behind it.
type Row = (&'static str, &'static str, &'static str);

const STEM: Row = ("conv_stem", "_conv_stem", "_bn0");

/// Blocks that widen first, then convolve per channel, then narrow.
const INVERTED_RESIDUAL: [Row; 5] = [
    ("conv_pw", "_expand_conv", "_bn0"),
    ("conv_dw", "_depthwise_conv", "_bn1"),
    ("se.conv_reduce", "_se_reduce", ""),
    ("se.conv_expand", "_se_expand", ""),
    ("conv_pwl", "_project_conv", "_bn2"),
];

/// Blocks that do not widen: timm numbers their modules from the depthwise convolution on, the other
/// package keeps the numbers of the full block.
const DEPTHWISE_SEPARABLE: [Row; 4] = [
    ("conv_dw", "_depthwise_conv", "_bn1"),
    ("se.conv_reduce", "_se_reduce", ""),
    ("se.conv_expand", "_se_expand", ""),
    ("conv_pw", "_project_conv", "_bn2"),
];

/// Convolution and BatchNorm of each unit; blocks are numbered through all stages.
pub(super) fn modules(units: &[UnitSpec]) -> Vec<(String, Option<String>)> {
    let widening: HashSet<&str> = units
        .iter()
        .filter_map(|unit| unit.name.strip_suffix(".conv_pwl"))
        .collect();
    let mut blocks: Vec<&str> = Vec::new();
    units
        .iter()
        .map(|unit| {
            let (place, row) = match block_of(&unit.name) {
                None => (String::new(), (unit.name == STEM.0).then_some(STEM)),
                Some((block, module)) => {
                    let number = blocks.iter().position(|&known| known == block);
                    let number = number.unwrap_or_else(|| {
                        blocks.push(block);
                        blocks.len() - 1
                    });
                    let rows: &[Row] = if widening.contains(block) {
                        &INVERTED_RESIDUAL
                    } else {
                        &DEPTHWISE_SEPARABLE
                    };
                    let row = rows.iter().find(|row| row.0 == module).copied();
                    (format!("_blocks.{number}."), row)
                }
            };
            let (_, conv, norm) = row.expect("the tables name every unit of an EfficientNet");
            let norm = unit.norm.as_ref().map(|_| format!("{place}{norm}"));
            (format!("{place}{conv}"), norm)
        })
        .collect()
}

/// `blocks.2.1` and `conv_dw` of `blocks.2.1.conv_dw`.
fn block_of(name: &str) -> Option<(&str, &str)> {
    let dots: Vec<_> = name.match_indices('.').map(|(at, _)| at).take(3).collect();
    match dots.as_slice() {
        [_, _, end] if name.starts_with("blocks.") => Some((&name[..*end], &name[end + 1..])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_ad::backbone::{BackboneConfig, EfficientNetConfig};

    fn names(config: EfficientNetConfig) -> Vec<(String, (String, Option<String>))> {
        let units = BackboneConfig::EfficientNet(config).units();
        let modules = modules(&units);
        units.into_iter().map(|u| u.name).zip(modules).collect()
    }

    #[test]
    fn blocks_are_numbered_through_and_named_by_their_kind() {
        let lite0 = names(EfficientNetConfig::Lite0);
        let find = |name: &str| {
            let (_, (conv, norm)) = lite0.iter().find(|(timm, _)| timm == name).expect(name);
            format!("{conv} {}", norm.as_deref().unwrap_or("-"))
        };
        assert_eq!(find("conv_stem"), "_conv_stem _bn0");
        assert_eq!(
            find("blocks.0.0.conv_pw"),
            "_blocks.0._project_conv _blocks.0._bn2"
        );
        assert_eq!(
            find("blocks.1.0.conv_pw"),
            "_blocks.1._expand_conv _blocks.1._bn0"
        );
        assert_eq!(
            find("blocks.6.0.conv_pwl"),
            "_blocks.15._project_conv _blocks.15._bn2"
        );
    }

    #[test]
    fn squeeze_and_excitation_keeps_its_bias_and_has_no_norm() {
        let b0 = names(EfficientNetConfig::B0);
        let (_, module) = b0
            .iter()
            .find(|(timm, _)| timm == "blocks.0.0.se.conv_reduce")
            .expect("B0 has squeeze and excitation in its first block");
        assert_eq!(module, &("_blocks.0._se_reduce".to_owned(), None));
    }
}
