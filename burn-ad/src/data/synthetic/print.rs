//! The mark printed on the plate: part number and bar code.

use super::canvas::Point;

/// Side of a dot of the letters, in design units.
const DOT: f32 = 1.9;
/// Columns of a letter, and of a letter with the gap after it.
const LETTER: usize = 5;
const ADVANCE: usize = 6;
const ROWS: usize = 7;

/// "AD-21", one row of dots per number, the highest of five bits is the left dot.
const TEXT: [[u8; ROWS]; 5] = [
    [0x0e, 0x11, 0x11, 0x1f, 0x11, 0x11, 0x11],
    [0x1e, 0x11, 0x11, 0x11, 0x11, 0x11, 0x1e],
    [0x00, 0x00, 0x00, 0x1f, 0x00, 0x00, 0x00],
    [0x0e, 0x11, 0x01, 0x06, 0x08, 0x10, 0x1f],
    [0x04, 0x0c, 0x04, 0x04, 0x04, 0x04, 0x0e],
];

/// Bars and gaps of one module each.
const BARS: u32 = 0b1101_0010_1101_1001_0100_1101;
const MODULES: u32 = 24;
const MODULE: f32 = 2.0;

/// Distance from the text to the bars.
const GAP: f32 = 6.0;

/// Size of the mark in design units.
const WIDTH: f32 = TEXT.len() as f32 * ADVANCE as f32 * DOT + GAP + MODULES as f32 * MODULE;
const HEIGHT: f32 = ROWS as f32 * DOT;

/// Whether there is ink at a point relative to the mark's centre.
fn ink(p: Point) -> bool {
    let (x, y) = (p[0] + WIDTH / 2.0, p[1] + HEIGHT / 2.0);
    if x < 0.0 || y < 0.0 || x >= WIDTH || y >= HEIGHT {
        return false;
    }
    let (column, row) = ((x / DOT) as usize, (y / DOT) as usize);
    if let Some(letter) = TEXT.get(column / ADVANCE) {
        let dot = column % ADVANCE;
        return dot < LETTER && letter[row.min(ROWS - 1)] >> (LETTER - 1 - dot) & 1 == 1;
    }
    // Counted from the right, as the bits are; beyond the last module is the gap.
    let module = ((WIDTH - x) / MODULE) as u32;
    module < MODULES && BARS >> module & 1 == 1
}

/// Share of a pixel of side `unit` that is inked.
pub(super) fn coverage(p: Point, unit: f32) -> f32 {
    let reach = unit + 1.0;
    if p[0].abs() > WIDTH / 2.0 + reach || p[1].abs() > HEIGHT / 2.0 + reach {
        return 0.0;
    }
    const SAMPLES: usize = 4;
    let offset = |i: usize| ((i as f32 + 0.5) / SAMPLES as f32 - 0.5) * unit;
    let inked = (0..SAMPLES * SAMPLES)
        .filter(|&i| ink([p[0] + offset(i % SAMPLES), p[1] + offset(i / SAMPLES)]))
        .count();
    inked as f32 / (SAMPLES * SAMPLES) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_letter_is_an_a() {
        let left = -WIDTH / 2.0;
        let drawn: Vec<String> = (0..ROWS)
            .map(|row| {
                (0..LETTER)
                    .map(|dot| {
                        let x = left + (dot as f32 + 0.5) * DOT;
                        let y = -HEIGHT / 2.0 + (row as f32 + 0.5) * DOT;
                        if ink([x, y]) { '#' } else { '.' }
                    })
                    .collect()
            })
            .collect();
        assert_eq!(
            drawn,
            [
                ".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"
            ]
        );
        assert_eq!(coverage([0.0, HEIGHT], 1.0), 0.0);
    }
}
