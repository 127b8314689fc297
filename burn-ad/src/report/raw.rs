//! Anomaly maps for other programs: `.npy` and 16-bit grey PNG.

use std::io::Write;
use std::path::Path;

use super::colour::position;
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// Writes a map as NumPy's `.npy` (format 1.0): little-endian float32, shape `[height, width]`.
///
/// # Errors
/// When the file cannot be written.
///
/// # Panics
/// When `map` does not hold `height * width` values.
pub fn write_npy(path: &Path, map: &[f32], [height, width]: [usize; 2]) -> Result<()> {
    assert_eq!(map.len(), height * width, "the map is not height * width");
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({height}, {width}), }}");
    // Magic, version and length take 10 bytes; the data must start at a multiple of 64.
    let padding = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let length = u16::try_from(header.len()).expect("two integers fit 64 KiB");
    write_atomically(path, |file| {
        file.write_all(b"\x93NUMPY\x01\x00")?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for value in map {
            file.write_all(&value.to_le_bytes())?;
        }
        Ok(())
    })
}

/// Writes a map as 16-bit grey PNG: pixel 0 is `range.0`, pixel 65535 is `range.1`, linear between.
///
/// Values outside the range are clamped, NaN becomes 0. The file carries the range in two text chunks,
/// `range-low` and `range-high`: `value = low + pixel / 65535 * (high - low)`.
///
/// # Errors
/// When the map is empty (a PNG has at least one pixel) or the file cannot be written.
///
/// # Panics
/// When `map` does not hold `height * width` values.
pub fn write_png16(
    path: &Path,
    map: &[f32],
    [height, width]: [usize; 2],
    range: (f32, f32),
) -> Result<()> {
    assert_eq!(map.len(), height * width, "the map is not height * width");
    let side = |length: usize| {
        u32::try_from(length).map_err(|_| Error::data("the map is too large for a PNG").path(path))
    };
    let (width, height) = (side(width)?, side(height)?);
    let encode = |error: png::EncodingError| match error {
        png::EncodingError::IoError(error) => Error::io(&error),
        error => Error::data(format!("cannot encode as PNG: {error}")),
    };
    let pixels: Vec<u8> = map
        .iter()
        .flat_map(|value| {
            let share = f64::from(position(*value, range));
            ((share * f64::from(u16::MAX)).round() as u16).to_be_bytes()
        })
        .collect();
    write_atomically(path, |file| {
        let mut encoder = png::Encoder::new(file, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Sixteen);
        for (keyword, value) in [("range-low", range.0), ("range-high", range.1)] {
            encoder
                .add_text_chunk(keyword.to_owned(), value.to_string())
                .map_err(encode)?;
        }
        let mut writer = encoder.write_header().map_err(encode)?;
        writer.write_image_data(&pixels).map_err(encode)?;
        writer.finish().map_err(encode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_holds_header_shape_and_exact_values() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for shape in [[2, 3], [1, 1], [0, 7], [123, 1]] {
            let map: Vec<f32> = (0..shape[0] * shape[1])
                .map(|i| 1.0 / (i as f32 + 0.1) - 3.0)
                .collect();
            let path = dir.path().join("map.npy");
            write_npy(&path, &map, shape).expect("written");
            let bytes = std::fs::read(&path).expect("read");
            assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
            let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
            assert_eq!(start % 64, 0);
            let header = std::str::from_utf8(&bytes[10..start]).expect("ASCII");
            assert!(header.ends_with('\n'));
            assert_eq!(
                header.trim_end(),
                format!(
                    "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
                    shape[0], shape[1]
                )
            );
            let values: Vec<f32> = bytes[start..]
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            assert_eq!(values, map);
        }
    }

    #[test]
    fn png16_gives_the_values_back_through_the_range_it_carries() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("map.png");
        let (low, high) = (-1.25f32, 3.7f32);
        let map = [-1.25, 0.0, 1.0 / 3.0, 2.0, 3.7, 99.0, -99.0, f32::NAN];
        write_png16(&path, &map, [2, 4], (low, high)).expect("written");

        let file = std::io::BufReader::new(std::fs::File::open(&path).expect("open"));
        let reader = png::Decoder::new(file).read_info().expect("PNG");
        let text = |keyword: &str| -> f64 {
            let chunks = &reader.info().uncompressed_latin1_text;
            let chunk = chunks.iter().find(|chunk| chunk.keyword == keyword);
            chunk.expect("chunk").text.parse().expect("number")
        };
        let (read_low, read_high) = (text("range-low"), text("range-high"));
        assert_eq!((read_low as f32, read_high as f32), (low, high));

        let image = image::open(&path).expect("read").to_luma16();
        assert_eq!(image.dimensions(), (4, 2));
        for (pixel, value) in image.pixels().zip(map) {
            let value = if value.is_nan() {
                low
            } else {
                value.clamp(low, high)
            };
            let restored = read_low + f64::from(pixel.0[0]) / 65535.0 * (read_high - read_low);
            let step = (read_high - read_low) / 65535.0;
            assert!(
                (restored - f64::from(value)).abs() <= 0.51 * step,
                "{value}"
            );
        }
    }

    #[test]
    fn an_empty_map_is_an_error_not_a_broken_png() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("map.png");
        assert!(write_png16(&path, &[], [0, 4], (0.0, 1.0)).is_err());
        assert!(!path.exists());
    }
}
