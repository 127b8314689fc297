//! Convolutions: strides, groups, kernels of all sizes that the networks have, both paddings.

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn_ad::ops::{Convolution, Padding, conv2d};

use super::{at, indices};
use crate::backends::Place;
use crate::backends::compare::{Operation, assert_operation};

struct Case {
    input: [usize; 4],
    outputs: usize,
    kernel: usize,
    convolution: Convolution,
    bias: bool,
}

impl Case {
    fn weight(&self) -> [usize; 4] {
        let inputs = self.input[1] / self.convolution.groups;
        [self.outputs, inputs, self.kernel, self.kernel]
    }

    /// Size of one side of the result, and the zeros in front of it.
    fn side(&self, size: usize) -> (usize, usize) {
        let stride = self.convolution.stride;
        match self.convolution.padding {
            Padding::Symmetric(zeros) => ((size + 2 * zeros - self.kernel) / stride + 1, zeros),
            Padding::Same => {
                let outputs = size.div_ceil(stride);
                let reach = (outputs - 1) * stride + self.kernel;
                (outputs, reach.saturating_sub(size) / 2)
            }
        }
    }
}

impl Operation for Case {
    fn name(&self) -> String {
        let (input, weight) = (self.input, self.weight());
        format!("conv2d {input:?} * {weight:?} {:?}", self.convolution)
    }

    fn shapes(&self) -> Vec<Vec<usize>> {
        let mut shapes = vec![self.input.to_vec(), self.weight().to_vec()];
        shapes.extend(self.bias.then(|| vec![self.outputs]));
        shapes
    }

    fn run<B: Backend>(&self, inputs: Vec<Tensor<B, 1>>) -> Tensor<B, 1> {
        let mut inputs = inputs.into_iter();
        let mut next = || inputs.next().expect("as many as shapes");
        let (x, weight) = (next().reshape(self.input), next().reshape(self.weight()));
        let bias = self.bias.then(next);
        conv2d(x, weight, bias, self.convolution).flatten(0, 3)
    }

    fn formula(&self, inputs: &[Vec<f64>]) -> Vec<f64> {
        let (x, weight, bias) = (&inputs[0], &inputs[1], inputs.get(2));
        let [batch, _, height, width] = self.input;
        let [outputs, depth, kernel, _] = self.weight();
        let ((rows, top), (columns, left)) = (self.side(height), self.side(width));
        let stride = self.convolution.stride;
        let group_outputs = outputs / self.convolution.groups;
        // The pixel under one kernel position, unless that lies in the border.
        let under = |output: usize, offset: usize, zeros: usize, size: usize| {
            let position = (output * stride + offset).checked_sub(zeros)?;
            (position < size).then_some(position)
        };
        indices([batch, outputs, rows, columns])
            .map(|[n, o, row, column]| {
                let mut sum = bias.map_or(0.0, |bias| bias[o]);
                for [_, c, i, j] in indices([1, depth, kernel, kernel]) {
                    let pixel = under(row, i, top, height).zip(under(column, j, left, width));
                    if let Some((y, x_at)) = pixel {
                        let input = o / group_outputs * depth + c;
                        sum += x[at(self.input, [n, input, y, x_at])]
                            * weight[at(self.weight(), [o, c, i, j])];
                    }
                }
                sum
            })
            .collect()
    }
}

pub(crate) fn convolutions_equal_their_definition<AB: AutodiffBackend>(place: &Place<AB>) {
    let case = |input, outputs, kernel, stride, padding, groups| Case {
        input,
        outputs,
        kernel,
        convolution: Convolution {
            stride,
            padding,
            groups,
        },
        bias: groups == 1,
    };
    use Padding::{Same, Symmetric};
    for case in [
        case([2, 3, 6, 7], 4, 3, 1, Symmetric(1), 1),
        // Lopsided in height (6 + 1), even in width (7 + 2).
        case([1, 3, 6, 7], 4, 3, 2, Same, 1),
        case([2, 4, 6, 7], 6, 1, 1, Symmetric(0), 1),
        case([1, 3, 6, 7], 2, 7, 2, Symmetric(3), 1),
        case([2, 4, 6, 7], 4, 5, 2, Same, 4),
        case([1, 4, 6, 7], 6, 3, 1, Symmetric(1), 2),
        // A map smaller than the kernel.
        case([1, 2, 1, 1], 2, 5, 2, Same, 2),
    ] {
        assert_operation(&case, place);
    }
}
