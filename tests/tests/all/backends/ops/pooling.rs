//! Pooling, also where windows hang over the border.

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn_ad::ops::{average_pool_3x3, max_pool_3x3_stride_2};

use super::{at, indices};
use crate::backends::Place;
use crate::backends::compare::{Operation, assert_operation};

#[derive(Debug)]
enum Kind {
    Max,
    Mean { count_border: bool },
}

struct Case {
    kind: Kind,
    input: [usize; 4],
}

impl Operation for Case {
    fn name(&self) -> String {
        format!("pool {:?} of {:?}", self.kind, self.input)
    }

    fn shapes(&self) -> Vec<Vec<usize>> {
        vec![self.input.to_vec()]
    }

    fn run<B: Backend>(&self, mut inputs: Vec<Tensor<B, 1>>) -> Tensor<B, 1> {
        let x = inputs.remove(0).reshape(self.input);
        let pooled = match self.kind {
            Kind::Max => max_pool_3x3_stride_2(x),
            Kind::Mean { count_border } => average_pool_3x3(x, count_border),
        };
        pooled.flatten(0, 3)
    }

    fn formula(&self, inputs: &[Vec<f64>]) -> Vec<f64> {
        let [batch, channels, height, width] = self.input;
        let stride = match self.kind {
            Kind::Max => 2,
            Kind::Mean { .. } => 1,
        };
        let around = |centre: usize, size: usize| centre.saturating_sub(1)..(centre + 2).min(size);
        let output = [
            batch,
            channels,
            height.div_ceil(stride),
            width.div_ceil(stride),
        ];
        indices(output)
            .map(|[n, c, row, column]| {
                let rows = around(row * stride, height);
                let columns = around(column * stride, width);
                let window: Vec<f64> = rows
                    .flat_map(|y| columns.clone().map(move |x| (y, x)))
                    .map(|(y, x)| inputs[0][at(self.input, [n, c, y, x])])
                    .collect();
                let sum: f64 = window.iter().sum();
                match self.kind {
                    Kind::Max => window.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    Kind::Mean { count_border: true } => sum / 9.0,
                    Kind::Mean { .. } => sum / window.len() as f64,
                }
            })
            .collect()
    }
}

pub(crate) fn pools_equal_their_definition<AB: AutodiffBackend>(place: &Place<AB>) {
    // Odd and even sides.
    let input = [2, 3, 6, 7];
    for kind in [
        Kind::Max,
        Kind::Mean { count_border: true },
        Kind::Mean {
            count_border: false,
        },
    ] {
        assert_operation(&Case { kind, input }, place);
    }
}
