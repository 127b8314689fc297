//! Letterbox padding on coarse grids: it is neither learnt from nor scored.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use crate::data::Region;

/// Which cells of a `[rows, columns]` grid over a `size` x `size` input have their centre inside
/// the picture. A picture too narrow to hold a centre is in the cells of its middle, so that there is
/// always one.
pub(super) fn valid_cells(grid: [usize; 2], region: &Region, size: usize) -> Vec<bool> {
    let [rows, columns] = grid;
    let along = |cells: usize, start: usize, length: usize| -> Vec<bool> {
        let inside = |cell: usize| {
            let centre = (cell as f64 + 0.5) * size as f64 / cells as f64;
            centre >= start as f64 && centre < (start + length) as f64
        };
        let mut valid: Vec<bool> = (0..cells).map(inside).collect();
        if !valid.contains(&true) {
            let middle = (start + length / 2) * cells / size;
            valid[middle.min(cells - 1)] = true;
        }
        valid
    };
    let columns = along(columns, region.left, region.width);
    along(rows, region.top, region.height)
        .into_iter()
        .flat_map(|row| columns.iter().map(move |&column| row && column))
        .collect()
}

/// Sets the vectors that show no picture to zero.
///
/// `features` are `[batch, channels, rows, columns]` over inputs of `size` x `size` pixels.
pub(super) fn blank_padding<B: Backend>(
    features: Vec<Tensor<B, 4>>,
    valid: &[Region],
    size: usize,
) -> Vec<Tensor<B, 4>> {
    if valid.iter().all(|region| region.fills(size)) {
        return features;
    }
    let blank = |feature: Tensor<B, 4>| {
        let [batch, channels, rows, columns] = feature.dims();
        let of_image = |region| valid_cells([rows, columns], region, size);
        let cells = valid.iter().flat_map(of_image);
        let cells: Vec<f32> = cells.map(|valid| f32::from(u8::from(valid))).collect();
        let cells = TensorData::new(cells, [batch * rows * columns, 1]);
        let cells = Tensor::from_data(cells, &feature.device());
        // A row a vector: broadcasts of four dimensions are slow on Flex.
        let vectors = feature.permute([0, 2, 3, 1]);
        let vectors = vectors.reshape([batch * rows * columns, channels]) * cells;
        let feature = vectors.reshape([batch, rows, columns, channels]);
        feature.permute([0, 3, 1, 2])
    };
    features.into_iter().map(blank).collect()
}

/// Padding takes the value of the nearest valid cell, so that it neither scores nor bleeds.
///
/// `maps` is `[batch, rows, columns]` over inputs of `size` x `size` pixels.
pub(super) fn extend_over_padding<B: Backend>(
    maps: Tensor<B, 3>,
    valid: &[Region],
    size: usize,
) -> Tensor<B, 3> {
    if valid.iter().all(|region| region.fills(size)) {
        return maps;
    }
    let device = maps.device();
    let [batch, rows, columns] = maps.dims();
    let clamp = |cells: usize, inside: Vec<bool>| -> Tensor<B, 1, Int> {
        let first = inside.iter().position(|&valid| valid).unwrap_or(0);
        let last = inside.iter().rposition(|&valid| valid).unwrap_or(cells - 1);
        let indices: Vec<i32> = (0..cells)
            .map(|cell| cell.clamp(first, last) as i32)
            .collect();
        Tensor::from_data(TensorData::new(indices, [cells]), &device)
    };
    let extended = (0..batch)
        .map(|image| {
            let cells = valid_cells([rows, columns], &valid[image], size);
            let by_row = (0..rows)
                .map(|row| cells[row * columns..][..columns].contains(&true))
                .collect();
            let by_column = (0..columns)
                .map(|column| cells.iter().skip(column).step_by(columns).any(|&v| v))
                .collect();
            maps.clone()
                .narrow(0, image, 1)
                .select(1, clamp(rows, by_row))
                .select(2, clamp(columns, by_column))
        })
        .collect();
    Tensor::cat(extended, 0)
}

/// The largest value of each map inside its region, `[batch]`.
pub(super) fn max_inside<B: Backend>(maps: &Tensor<B, 3>, valid: &[Region]) -> Tensor<B, 1> {
    let largest = valid
        .iter()
        .enumerate()
        .map(|(image, region)| {
            maps.clone()
                .narrow(0, image, 1)
                .narrow(1, region.top, region.height)
                .narrow(2, region.left, region.width)
                .max()
        })
        .collect();
    Tensor::cat(largest, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_picture_is_in_some_cell() {
        // No centre of a 4 x 4 grid lies in it.
        let strip = Region {
            top: 115,
            left: 0,
            height: 26,
            width: 256,
        };
        let cells = valid_cells([4, 4], &strip, 256);
        let rows: Vec<bool> = cells.chunks(4).map(|row| row == [true; 4]).collect();
        assert_eq!(rows, [false, false, true, false]);
        assert_eq!(cells.iter().filter(|valid| **valid).count(), 4);
        let column = Region {
            top: 0,
            left: 255,
            height: 256,
            width: 1,
        };
        assert_eq!(valid_cells([1, 2], &column, 256), [false, true]);
    }
}
