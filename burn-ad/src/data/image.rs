//! Reading image files into 8-bit pixels.
//!
//! - Grey becomes three equal channels; 16-bit values are scaled (`v / 257`, rounded); palettes
//!   are expanded; CMYK JPEGs are converted.
//! - Alpha is dropped, as Pillow's `convert("RGB")` does: nothing is composited.
//! - An EXIF orientation is *not* applied, as in the published code and in Pillow: masks are
//!   drawn on the stored pixels, and a camera on a line does not turn.
//!   [`check`](crate::data::check()) reports files that carry one.
//! - The content decides about the format, not the extension.

use std::io::{BufReader, Cursor};
use std::panic::AssertUnwindSafe;
use std::path::Path;

use ::image::metadata::Orientation;
use ::image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Luma, Rgb,
    RgbImage,
};

use crate::error::{Error, Result};

/// Extensions (lower case) of the files taken for images.
pub const EXTENSIONS: [&str; 7] = ["bmp", "jpeg", "jpg", "png", "tif", "tiff", "webp"];

/// Longest side accepted, in pixels.
pub const MAX_SIDE: u32 = 65_535;

/// Most memory one decoded image may take, in bytes.
pub const MAX_BYTES: u64 = 512 << 20;

/// Whether the extension, in any case, is one of [`EXTENSIONS`].
pub fn is_image_path(path: impl AsRef<Path>) -> bool {
    path.as_ref()
        .extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

/// Reads an image file as 8-bit RGB.
///
/// # Errors
/// When the file cannot be read, is empty, truncated or not an image, holds floating-point
/// pixels (their range is unknown), or is larger than [`MAX_SIDE`] or [`MAX_BYTES`] allow.
pub fn decode(path: &Path) -> Result<RgbImage> {
    rgb(read(path)?.pixels).map_err(|error| error.path(path))
}

/// Reads a mask file: a pixel is non-zero where any colour channel of the file is.
///
/// Alpha is ignored. In a JPEG, values below 128 count as zero: lossy compression leaves small
/// values around every edge.
///
/// # Errors
/// As [`decode`], except that floating-point pixels are fine.
pub fn decode_mask(path: &Path) -> Result<GrayImage> {
    let Decoded { pixels, format, .. } = read(path)?;
    let lowest = if format == ImageFormat::Jpeg { 128 } else { 1 };
    Ok(mask(pixels, lowest))
}

/// What `data check` wants to know about a file besides its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Colour mode in the file, for instance `8-bit grey`.
    pub mode: &'static str,
    /// Whether the file asks viewers to turn or mirror it; we do not.
    pub turned: bool,
}

/// [`decode`] and what the file says about itself.
///
/// # Errors
/// As [`decode`].
pub fn decode_with_info(path: &Path) -> Result<(RgbImage, FileInfo)> {
    let decoded = read(path)?;
    let info = FileInfo {
        mode: mode(&decoded.pixels),
        turned: decoded.turned,
    };
    let image = rgb(decoded.pixels).map_err(|error| error.path(path))?;
    Ok((image, info))
}

struct Decoded {
    pixels: DynamicImage,
    format: ImageFormat,
    turned: bool,
}

fn read(path: &Path) -> Result<Decoded> {
    if path.is_dir() {
        return Err(Error::data("this is a folder, not an image").path(path));
    }
    let bytes = std::fs::read(path).map_err(|error| Error::io(&error).path(path))?;
    if bytes.is_empty() {
        return Err(Error::data("the file is empty")
            .path(path)
            .help("copy it again, or remove it"));
    }
    // A decoder that panics on a broken file must not take the other images with it.
    std::panic::catch_unwind(AssertUnwindSafe(|| decode_bytes(&bytes)))
        .unwrap_or_else(|_| Err(damaged("the decoder gave up")))
        .map_err(|error| error.path(path))
}

fn decode_bytes(bytes: &[u8]) -> Result<Decoded> {
    let reader = ImageReader::new(BufReader::new(Cursor::new(bytes)))
        .with_guessed_format()
        .map_err(|error| Error::io(&error))?;
    let Some(format) = reader.format() else {
        return Err(Error::data("not an image, or of an unknown format")
            .help(format!("supported: {}", EXTENSIONS.join(", "))));
    };
    if format == ImageFormat::Jpeg && !ends(bytes) {
        return Err(damaged("the end of the file is missing"));
    }
    let mut reader = reader;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(explain)?;
    // The reader limits the decoder's own buffers; the picture itself counts as well.
    limits.reserve(decoder.total_bytes()).map_err(explain)?;
    decoder.set_limits(limits).map_err(explain)?;
    let turned = !matches!(
        decoder.orientation(),
        Ok(Orientation::NoTransforms) | Err(_)
    );
    let pixels = DynamicImage::from_decoder(decoder).map_err(explain)?;
    if pixels.width() == 0 || pixels.height() == 0 {
        return Err(damaged("the image has no pixel"));
    }
    Ok(Decoded {
        pixels,
        format,
        turned,
    })
}

/// Whether a JPEG's last scan (`FF DA`) is followed by the end marker (`FF D9`).
///
/// The decoder fills what is missing with grey and reports success; the grey would be scored as
/// a defect. Neither byte pair occurs inside a scan.
fn ends(jpeg: &[u8]) -> bool {
    let last = |marker: u8| jpeg.windows(2).rposition(|pair| pair == [0xFF, marker]);
    last(0xD9) > last(0xDA)
}

fn explain(error: ImageError) -> Error {
    match error {
        ImageError::Limits(_) => Error::data(format!(
            "the image is too large: more than {MAX_SIDE} pixels along a side or {} MiB",
            MAX_BYTES >> 20
        ))
        .help("cut it into tiles"),
        ImageError::Unsupported(error) => Error::data(format!("cannot be decoded: {error}"))
            .help("save it as 8-bit or 16-bit PNG, JPEG, BMP, TIFF or WebP"),
        other => damaged(&other.to_string()),
    }
}

fn damaged(reason: &str) -> Error {
    Error::data(format!("the image is damaged: {reason}")).help("copy it again, or remove it")
}

fn rgb(pixels: DynamicImage) -> Result<RgbImage> {
    match pixels {
        DynamicImage::ImageRgb8(image) => Ok(image),
        DynamicImage::ImageLuma8(image) => Ok(RgbImage::from_raw(
            image.width(),
            image.height(),
            image.as_raw().iter().flat_map(|&v| [v, v, v]).collect(),
        )
        .expect("three bytes for each pixel")),
        DynamicImage::ImageRgb32F(_) | DynamicImage::ImageRgba32F(_) => Err(Error::data(
            "floating-point pixels cannot be used: their range is not known",
        )
        .help("save the image with 8 or 16 bits per channel")),
        other => Ok(convert(&other)),
    }
}

/// The rarer modes, spelt out: no colour management, no alpha.
fn convert(pixels: &DynamicImage) -> RgbImage {
    let (width, height) = (pixels.width(), pixels.height());
    let each = |pixel: &dyn Fn(u32, u32) -> [u8; 3]| {
        RgbImage::from_fn(width, height, |x, y| Rgb(pixel(x, y)))
    };
    match pixels {
        DynamicImage::ImageLumaA8(image) => each(&|x, y| [image.get_pixel(x, y)[0]; 3]),
        DynamicImage::ImageLuma16(image) => each(&|x, y| [narrow(image.get_pixel(x, y)[0]); 3]),
        DynamicImage::ImageLumaA16(image) => each(&|x, y| [narrow(image.get_pixel(x, y)[0]); 3]),
        DynamicImage::ImageRgba8(image) => each(&|x, y| {
            let [red, green, blue, _] = image.get_pixel(x, y).0;
            [red, green, blue]
        }),
        DynamicImage::ImageRgb16(image) => each(&|x, y| image.get_pixel(x, y).0.map(narrow)),
        DynamicImage::ImageRgba16(image) => each(&|x, y| {
            let [red, green, blue, _] = image.get_pixel(x, y).0;
            [red, green, blue].map(narrow)
        }),
        other => other.to_rgb8(),
    }
}

fn narrow(value: u16) -> u8 {
    // (65535 + 128) / 257 = 255: always fits.
    ((u32::from(value) + 128) / 257) as u8
}

fn mask(pixels: DynamicImage, lowest: u8) -> GrayImage {
    if let (DynamicImage::ImageLuma8(image), 1) = (&pixels, lowest) {
        return image.clone();
    }
    let (width, height) = (pixels.width(), pixels.height());
    let marked = |x: u32, y: u32| match &pixels {
        DynamicImage::ImageLuma8(image) => image.get_pixel(x, y)[0] >= lowest,
        DynamicImage::ImageLumaA8(image) => image.get_pixel(x, y)[0] >= lowest,
        DynamicImage::ImageRgb8(image) => image.get_pixel(x, y).0.iter().any(|&v| v >= lowest),
        DynamicImage::ImageRgba8(image) => {
            image.get_pixel(x, y).0[..3].iter().any(|&v| v >= lowest)
        }
        // Label masks may hold the numbers 1, 2, 3: no scaling to 8 bits here.
        DynamicImage::ImageLuma16(image) => image.get_pixel(x, y)[0] != 0,
        DynamicImage::ImageLumaA16(image) => image.get_pixel(x, y)[0] != 0,
        DynamicImage::ImageRgb16(image) => image.get_pixel(x, y).0.iter().any(|&v| v != 0),
        DynamicImage::ImageRgba16(image) => image.get_pixel(x, y).0[..3].iter().any(|&v| v != 0),
        DynamicImage::ImageRgb32F(image) => image.get_pixel(x, y).0.iter().any(|&v| v != 0.0),
        DynamicImage::ImageRgba32F(image) => image.get_pixel(x, y).0[..3].iter().any(|&v| v != 0.0),
        other => ::image::GenericImageView::get_pixel(other, x, y).0[..3] != [0, 0, 0],
    };
    GrayImage::from_fn(width, height, |x, y| {
        Luma([if marked(x, y) { 255 } else { 0 }])
    })
}

fn mode(pixels: &DynamicImage) -> &'static str {
    match pixels {
        DynamicImage::ImageLuma8(_) => "8-bit grey",
        DynamicImage::ImageLumaA8(_) => "8-bit grey with alpha",
        DynamicImage::ImageRgb8(_) => "8-bit colour",
        DynamicImage::ImageRgba8(_) => "8-bit colour with alpha",
        DynamicImage::ImageLuma16(_) => "16-bit grey",
        DynamicImage::ImageLumaA16(_) => "16-bit grey with alpha",
        DynamicImage::ImageRgb16(_) => "16-bit colour",
        DynamicImage::ImageRgba16(_) => "16-bit colour with alpha",
        _ => "floating point",
    }
}
