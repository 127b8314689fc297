//! Trained normalizing flows from PyTorch: state dicts of FrEIA's `AllInOneBlock`, alone or as the
//! list of levels that BGAD's published code saves.

use std::collections::BTreeMap;
use std::path::Path;

use burn_ad::error::{Error, Result};
use burn_ad::flow::StateDict;
use burn_ad::tensors::HostTensor;

use crate::checkpoint::{Checkpoint, Dtype};

#[cfg(test)]
#[path = "flows_tests.rs"]
mod tests;

/// The parameters of one flow, checked to fit together.
///
/// A state dict does not say which soft clamp its blocks have (`alpha * tanh(s)` in FrEIA 0.2, as
/// BGAD uses it; `alpha * tanh(s / alpha)` in later versions) nor its alpha: the user must know.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowStateDict {
    /// Where the flow stands in the file (`decoder_state_dict.0`); empty for a file of one flow.
    pub name: String,
    /// Channels C of the vectors that the flow transforms.
    pub channels: usize,
    /// Length P of the condition vector; 0 for an unconditional flow.
    pub condition: usize,
    /// Parameters of the blocks in forward order, by FrEIA's names, with C1 = C - C/2, C2 = C/2 and
    /// D = C1 + P: `subnet.0.weight` `[2D, D]`, `subnet.0.bias` `[2D]`, `subnet.2.weight`
    /// `[2 C2, 2D]`, `subnet.2.bias` `[2 C2]`, `global_scale` `[1, C]`, `global_offset` `[1, C]` and
    /// `w_perm` `[C, C]`, orthogonal, applied as `y = x w_perm^T`. Hard permutations, which later
    /// FrEIA stores as indices, are given as such a matrix too.
    pub blocks: Vec<StateDict>,
}

/// Tensors of a block.
const PARAMETERS: [&str; 8] = [
    "global_offset",
    "global_scale",
    "subnet.0.bias",
    "subnet.0.weight",
    "subnet.2.bias",
    "subnet.2.weight",
    ROTATION,
    INVERSE,
];
const ROTATION: &str = "w_perm";
const INVERSE: &str = "w_perm_inv";

/// What a training script saves beside flows.
const BESIDE: [&str; 3] = ["encoder_state_dict", "optimizer", "optimizer_state_dict"];

/// Far above any flow (BGAD: 200 and 128); keeps a damaged file from reserving all memory.
const MAX_WIDTH: usize = 1 << 12;

/// A rotation rounded to `f32` is orthogonal to about 1e-7, rounded to half to about 1e-3.
const ORTHOGONAL: f64 = 1e-4;

const HELP: &str = "flows of FrEIA's AllInOneBlock with the subnet Linear, ReLU, Linear can be read, \
                    without learned householder permutations, as BGAD saves them";

/// Key of a block's parameter to its name in the file.
type Block = BTreeMap<&'static str, String>;

/// Reads all flows of a file: a state dict, a list of them, or a dict of either.
///
/// Flows are ordered by name, numbers in it by value, so `levels.2` comes before `levels.10`.
/// Strict: every tensor of the file must be a known parameter of a block, apart from those under
/// `encoder_state_dict`, `optimizer` and `optimizer_state_dict`, which are passed over.
///
/// # Errors
/// When the file cannot be read (see [`Checkpoint::open_nested`]), holds no flow or an unknown
/// tensor, a tensor is missing, has the wrong shape or type or values that are not finite, or a
/// permutation is not orthogonal or not the transpose of its stored inverse (within 1e-4). The
/// message names the tensor.
pub fn read_flows(path: &Path) -> Result<Vec<FlowStateDict>> {
    let checkpoint = Checkpoint::open_nested(path)?;
    let mut flows: BTreeMap<_, BTreeMap<usize, Block>> = BTreeMap::new();
    for key in checkpoint.entries().keys() {
        if BESIDE.contains(&key.split('.').next().unwrap_or_default()) {
            continue;
        }
        let (name, block, parameter) =
            parse(key).ok_or_else(|| fault(path, format!("{key} is no part of a flow")))?;
        let blocks = flows.entry(order(name)).or_default();
        let block = blocks.entry(block).or_default();
        block.insert(parameter, key.clone());
    }
    if flows.is_empty() {
        return Err(fault(path, "the file holds no flow"));
    }
    flows
        .into_iter()
        .map(|(name, blocks)| read_flow(&checkpoint, &text(&name), &blocks))
        .collect()
}

fn fault(path: &Path, why: impl Into<String>) -> Error {
    Error::weights(why).path(path).help(HELP)
}

/// `levels.0.module_list.3.subnet.0.bias` is parameter `subnet.0.bias` of block 3 of `levels.0`.
fn parse(key: &str) -> Option<(&str, usize, &'static str)> {
    const LIST: &str = "module_list.";
    let (name, rest) = match key.strip_prefix(LIST) {
        Some(rest) => ("", rest),
        None => key.split_once(&format!(".{LIST}"))?,
    };
    let (number, parameter) = rest.split_once('.')?;
    let block: usize = number.parse().ok()?;
    let parameter = PARAMETERS.into_iter().find(|&known| known == parameter)?;
    (block.to_string() == number).then_some((name, block, parameter))
}

/// Parts of a name in their natural order: numbers by value, before texts.
fn order(name: &str) -> Vec<(u64, String)> {
    let number = |part: &str| part.parse().unwrap_or(u64::MAX);
    name.split('.')
        .map(|part| (number(part), part.to_owned()))
        .collect()
}

fn text(name: &[(u64, String)]) -> String {
    let parts: Vec<_> = name.iter().map(|(_, part)| part.as_str()).collect();
    parts.join(".")
}

/// Sizes that every block of a flow shares.
#[derive(Clone, Copy, PartialEq)]
struct Sizes {
    channels: usize,
    condition: usize,
}

impl Sizes {
    /// From the shapes of the scale `[1, C]` and of the first layer `[2D, D]`, D = C - C/2 + P.
    fn new(scale: &[usize], first: &[usize]) -> Option<Self> {
        let (&[1, channels], &[_, inputs]) = (scale, first) else {
            return None;
        };
        let condition = inputs.checked_sub(channels - channels / 2)?;
        let sane = (2..=MAX_WIDTH).contains(&channels) && condition <= MAX_WIDTH;
        sane.then_some(Self {
            channels,
            condition,
        })
    }

    fn shape(self, parameter: &str) -> Vec<usize> {
        let inputs = self.channels - self.channels / 2 + self.condition;
        let outputs = self.channels / 2 * 2;
        match parameter {
            "subnet.0.weight" => vec![2 * inputs, inputs],
            "subnet.0.bias" => vec![2 * inputs],
            "subnet.2.weight" => vec![outputs, 2 * inputs],
            "subnet.2.bias" => vec![outputs],
            ROTATION | INVERSE => vec![self.channels, self.channels],
            _ => vec![1, self.channels],
        }
    }
}

fn read_flow(
    checkpoint: &Checkpoint,
    name: &str,
    blocks: &BTreeMap<usize, Block>,
) -> Result<FlowStateDict> {
    let fail = |why: String| fault(checkpoint.path(), why);
    let full = |place: usize, parameter: &str| {
        let dot = if name.is_empty() { "" } else { "." };
        format!("{name}{dot}module_list.{place}.{parameter}")
    };
    let mut sizes = None;
    let mut read = Vec::with_capacity(blocks.len());
    for (place, (&number, keys)) in blocks.iter().enumerate() {
        let missing = PARAMETERS.iter().find(|&&known| !keys.contains_key(known));
        if number != place || missing.is_some() {
            let key = full(place, missing.copied().unwrap_or("*"));
            return Err(fail(format!("{key} is missing")));
        }
        let shape = |parameter| &checkpoint.entries()[&keys[parameter]].shape;
        let (scale, first) = (shape("global_scale"), shape("subnet.0.weight"));
        let found = Sizes::new(scale, first).ok_or_else(|| {
            let key = full(place, "");
            fail(format!(
                "{key}global_scale {scale:?} and {key}subnet.0.weight {first:?} do not fit together"
            ))
        })?;
        if *sizes.get_or_insert(found) != found {
            return Err(fail(format!(
                "{} is for another number of channels or condition than the blocks before it",
                full(place, "*")
            )));
        }
        read.push(read_block(checkpoint, found, keys)?);
    }
    let sizes = sizes.ok_or_else(|| fail(format!("{name} has no blocks")))?;
    Ok(FlowStateDict {
        name: name.to_owned(),
        channels: sizes.channels,
        condition: sizes.condition,
        blocks: read,
    })
}

fn read_block(checkpoint: &Checkpoint, sizes: Sizes, keys: &Block) -> Result<StateDict> {
    let fail = |why: String| fault(checkpoint.path(), why);
    let mut block = BTreeMap::new();
    for (&parameter, key) in keys {
        let entry = &checkpoint.entries()[key];
        let shape = sizes.shape(parameter);
        let is_rotation = parameter == ROTATION || parameter == INVERSE;
        let values = if is_rotation && entry.dtype == Dtype::I64 {
            matrix(&checkpoint.read_indices(key)?, sizes.channels)
                .ok_or_else(|| fail(format!("{key} is not a permutation")))?
        } else if entry.shape != shape {
            let found = &entry.shape;
            return Err(fail(format!(
                "{key} has the shape {found:?}, expected {shape:?}"
            )));
        } else {
            checkpoint.read(key)?
        };
        if !values.iter().all(|value| value.is_finite()) {
            return Err(fail(format!("{key} has values that are not finite")));
        }
        block.insert(parameter.to_owned(), HostTensor::new(shape, values));
    }
    let inverse = block.remove(INVERSE);
    if let (Some(inverse), Some(rotation)) = (inverse, block.get(ROTATION)) {
        let channels = sizes.channels;
        if !are_transposed(&rotation.values, &inverse.values, channels) {
            return Err(fail(format!(
                "{} is not the transpose of {}",
                keys[INVERSE], keys[ROTATION]
            )));
        }
        if !is_orthogonal(&rotation.values, channels) {
            return Err(fail(format!("{} is not orthogonal", keys[ROTATION])));
        }
    }
    Ok(block)
}

/// The matrix W with `x W^T` = `x[:, indices]`; nothing when an index is out of range or repeated.
fn matrix(indices: &[i64], channels: usize) -> Option<Vec<f32>> {
    let mut values = vec![0.0; channels * channels];
    let mut used = vec![false; channels];
    for (row, &index) in indices.iter().enumerate() {
        let column = usize::try_from(index).ok()?;
        let used = used.get_mut(column)?;
        *values.get_mut(row * channels + column)? = 1.0;
        if std::mem::replace(used, true) {
            return None;
        }
    }
    (indices.len() == channels).then_some(values)
}

fn are_transposed(a: &[f32], b: &[f32], side: usize) -> bool {
    (0..side).all(|row| {
        (0..side).all(|column| {
            let (a, b) = (a[row * side + column], b[column * side + row]);
            (f64::from(a) - f64::from(b)).abs() <= ORTHOGONAL
        })
    })
}

/// Whether `W^T W v = v` for one vector without symmetries, which needs no product of matrices.
fn is_orthogonal(matrix: &[f32], side: usize) -> bool {
    let probe: Vec<f64> = (1..=side).map(|i| (i as f64).cos()).collect();
    let mut back = vec![0.0; side];
    for row in matrix.chunks_exact(side) {
        let row = || row.iter().map(|&value| f64::from(value));
        let turned: f64 = row().zip(&probe).map(|(w, v)| w * v).sum();
        for (sum, w) in back.iter_mut().zip(row()) {
            *sum += w * turned;
        }
    }
    let pairs = back.iter().zip(&probe);
    pairs
        .into_iter()
        .all(|(a, b)| (a - b).abs() <= ORTHOGONAL * (side as f64).sqrt())
}
