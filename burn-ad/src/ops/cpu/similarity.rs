//! Structural similarity by `burn-ad-kernels`.

use burn_ad_kernels::ssim::{self, Measure};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops};
use burn_flex::{Flex, FlexTensor};

use super::buffers;
use super::settings::Kernels;
use super::tensor::{Cpu, Map, contiguous, dims, planes, tensor, values};
use super::tracking::{add_gradient, into_tracked, needs_gradient, node, without_history};
use crate::ops::similarity::Similarity;

impl Similarity {
    fn measure(&self) -> Measure<'_> {
        Measure {
            window: &self.window,
            exponents: &self.exponents,
            constants: self.constants,
        }
    }
}

/// The similarity of each image, `[batch]`: the mean over its channels; a node of the graph where a
/// gradient is needed.
pub(crate) fn similarity(kernels: Kernels, of: &Similarity, pair: [Cpu; 2]) -> Cpu {
    let tracked = pair.iter().any(|images| matches!(images, Cpu::Tracked(_)));
    let wanted = pair.each_ref().map(needs_gradient);
    let [x, y] = pair
        .each_ref()
        .map(|images| planes(kernels, images.primitive().clone()));
    let shape @ [batch, channels, height, width] = dims(&x);
    assert_eq!(shape, dims(&y), "sizes of images to compare");
    let mut each = vec![0.0; batch * channels];
    // The gradient with respect to the first is that with respect to the second of the exchanged pair.
    let mut compare = |pixels: [&FlexTensor; 2], wanted: bool| {
        let mut gradient = wanted.then(|| buffers::take(shape.iter().product()));
        ssim::similarity(
            kernels.isa,
            &of.measure(),
            (values(pixels[0]), values(pixels[1])),
            [height, width],
            &mut each,
            gradient.as_deref_mut(),
        );
        gradient.map(|gradient| tensor(gradient, &shape))
    };
    let of_x = wanted[0].then(|| compare([&y, &x], true)).flatten();
    let of_y = if wanted[1] || of_x.is_none() {
        compare([&x, &y], wanted[1])
    } else {
        None
    };
    for images in [x, y] {
        buffers::give_back(images);
    }
    let mean = |channels: &[f32]| channels.iter().sum::<f32>() / channels.len() as f32;
    let means: Vec<f32> = each.chunks_exact(channels.max(1)).map(mean).collect();
    let out = tensor(means, &[batch]);
    if wanted == [false, false] {
        return without_history(tracked, out);
    }
    let state = State {
        kernels,
        gradients: [of_x, of_y],
    };
    let nodes = pair.map(|images| into_tracked(images).node);
    Cpu::Tracked(node!(SimilarityBackward, 2, nodes, state, out))
}

#[derive(Clone, Debug)]
struct State {
    kernels: Kernels,
    /// Of the similarity of each image's channels, with respect to both images where wanted.
    gradients: [Option<FlexTensor>; 2],
}

#[derive(Debug)]
struct SimilarityBackward;

impl Backward<Flex, 2> for SimilarityBackward {
    type State = State;

    fn backward(
        self,
        ops: Ops<State, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let State {
            kernels,
            gradients: known,
        } = ops.state;
        let dy = contiguous(gradients.consume::<Flex>(&ops.node));
        for (parent, known) in ops.parents.into_iter().zip(known) {
            let (Some(parent), Some(known)) = (parent, known) else {
                continue;
            };
            let shape @ [batch, channels, height, width] = dims(&known);
            let image = channels * height * width;
            let mut dx = buffers::take(batch * image);
            let images = dx.chunks_exact_mut(image).zip(values(&known).chunks(image));
            for ((to, from), seed) in images.zip(values(&dy)) {
                let factor = seed / channels as f32;
                for (to, from) in to.iter_mut().zip(from) {
                    *to = factor * from;
                }
            }
            buffers::give_back(known);
            let dx = Map::of(kernels, tensor(dx, &shape));
            add_gradient!(gradients, parent, kernels, dx);
        }
    }
}

/// The SSIM map of each scale, `[batch, channels, height, width]`, without gradients.
pub(crate) fn maps(kernels: Kernels, of: &Similarity, pair: [Cpu; 2]) -> Vec<Cpu> {
    let tracked = pair.iter().any(|images| matches!(images, Cpu::Tracked(_)));
    let [x, y] = pair
        .each_ref()
        .map(|images| planes(kernels, images.primitive().clone()));
    let shape @ [batch, channels, height, width] = dims(&x);
    assert_eq!(shape, dims(&y), "sizes of images to compare");
    let (measure, sides) = (of.measure(), [height, width]);
    let sizes = measure.maps_of(sides);
    let places: usize = sizes.iter().map(|[height, width]| height * width).sum();
    let count = batch * channels;
    let mut all = buffers::take(count * places);
    ssim::maps(
        kernels.isa,
        &measure,
        (values(&x), values(&y)),
        sides,
        &mut all,
    );
    for images in [x, y] {
        buffers::give_back(images);
    }
    let mut start = 0;
    let mut maps = Vec::with_capacity(sizes.len());
    for [height, width] in sizes {
        let mut map = Vec::with_capacity(count * height * width);
        for plane in all.chunks_exact(places) {
            map.extend_from_slice(&plane[start..start + height * width]);
        }
        start += height * width;
        let map = tensor(map, &[batch, channels, height, width]);
        maps.push(without_history(tracked, map));
    }
    buffers::keep(all);
    maps
}
