//! Gradient with respect to the input.

use super::Layer;
use crate::conv::algorithm::Algorithm;
use crate::conv::compute;
use crate::conv::direct::convolve;
use crate::conv::epilogue::Epilogue;
use crate::conv::geometry::{Geometry, Padding};
use crate::conv::weights::{Packed, Source, pack, packed_length};
use crate::conv::windows::{Target, Windows};
use crate::memory::scratch;

/// `dx = gradient + accumulate`.
///
/// `dy` `[batch, output height, output width, outputs]` is the gradient with respect to the
/// convolution, `weight` `[outputs, inputs, kernel height, kernel width]`; `dx` and `accumulate` are
/// of the input's shape.
///
/// # Panics
/// If lengths do not fit `layer`.
pub fn input(
    layer: &Layer,
    dy: &[f32],
    weight: &[f32],
    accumulate: Option<&[f32]>,
    dx: &mut [f32],
) {
    layer.check(Some(dx), dy, Some(weight));
    if let Some(values) = accumulate {
        assert_eq!(values.len(), dx.len(), "length of the values to add");
    }
    if dx.is_empty() {
        return;
    }
    let [outputs, inputs, height, width] = layer.shape;
    let algorithm = match turned(&layer.geometry) {
        Some(geometry) if outputs > 0 => {
            let shape = [inputs, outputs, height, width];
            Algorithm::choose_once(layer.precise, shape, &geometry)
        }
        _ => Algorithm::Direct,
    };
    input_by(algorithm, layer, dy, weight, accumulate, dx);
}

/// [`input`], checked, by an algorithm that fits.
pub(super) fn input_by(
    algorithm: Algorithm,
    layer: &Layer,
    dy: &[f32],
    weight: &[f32],
    accumulate: Option<&[f32]>,
    dx: &mut [f32],
) {
    let epilogue = Epilogue {
        residual: accumulate,
        ..Epilogue::default()
    };
    match turned(&layer.geometry) {
        Some(geometry) if algorithm != Algorithm::Direct => {
            let taps: [usize; 9] = std::array::from_fn(|tap| 8 - tap);
            packed(layer, algorithm, weight, &taps, |weights| {
                compute(dy, &geometry, weights, epilogue, dx);
            });
        }
        _ => phases(layer, dy, weight, epilogue, dx),
    }
}

/// The geometry of the gradient's own convolution, over the output and with the kernel turned round,
/// if it has one: strides have not.
pub(super) fn turned(geometry: &Geometry) -> Option<Geometry> {
    let ([height, width], [rows, columns]) = (geometry.output(), geometry.kernel);
    let padding = geometry.padding;
    (geometry.stride == 1).then_some(())?;
    Some(Geometry {
        batch: geometry.batch,
        height,
        width,
        kernel: geometry.kernel,
        stride: 1,
        padding: Padding {
            top: (rows - 1).checked_sub(padding.top)?,
            bottom: (rows - 1).checked_sub(padding.bottom)?,
            left: (columns - 1).checked_sub(padding.left)?,
            right: (columns - 1).checked_sub(padding.right)?,
        },
    })
}

/// Calls `work` with weights packed in kept memory, inputs and outputs exchanged.
fn packed(
    layer: &Layer,
    algorithm: Algorithm,
    weight: &[f32],
    taps: &[usize],
    work: impl FnOnce(Packed<'_>),
) {
    let isa = layer.isa.or_lower();
    let source = Source {
        values: weight,
        shape: layer.shape,
        swapped: true,
        taps,
    };
    scratch(packed_length(isa, algorithm, &source), |values| {
        pack(isa, algorithm, source, values);
        work(Packed {
            isa,
            algorithm,
            outputs: layer.shape[1],
            inputs: layer.shape[0],
            values,
        });
    });
}

/// Input rows or columns `stride * q + remainder - padding`: those that the same values of the
/// kernel reach.
struct Phase {
    /// The first of them.
    first: usize,
    /// How many.
    count: usize,
    /// Output row or column where the first one's window begins.
    origin: isize,
    /// Rows or columns of the kernel, in the window's order.
    taps: Vec<usize>,
}

impl Phase {
    fn new(size: usize, kernel: usize, stride: usize, padding: usize, remainder: usize) -> Self {
        let q = padding.saturating_sub(remainder).div_ceil(stride);
        let first = (stride * q + remainder) as isize - padding as isize;
        // Where the remainder is beyond the padding, `q = 0` is behind the image's first row.
        let first = first.unsigned_abs();
        let taps: Vec<usize> = (remainder..kernel).step_by(stride).collect();
        Self {
            first,
            count: size.saturating_sub(first).div_ceil(stride),
            origin: q as isize + 1 - taps.len() as isize,
            taps: taps.into_iter().rev().collect(),
        }
    }
}

/// For a stride of s, s * s convolutions of stride 1, each with the part of the kernel that meets its
/// own part of the input: no product with a zero between outputs.
fn phases(layer: &Layer, dy: &[f32], weight: &[f32], epilogue: Epilogue<'_>, dx: &mut [f32]) {
    let [outputs, inputs, ..] = layer.shape;
    let geometry = &layer.geometry;
    let (stride, kernel) = (geometry.stride, geometry.kernel);
    let sizes = [geometry.height, geometry.width];
    let padding = [geometry.padding.top, geometry.padding.left];
    if kernel.iter().any(|size| *size < stride) || outputs == 0 {
        // Some of the input meets no value of the kernel.
        match epilogue.residual {
            Some(values) => dx.copy_from_slice(values),
            None => dx.fill(0.0),
        }
    }
    let phase = |axis: usize, remainder: usize| {
        let (size, kernel) = (sizes[axis], kernel[axis]);
        Phase::new(size, kernel, stride, padding[axis], remainder)
    };
    for remainders in (0..stride * stride).map(|index| [index / stride, index % stride]) {
        let [rows, columns] = [phase(0, remainders[0]), phase(1, remainders[1])];
        let taps: Vec<usize> = (rows.taps.iter())
            .flat_map(|row| {
                columns
                    .taps
                    .iter()
                    .map(move |column| row * kernel[1] + column)
            })
            .collect();
        if taps.is_empty() || rows.count * columns.count * outputs == 0 {
            continue;
        }
        let windows = Windows {
            batch: geometry.batch,
            image: geometry.output(),
            channels: outputs,
            origin: [rows.origin, columns.origin],
            kernel: [rows.taps.len(), columns.taps.len()],
            stride: 1,
            count: [rows.count, columns.count],
            target: Target {
                image: sizes,
                channels: inputs,
                first: [rows.first, columns.first],
                step: stride,
            },
        };
        packed(layer, Algorithm::Direct, weight, &taps, |weights| {
            convolve(weights.isa, dy, &windows, weights.values, epilogue, dx);
        });
    }
}
