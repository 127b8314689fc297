//! Augmentations that move pixels.

use image::{GrayImage, RgbImage, imageops};

use super::super::draws::Draws;
use super::super::known::Known;
use super::warp::warp;

/// Quarter turns clockwise.
pub(super) fn rotate90(known: &Known, quarters: usize) -> Known {
    let (image, mask): (RgbImage, GrayImage) = match quarters % 4 {
        0 => return known.clone(),
        1 => (
            imageops::rotate90(known.image()),
            imageops::rotate90(known.mask()),
        ),
        2 => (
            imageops::rotate180(known.image()),
            imageops::rotate180(known.mask()),
        ),
        _ => (
            imageops::rotate270(known.image()),
            imageops::rotate270(known.mask()),
        ),
    };
    Known::from_parts(image, mask)
}

pub(super) fn flip(known: &Known, horizontal: bool, vertical: bool) -> Known {
    let (mut image, mut mask) = (known.image().clone(), known.mask().clone());
    if horizontal {
        imageops::flip_horizontal_in_place(&mut image);
        imageops::flip_horizontal_in_place(&mut mask);
    }
    if vertical {
        imageops::flip_vertical_in_place(&mut image);
        imageops::flip_vertical_in_place(&mut mask);
    }
    Known::from_parts(image, mask)
}

/// Width, height and centre in pixels.
fn frame(known: &Known) -> ([f64; 2], [f64; 2]) {
    let (width, height) = known.image().dimensions();
    let sides = [f64::from(width), f64::from(height)];
    (sides, sides.map(|side| (side - 1.0) / 2.0))
}

/// Radial distortion: a point at radius `r` from the centre, in units of the sides, comes from
/// `r (1 + k r^2 + k r^4)`.
pub(super) fn optical(known: &Known, k: f64) -> Known {
    let (sides, centre) = frame(known);
    warp(known, |x, y| {
        let (x, y) = ((x - centre[0]) / sides[0], (y - centre[1]) / sides[1]);
        let square = x * x + y * y;
        let factor = 1.0 + k * square + k * square * square;
        [
            x * factor * sides[0] + centre[0],
            y * factor * sides[1] + centre[1],
        ]
    })
}

pub(super) fn shift_scale_rotate(known: &Known, draws: &mut Draws<'_>) -> Known {
    let (sides, centre) = frame(known);
    let shift = sides.map(|side| side * draws.around_zero(0.0625));
    let scale = 1.0 + draws.around_zero(0.2);
    let (sin, cos) = draws.around_zero(45f64.to_radians()).sin_cos();
    warp(known, |x, y| {
        let (x, y) = (x - centre[0] - shift[0], y - centre[1] - shift[1]);
        [
            (cos * x + sin * y) / scale + centre[0],
            (cos * y - sin * x) / scale + centre[1],
        ]
    })
}

/// One of the distortion group.
pub(super) fn distortion(known: &Known, draws: &mut Draws<'_>) -> Known {
    type Distort = fn(&Known, &mut Draws<'_>) -> Known;
    let weak: Distort = |known, draws| optical(known, draws.around_zero(0.05));
    draws.weighted(&[
        (0.3, weak),
        (0.1, grid as Distort),
        (0.3, piecewise_affine as Distort),
    ])(known, draws)
}

/// Columns and rows of five cells are stretched and squeezed, within 30 % each.
// Differs from the published code, whose cells need not add up to the whole, so that the picture
// is cut or reflected: here their sizes are normalised.
fn grid(known: &Known, draws: &mut Draws<'_>) -> Known {
    const CELLS: usize = 5;
    let (sides, _) = frame(known);
    let mut edges = || {
        let mut edges = [0.0; CELLS + 1];
        for cell in 0..CELLS {
            edges[cell + 1] = edges[cell] + 1.0 + draws.around_zero(0.3);
        }
        edges.map(|edge| edge / edges[CELLS])
    };
    let (across, down) = (edges(), edges());
    let along = |edges: &[f64; CELLS + 1], at: f64, side: f64| {
        let place = (at + 0.5) / side * CELLS as f64;
        let cell = (place as usize).min(CELLS - 1);
        let share = place - cell as f64;
        (edges[cell] + (edges[cell + 1] - edges[cell]) * share) * side - 0.5
    };
    warp(known, |x, y| {
        [along(&across, x, sides[0]), along(&down, y, sides[1])]
    })
}

/// The points of a 4 x 4 grid move; each cell's two triangles follow them affinely.
fn piecewise_affine(known: &Known, draws: &mut Draws<'_>) -> Known {
    const POINTS: usize = 4;
    let (sides, _) = frame(known);
    let deviation = draws.uniform(0.03, 0.05);
    let moves: [[[f64; 2]; POINTS]; POINTS] = std::array::from_fn(|_| {
        std::array::from_fn(|_| sides.map(|side| side * deviation * draws.gaussian()))
    });
    let cells = (POINTS - 1) as f64;
    let place = |at: f64, side: f64| {
        let place = (at + 0.5) / side * cells;
        let cell = (place as usize).min(POINTS - 2);
        (cell, place - cell as f64)
    };
    warp(known, |x, y| {
        let (column, a) = place(x, sides[0]);
        let (row, b) = place(y, sides[1]);
        let corner = |down: usize, right: usize| moves[row + down][column + right];
        // Affine on each side of the cell's diagonal, along which both agree.
        let (shares, corners) = if a >= b {
            (
                [1.0 - a, a - b, b],
                [corner(0, 0), corner(0, 1), corner(1, 1)],
            )
        } else {
            (
                [1.0 - b, b - a, a],
                [corner(0, 0), corner(1, 0), corner(1, 1)],
            )
        };
        let by = |axis: usize| (0..3).map(|i| shares[i] * corners[i][axis]).sum::<f64>();
        [x + by(0), y + by(1)]
    })
}
