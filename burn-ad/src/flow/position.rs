//! The two-dimensional sinusoidal position code.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use super::Condition;

/// Longest wavelength of the code, over `2 pi`.
const LONGEST: f64 = 1e4;

/// Grids with at most this many positions are coded by one table with a row a position, larger
/// ones by a table of columns and one of rows: the product with a layer's weights stays small and
/// one lookup a vector is saved where it can be.
const WHOLE_TABLE: usize = 1024;

/// Position codes of a grid.
///
/// The first half of the channels encodes the column, the second half the row, each as interleaved
/// sine and cosine with frequencies `exp(-2k ln(1e4) / (channels / 2))` (CFLOW-AD's code, which
/// BGAD and HGAD use).
#[derive(Clone, Debug)]
pub struct PositionCode<B: Backend> {
    columns: usize,
    tables: Tables<B>,
}

#[derive(Clone, Debug)]
enum Tables<B: Backend> {
    None,
    /// `[positions, channels]`.
    Whole(Tensor<B, 2>),
    /// `[columns, channels / 2]` and `[rows, channels / 2]`.
    Axes(Tensor<B, 2>, Tensor<B, 2>),
}

impl<B: Backend> PositionCode<B> {
    /// Codes for a grid of `[rows, columns]`; `channels` is a multiple of 4, 0 is no code.
    ///
    /// # Panics
    /// If `channels` is not a multiple of 4.
    pub fn new(grid: [usize; 2], channels: usize, device: &B::Device) -> Self {
        assert!(channels.is_multiple_of(4), "channels of a position code");
        let [rows, columns] = grid;
        let half = channels / 2;
        let tensor = |values: Vec<f32>, width: usize| {
            let count = values.len() / width;
            Tensor::from_data(TensorData::new(values, [count, width]), device)
        };
        let tables = if channels == 0 {
            Tables::None
        } else if rows * columns <= WHOLE_TABLE {
            Tables::Whole(tensor(position_code(grid, channels), channels))
        } else {
            Tables::Axes(
                tensor(axis_code(columns, half), half),
                tensor(axis_code(rows, half), half),
            )
        };
        Self { columns, tables }
    }

    /// The condition of vectors at `positions` (row-major indices into the grid).
    pub fn condition(&self, positions: &[usize], device: &B::Device) -> Condition<B> {
        let indices = |of: &dyn Fn(usize) -> usize| -> Tensor<B, 1, Int> {
            let values: Vec<i32> = positions.iter().map(|&at| of(at) as i32).collect();
            Tensor::from_data(TensorData::new(values, [positions.len()]), device)
        };
        match &self.tables {
            Tables::None => Condition::none(),
            Tables::Whole(table) => Condition::lookup(table.clone(), indices(&|at| at)),
            Tables::Axes(columns, rows) => {
                let column = indices(&|at| at % self.columns);
                let row = indices(&|at| at / self.columns);
                Condition::lookup(columns.clone(), column)
                    .beside(Condition::lookup(rows.clone(), row))
            }
        }
    }
}

/// Tables of columns and of rows, each with the width of its entries; none without a code.
pub(super) fn axis_tables(grid: [usize; 2], channels: usize) -> Vec<(Vec<f32>, usize)> {
    let half = channels / 2;
    match half {
        0 => Vec::new(),
        _ => vec![
            (axis_code(grid[1], half), half),
            (axis_code(grid[0], half), half),
        ],
    }
}

/// Codes of all positions of a grid of `[rows, columns]`, `[rows * columns, channels]`.
pub(super) fn position_code(grid: [usize; 2], channels: usize) -> Vec<f32> {
    let half = channels / 2;
    let (by_row, by_column) = (axis_code(grid[0], half), axis_code(grid[1], half));
    let mut code = Vec::with_capacity(grid[0] * grid[1] * channels);
    for row in by_row.chunks_exact(half) {
        for column in by_column.chunks_exact(half) {
            code.extend_from_slice(column);
            code.extend_from_slice(row);
        }
    }
    code
}

/// Codes of the positions of one axis, `[length, channels]`.
fn axis_code(length: usize, channels: usize) -> Vec<f32> {
    let mut code = Vec::with_capacity(length * channels);
    for position in 0..length {
        for pair in 0..channels / 2 {
            let frequency = (-2.0 * pair as f64 * LONGEST.ln() / channels as f64).exp();
            let (sine, cosine) = (position as f64 * frequency).sin_cos();
            code.extend([sine as f32, cosine as f32]);
        }
    }
    code
}
