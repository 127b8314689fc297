//! What every coupling block sees beside its vectors.

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor};

/// A condition vector for each feature vector, kept in parts that many vectors share.
///
/// The first layer of a subnet is linear, so a part is multiplied with its weights once a table
/// row instead of once a vector: the position code of 4096 vectors costs as much as that of one
/// image row and one column.
#[derive(Clone, Debug)]
pub struct Condition<B: Backend> {
    parts: Vec<Part<B>>,
}

#[derive(Clone, Debug)]
struct Part<B: Backend> {
    /// `[entries, width]`.
    table: Tensor<B, 2>,
    /// The entry of each vector; `None` when entry `i` belongs to vector `i`.
    rows: Option<Tensor<B, 1, Int>>,
}

impl<B: Backend> Condition<B> {
    /// No condition.
    pub fn none() -> Self {
        Self { parts: Vec::new() }
    }

    /// One row a vector, `[vectors, width]`.
    pub fn dense(values: Tensor<B, 2>) -> Self {
        Self {
            parts: vec![Part {
                table: values,
                rows: None,
            }],
        }
    }

    /// Vector `i` has row `rows[i]` of `table` `[entries, width]`.
    pub fn lookup(table: Tensor<B, 2>, rows: Tensor<B, 1, Int>) -> Self {
        Self {
            parts: vec![Part {
                table,
                rows: Some(rows),
            }],
        }
    }

    /// Both conditions side by side, the channels of `self` first.
    #[must_use]
    pub fn beside(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self
    }

    /// Channels of the condition of one vector.
    pub fn width(&self) -> usize {
        self.parts.iter().map(|part| part.table.dims()[1]).sum()
    }

    /// The same for a network that is being trained.
    pub fn from_inner<AB>(inner: Condition<B>) -> Condition<AB>
    where
        AB: AutodiffBackend<InnerBackend = B>,
    {
        let parts = inner.parts.into_iter().map(|part| Part {
            table: Tensor::from_inner(part.table),
            rows: part.rows.map(Tensor::from_inner),
        });
        Condition {
            parts: parts.collect(),
        }
    }

    /// `condition * weight + bias` for each vector, `[vectors, outputs]`.
    ///
    /// `weight` is `[width, outputs]`, `bias` `[1, outputs]`.
    ///
    /// # Panics
    /// If there is no condition, or its width is not the weight's.
    pub(super) fn project(&self, weight: &Tensor<B, 2>, bias: Tensor<B, 2>) -> Tensor<B, 2> {
        assert_eq!(self.width(), weight.dims()[0], "channels of the condition");
        let mut bias = Some(bias);
        let mut offset = 0;
        let products = self.parts.iter().map(|part| {
            let width = part.table.dims()[1];
            let slice = weight.clone().narrow(0, offset, width);
            offset += width;
            let product = part.table.clone().matmul(slice);
            let product = match bias.take() {
                Some(bias) => product + bias,
                None => product,
            };
            match &part.rows {
                Some(rows) => product.select(0, rows.clone()),
                None => product,
            }
        });
        products
            .reduce(|sum, product| sum + product)
            .expect("this flow was built for a condition")
    }
}
