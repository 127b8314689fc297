//! Maps put beside one another, and channels spread over positions: copies of whole runs of channels.

use crate::rows::for_rows;
use crate::window::Map;

/// Rows of several maps side by side: the parts are `[rows, channels]` each, `out` is `[rows, sum of
/// channels]`.
///
/// # Panics
/// If a part is no whole number of rows, or their numbers of rows differ.
pub fn join_channels(parts: &[(&[f32], usize)], out: &mut [f32]) {
    let channels: usize = parts.iter().map(|(_, channels)| channels).sum();
    for &(values, of_part) in parts {
        assert_eq!(
            values.len() * channels,
            out.len() * of_part,
            "rows of a part"
        );
    }
    for_rows(out, channels, 2 * channels, |first, out| {
        for (index, row) in out.chunks_exact_mut(channels).enumerate() {
            let mut at = 0;
            for &(values, of_part) in parts {
                let from = &values[(first + index) * of_part..][..of_part];
                row[at..][..of_part].copy_from_slice(from);
                at += of_part;
            }
        }
    });
}

/// Channels `start..` of `x` (`[rows, channels]`), as many as a row of `out` has (`of_part`).
///
/// # Panics
/// If the slices do not fit.
pub fn take_channels(x: &[f32], channels: usize, start: usize, of_part: usize, out: &mut [f32]) {
    assert!(start + of_part <= channels, "channels of a part");
    assert_eq!(x.len() * of_part, out.len() * channels, "rows of a part");
    for_rows(out, of_part, 2 * of_part, |first, out| {
        for (index, row) in out.chunks_exact_mut(of_part).enumerate() {
            let from = (first + index) * channels + start;
            row.copy_from_slice(&x[from..][..of_part]);
        }
    });
}

/// Each position of `x` becomes 2 x 2 positions of `out`, whose size `map` says: channels of `x` are
/// `[row, column, channel]`.
///
/// # Panics
/// If the slices do not fit, or the sides of `map` are odd.
pub fn depth_to_space(x: &[f32], map: Map, out: &mut [f32]) {
    check(x.len(), map, out.len());
    let row = map.width * map.channels;
    let pair = 2 * map.channels;
    for_rows(out, row, 2 * row, |first, out| {
        for (index, out) in out.chunks_exact_mut(row).enumerate() {
            // Row `first + index` of all images; two of them come from one row of `x`.
            let (source, half) = ((first + index) / 2, (first + index) % 2);
            let from = &x[source * 2 * row..][..2 * row];
            let from = from.chunks_exact(2 * pair);
            for (out, from) in out.chunks_exact_mut(pair).zip(from) {
                out.copy_from_slice(&from[half * pair..][..pair]);
            }
        }
    });
}

/// Undoes [`depth_to_space`]: its gradient. `map` is the size of `x`.
///
/// # Panics
/// If the slices do not fit, or the sides of `map` are odd.
pub fn space_to_depth(x: &[f32], map: Map, out: &mut [f32]) {
    check(out.len(), map, x.len());
    let row = map.width * map.channels;
    let pair = 2 * map.channels;
    for_rows(out, 2 * row, 4 * row, |first, out| {
        for (index, out) in out.chunks_exact_mut(2 * row).enumerate() {
            let from = &x[(first + index) * 2 * row..][..2 * row];
            let (upper, lower) = from.split_at(row);
            let from = upper.chunks_exact(pair).zip(lower.chunks_exact(pair));
            for (out, (upper, lower)) in out.chunks_exact_mut(2 * pair).zip(from) {
                out[..pair].copy_from_slice(upper);
                out[pair..].copy_from_slice(lower);
            }
        }
    });
}

fn check(deep: usize, map: Map, wide: usize) {
    assert!(
        map.height.is_multiple_of(2) && map.width.is_multiple_of(2),
        "sides of {} x {} are not even",
        map.height,
        map.width
    );
    assert!(deep == map.len() && wide == map.len(), "values of maps");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::affordable;

    fn ramp(count: usize) -> Vec<f32> {
        (0..count).map(|value| value as f32).collect()
    }

    #[test]
    fn parts_stand_side_by_side_and_come_apart_again() {
        for rows in [1, 3, 5000] {
            if !affordable(10 * rows) {
                continue;
            }
            let parts = [(ramp(rows * 2), 2), (ramp(rows * 7), 7), (ramp(rows), 1)];
            let views: Vec<(&[f32], usize)> = parts
                .iter()
                .map(|(values, channels)| (values.as_slice(), *channels))
                .collect();
            let mut out = vec![f32::NAN; rows * 10];
            join_channels(&views, &mut out);
            let last = &out[(rows - 1) * 10..];
            let r = (rows - 1) as f32;
            assert_eq!(last[..3], [2.0 * r, 2.0 * r + 1.0, 7.0 * r]);
            assert_eq!(last[9], r);
            let mut start = 0;
            for (values, channels) in &parts {
                let mut again = vec![f32::NAN; values.len()];
                take_channels(&out, 10, start, *channels, &mut again);
                assert_eq!(&again, values);
                start += channels;
            }
        }
    }

    #[test]
    fn a_position_becomes_four_and_one_again() {
        for (batch, height, width, channels) in [(1, 2, 2, 1), (2, 4, 6, 3), (2, 64, 32, 40)] {
            if !affordable(height * width * channels) {
                continue;
            }
            let map = Map {
                batch,
                height,
                width,
                channels,
            };
            let x = ramp(map.len());
            let mut out = vec![f32::NAN; map.len()];
            depth_to_space(&x, map, &mut out);
            for (place, &value) in out.iter().enumerate() {
                let (channel, pixel) = (place % channels, place / channels);
                let (column, line) = (pixel % width, pixel / width);
                let (row, image) = (line % height, line / height);
                let deep = (row % 2 * 2 + column % 2) * channels + channel;
                let source = (image * height / 2 + row / 2) * (width / 2) + column / 2;
                assert_eq!(value, (source * 4 * channels + deep) as f32);
            }
            let mut again = vec![f32::NAN; map.len()];
            space_to_depth(&out, map, &mut again);
            assert_eq!(again, x);
        }
    }

    #[test]
    #[should_panic(expected = "not even")]
    fn odd_sides_are_refused() {
        let map = Map {
            batch: 1,
            height: 3,
            width: 2,
            channels: 1,
        };
        depth_to_space(&[0.0; 6], map, &mut [0.0; 6]);
    }
}
