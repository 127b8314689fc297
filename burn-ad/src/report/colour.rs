//! Colours for anomaly maps, and the outline of a region.

/// Samples of the colour map "inferno" at 33 equally spaced values; linear interpolation between them
/// stays within 1.5/255 of the full table.
///
/// Source: "inferno" by Nathaniel Smith and Stéfan van der Walt (matplotlib, CC0): perceptually uniform,
/// monotone in lightness, readable with the common colour vision deficiencies.
const INFERNO: [[u8; 3]; 33] = [
    [0, 0, 4],
    [4, 3, 18],
    [11, 7, 36],
    [21, 11, 55],
    [33, 12, 74],
    [46, 10, 90],
    [60, 9, 101],
    [74, 12, 107],
    [87, 16, 109],
    [99, 20, 110],
    [112, 25, 110],
    [125, 30, 109],
    [137, 34, 106],
    [150, 39, 102],
    [163, 43, 97],
    [175, 49, 92],
    [187, 55, 85],
    [198, 62, 77],
    [209, 70, 68],
    [219, 79, 59],
    [227, 89, 50],
    [235, 101, 40],
    [241, 113, 30],
    [246, 127, 20],
    [249, 141, 10],
    [251, 156, 6],
    [252, 171, 15],
    [251, 186, 31],
    [249, 202, 50],
    [245, 217, 73],
    [242, 232, 101],
    [243, 245, 134],
    [252, 255, 164],
];

/// The colour of a value: 0 is near black, 1 pale yellow; values outside are clamped, NaN counts as 0.
pub fn inferno(value: f32) -> [u8; 3] {
    let position = unit(f64::from(value)) * (INFERNO.len() - 1) as f32;
    let below = (position as usize).min(INFERNO.len() - 2);
    let share = position - below as f32;
    std::array::from_fn(|channel| {
        let [a, b] = [INFERNO[below][channel], INFERNO[below + 1][channel]].map(f32::from);
        (a + (b - a) * share).round() as u8
    })
}

/// Where `value` lies in `range`: 0 at its lower end, 1 at its upper end, clamped.
///
/// An empty range is a step: 0 up to its lower end, 1 above. NaN gives 0.
pub fn position(value: f32, range: (f32, f32)) -> f32 {
    let (low, high) = range;
    if high > low {
        // In f64: the width of a range of huge values does not overflow.
        let width = f64::from(high) - f64::from(low);
        let share = (f64::from(value) - f64::from(low)) / width;
        unit(share)
    } else if value > low {
        1.0
    } else {
        0.0
    }
}

/// The nearest value in `[0, 1]`; 0 for NaN.
fn unit(value: f64) -> f32 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, 1.0) as f32
    }
}

/// The two sides of the outline of a region in a mask of `height * width` pixels.
pub struct Outline {
    /// Pixels of the region that touch its outside (also across the image border, so a region cut by
    /// the border is closed).
    pub inner: Vec<bool>,
    /// Pixels outside that touch the region along an edge or a corner: a dark rim here keeps the line
    /// visible on a bright image.
    pub outer: Vec<bool>,
}

/// Finds the outline of all regions of a mask.
///
/// # Panics
/// When `mask` does not hold `height * width` values.
pub fn outline(mask: &[bool], height: usize, width: usize) -> Outline {
    assert_eq!(mask.len(), height * width, "mask is not height * width");
    let at = |row: usize, column: usize, down: isize, right: isize| -> Option<bool> {
        let row = row.checked_add_signed(down).filter(|row| *row < height)?;
        let column = column
            .checked_add_signed(right)
            .filter(|column| *column < width)?;
        Some(mask[row * width + column])
    };
    let mut outline = Outline {
        inner: vec![false; mask.len()],
        outer: vec![false; mask.len()],
    };
    for row in 0..height {
        for column in 0..width {
            let index = row * width + column;
            if mask[index] {
                outline.inner[index] = [(-1, 0), (1, 0), (0, -1), (0, 1)]
                    .into_iter()
                    .any(|(down, right)| at(row, column, down, right) != Some(true));
            } else {
                outline.outer[index] = (-1..=1)
                    .flat_map(|down| (-1..=1).map(move |right| (down, right)))
                    .any(|(down, right)| at(row, column, down, right) == Some(true));
            }
        }
    }
    outline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lightness_rises_with_the_value() {
        let lightness = |value: f32| {
            let [r, g, b] = inferno(value).map(f32::from);
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        for step in 0..100 {
            let (low, high) = (step as f32 / 100.0, (step + 1) as f32 / 100.0);
            assert!(lightness(high) > lightness(low), "at {low}");
        }
    }

    #[test]
    fn values_outside_the_range_are_clamped_and_nan_is_low() {
        assert_eq!(inferno(-3.0), inferno(0.0));
        assert_eq!(inferno(f32::INFINITY), [252, 255, 164]);
        assert_eq!(inferno(f32::NAN), [0, 0, 4]);
        assert_eq!(position(5.0, (0.0, 10.0)), 0.5);
        assert_eq!(position(f32::NAN, (0.0, 10.0)), 0.0);
        assert_eq!(position(1.0, (1.0, 1.0)), 0.0);
        assert_eq!(position(1.5, (1.0, 1.0)), 1.0);
        assert_eq!(position(0.0, (f32::MIN, f32::MAX)), 0.5);
    }

    #[test]
    fn the_outline_of_a_square_is_its_ring_and_the_ring_around_it() {
        let inside = |row: usize, column: usize| (2..5).contains(&row) && (2..5).contains(&column);
        let mask: Vec<bool> = (0..49).map(|i| inside(i / 7, i % 7)).collect();
        let outline = outline(&mask, 7, 7);
        for row in 0..7usize {
            for column in 0..7usize {
                let (i, ring) = (row * 7 + column, row.abs_diff(3).max(column.abs_diff(3)));
                assert_eq!(outline.inner[i], ring == 1);
                assert_eq!(outline.outer[i], ring == 2);
            }
        }
    }

    #[test]
    fn a_region_cut_by_the_border_is_closed() {
        let outline = outline(&[true; 9], 3, 3);
        let ring: Vec<bool> = (0..9).map(|i| i != 4).collect();
        assert_eq!(outline.inner, ring);
        assert!(outline.outer.iter().all(|outer| !outer));
    }
}
