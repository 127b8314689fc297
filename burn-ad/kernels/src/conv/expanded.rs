//! A 1x1 convolution and the depthwise one behind it, as mobile networks have them. The map between the
//! two is several times as large as what goes in: it is made in parts that stay in the second cache.

use std::ops::Range;

use rayon::prelude::*;

use super::direct::{BLOCK, SERIAL};
use super::epilogue::Epilogue;
use super::geometry::Geometry;
use super::narrow::is_narrow;
use super::product::{Product, Row};
use super::tile::{Panel, panel, panel_count};
use super::weights::Weights;
use super::windows::Windows;
use super::{Algorithm, forward as convolve};
use crate::Isa;
use crate::activation::Activation;
use crate::depthwise::{self, Cells, Depthwise, Slide, windows};
use crate::memory::scratch;
use crate::parallel::Scattered;
use crate::window::Map;

/// Values of a part of the map between.
const PART: usize = 160 * 1024;
/// Most channels of a panel: four registers of sixteen.
const WIDEST: usize = 64;

/// The 1x1 convolution.
#[derive(Clone, Copy, Debug)]
pub struct Expand<'a> {
    /// Packed weights `[outputs, inputs, 1, 1]`, for [`Algorithm::Direct`].
    pub weights: &'a Weights,
    /// One value for each output.
    pub bias: Option<&'a [f32]>,
    /// What comes between it and the depthwise convolution.
    pub activation: Activation,
}

/// Convolves `x`, of the size of `map`, to as many channels as `expand` has, and each of them with its own
/// kernel into `out`. Exactly what the two do one after the other.
///
/// # Panics
/// If a slice does not fit its size, the weights are none of a 1x1 convolution packed for
/// [`Algorithm::Direct`], or the window does not fit ([`Window::output`](crate::Window::output)).
pub fn forward(
    x: &[f32],
    map: Map,
    expand: Expand<'_>,
    depthwise: &Depthwise<'_>,
    out: &mut [f32],
) {
    let [outputs, inputs, height, width] = expand.weights.shape();
    assert_eq!([height, width], [1, 1], "kernel of the first convolution");
    assert_eq!(expand.weights.algorithm(), Algorithm::Direct);
    assert_eq!(map.channels, inputs, "channels of the input");
    assert_eq!(x.len(), map.len(), "values to convolve");
    if let Some(bias) = expand.bias {
        assert_eq!(bias.len(), outputs, "length of the bias");
    }
    let between = Map {
        channels: outputs,
        ..map
    };
    let size = depthwise.window.output(between);
    depthwise.check(between);
    assert_eq!(out.len(), size.len(), "convolved values");
    let isa = expand.weights.packed().isa;
    if out.is_empty() || map.is_empty() || is_narrow(isa, outputs, inputs) {
        return in_turn(x, map, expand, depthwise, out);
    }
    let (rows, cells) = windows(isa, &depthwise.window, between, size);
    let panels = panel_count(isa, outputs);
    let widest = outputs.div_ceil(isa.lanes()).div_ceil(panels) * isa.lanes();
    let work = map.len() * outputs;
    let threads = rayon::current_num_threads();
    let parallel = work >= SERIAL && threads > 1;
    let mut bands = bands(&depthwise.window, between, size, widest);
    if parallel {
        // Not so many that they mostly repeat what their neighbours expand.
        let most = size.height.div_ceil(2 * depthwise.window.kernel[0]);
        bands = bands.max((2 * threads).div_ceil(map.batch * panels).min(most));
    }
    let band = size.height.div_ceil(bands);
    let bands = size.height.div_ceil(band);
    let out = Scattered::new(out);
    let pass = Pass {
        isa,
        x,
        map,
        expand,
        depthwise,
        size,
        rows: &rows,
        cells: &cells,
        out: &out,
    };
    // Those that follow each other read the same part of the input.
    let part = |index: usize| {
        let (index, panel) = (index / panels, index % panels);
        let (image, first) = (index / bands, index % bands * band);
        pass.part(image, first..size.height.min(first + band), panel);
    };
    let parts = map.batch * bands * panels;
    if parallel {
        (0..parts).into_par_iter().with_max_len(1).for_each(part);
    } else {
        (0..parts).for_each(part);
    }
}

/// Bands of output rows whose inputs fit [`PART`] in `widest` channels.
fn bands(window: &crate::Window, between: Map, size: Map, widest: usize) -> usize {
    let fitting = PART / (between.width * widest);
    let rows = fitting.saturating_sub(window.kernel[0]) / window.stride[0] + 1;
    size.height.div_ceil(rows)
}

/// One whole convolution after the other.
fn in_turn(x: &[f32], map: Map, expand: Expand<'_>, depthwise: &Depthwise<'_>, out: &mut [f32]) {
    let between = Map {
        channels: expand.weights.shape()[0],
        ..map
    };
    let geometry = Geometry::pointwise(map);
    let epilogue = Epilogue {
        bias: expand.bias,
        residual: None,
        activation: expand.activation,
    };
    scratch(between.len(), |values| {
        convolve(x, &geometry, expand.weights, epilogue, values);
        depthwise::forward(expand.weights.packed().isa, values, between, depthwise, out);
    });
}

struct Pass<'a> {
    isa: Isa,
    x: &'a [f32],
    map: Map,
    expand: Expand<'a>,
    depthwise: &'a Depthwise<'a>,
    size: Map,
    rows: &'a [Vec<(usize, usize)>],
    cells: &'a Cells,
    out: &'a Scattered<'a>,
}

impl Pass<'_> {
    /// The channels of a panel in rows `lines` of an image.
    fn part(&self, image: usize, lines: Range<usize>, index: usize) {
        let outputs = self.size.channels;
        let panel = panel(self.isa, outputs, index);
        let width = panel.width * self.isa.lanes();
        let start = panel.first * self.isa.lanes();
        let seen = self.rows[lines.clone()].iter().flatten().map(|tap| tap.0);
        let (first, end) = (seen.clone().min(), seen.max());
        let (first, end) = (first.unwrap_or(0), end.map_or(0, |last| last + 1));
        scratch((end - first) * self.map.width * width, |between| {
            self.expand(image, first..end, &panel, between);
            self.isa.run(Slide {
                x: between,
                from: Map {
                    batch: 1,
                    height: end - first,
                    width: self.map.width,
                    channels: width,
                },
                above: first,
                to: self.size,
                depthwise: self.depthwise,
                rows: self.rows,
                cells: self.cells,
                lines: lines.clone(),
                channels: start..outputs.min(start + width),
                out: self.out,
                out_row: image * self.size.height + lines.start,
            });
        });
    }

    /// The 1x1 convolution of some rows of an image, in whole registers.
    fn expand(&self, image: usize, rows: Range<usize>, panel: &Panel, between: &mut [f32]) {
        if rows.is_empty() {
            // The band sees nothing but padding.
            return;
        }
        let (inputs, lanes) = (self.map.channels, self.isa.lanes());
        let width = panel.width * lanes;
        let start = panel.first * lanes;
        let mut padded = [0.0; WIDEST];
        let bias = self.expand.bias.map(|bias| {
            let used = width.min(bias.len() - start);
            padded[..used].copy_from_slice(&bias[start..][..used]);
            &padded[..width]
        });
        let weights = &self.expand.weights.packed().values[start * inputs..][..width * inputs];
        let line = self.map.width * inputs;
        let input = &self.x[(image * self.map.height + rows.start) * line..][..rows.len() * line];
        let seen = Map {
            batch: 1,
            height: rows.len(),
            ..self.map
        };
        let windows = Windows::of(&Geometry::pointwise(seen), inputs, width);
        let positions = windows.positions();
        let out = Scattered::new(between);
        let mut table = [Row::default(); BLOCK];
        for first in (0..positions).step_by(BLOCK) {
            let rows = &mut table[..BLOCK.min(positions - first)];
            windows.rows(first, None, rows);
            self.isa.run(Product {
                isa: self.isa,
                input,
                rows,
                runs: windows.image_runs(),
                weights,
                columns: width,
                panels: 0..1,
                epilogue: Epilogue {
                    bias,
                    residual: None,
                    activation: self.expand.activation,
                },
                out: &out,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::testing::{self, draw, window_on};
    use crate::window::Window;

    /// Random sizes with every instruction set; the last ones are large enough for threads and bands.
    #[test]
    fn it_is_one_after_the_other_to_the_last_bit() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for isa in Isa::available() {
            for case in testing::cases(60) {
                let large = case >= 56;
                let side = if large { 40..60 } else { 1..testing::most(20) };
                let map = Map {
                    batch: rng.random_range(1..3),
                    height: rng.random_range(side.clone()),
                    width: rng.random_range(side),
                    channels: rng.random_range(1..testing::most(40)),
                };
                let mut outputs: usize =
                    rng.random_range(1..testing::most(if large { 300 } else { 90 }));
                if case % 2 == 0 {
                    outputs = outputs.next_multiple_of(isa.lanes());
                }
                let kernel = [1, 3, 5][rng.random_range(0..3)];
                let window = window_on(map, kernel, 1..3, &mut rng);
                let shape = [outputs, map.channels, 1, 1];
                let weight = draw(&mut rng, outputs * map.channels);
                let weights = Weights::pack(isa, Algorithm::Direct, &weight, shape);
                let biases = [draw(&mut rng, outputs), draw(&mut rng, outputs)];
                let bias = |index: usize| (case % 3 > 0).then(|| &biases[index][..]);
                let taps = draw(&mut rng, outputs * window.kernel[0] * window.kernel[1]);
                let activations = [Activation::Relu6, Activation::Swish, Activation::Identity];
                let expand = Expand {
                    weights: &weights,
                    bias: bias(0),
                    activation: activations[case % 3],
                };
                let depthwise = Depthwise {
                    window,
                    weight: &taps,
                    bias: bias(1),
                    activation: activations[(case + 1) % 3],
                };
                let x = draw(&mut rng, map.len());
                let between = Map {
                    channels: outputs,
                    ..map
                };
                let length = window.output(between).len();
                let (mut out, mut expected) = (vec![f32::NAN; length], vec![f32::NAN; length]);
                forward(&x, map, expand, &depthwise, &mut out);
                in_turn(&x, map, expand, &depthwise, &mut expected);
                assert_eq!(out, expected, "{isa} {map:?} {outputs} {window:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "kernel of the first convolution")]
    fn another_kernel_is_refused() {
        let weights = Weights::pack(Isa::best(), Algorithm::Direct, &[0.0; 9], [1, 1, 3, 3]);
        let map = Map {
            batch: 1,
            height: 3,
            width: 3,
            channels: 1,
        };
        let expand = Expand {
            weights: &weights,
            bias: None,
            activation: Activation::Relu,
        };
        let depthwise = Depthwise {
            window: Window::square(1, 1, 0),
            weight: &[1.0],
            bias: None,
            activation: Activation::Identity,
        };
        forward(&[0.0; 9], map, expand, &depthwise, &mut [0.0; 9]);
    }
}
