//! MNIST and its relatives (Fashion-MNIST, KMNIST): four IDX files, plain or `.gz`.
//!
//! Format (LeCun, Cortes, Burges, "The MNIST database"): a big-endian magic number (`0x803` for bytes in three
//! dimensions, `0x801` for one), each dimension as a big-endian 32-bit number, the bytes.

use std::path::Path;
use std::sync::Arc;

use super::one_class::{Classes, digits};
use super::packed_file::{PackedFile, find, missing, shared};
use super::{IndexOptions, Layout, Survey};
use crate::data::packed::{PackedImages, PackedPixels};
use crate::error::Result;

/// Longest side of an image; a header with more is damaged.
const MAX_SIDE: u32 = 4096;

const PARTS: [&str; 2] = ["train", "t10k"];

fn image_file(part: &str) -> String {
    format!("{part}-images-idx3-ubyte")
}

fn label_file(part: &str) -> String {
    format!("{part}-labels-idx1-ubyte")
}

pub(super) fn matches(root: &Path) -> bool {
    PARTS
        .map(image_file)
        .iter()
        .any(|name| find(root, name).is_some())
}

/// Test images of all classes are tested.
pub(super) fn survey(root: &Path, options: &IndexOptions) -> Result<Survey> {
    let classes = Classes {
        names: digits(),
        train: part(root, PARTS[0], "train")?,
        test: part(root, PARTS[1], "test")?,
    };
    Ok(Survey::of_classes(
        Layout::Idx,
        classes.dataset(root, options)?,
    ))
}

fn part(root: &Path, part: &str, name: &str) -> Result<Arc<PackedImages>> {
    let path = |name: String| find(root, &name).ok_or_else(|| missing(root, &name));
    let (images, labels) = (path(image_file(part))?, path(label_file(part))?);
    shared(&[images.clone(), labels.clone()], || {
        let labels = read_labels(&labels)?;
        let mut file = PackedFile::open(&images)?;
        let [count, height, width] = header(&mut file, 0x803)?;
        if height == 0 || width == 0 || height > MAX_SIDE || width > MAX_SIDE {
            return Err(file.error(format!(
                "images of {width} x {height} pixels are not possible"
            )));
        }
        if count as usize != labels.len() {
            return Err(file.error(format!(
                "it announces {count} images, but there are {} labels",
                labels.len()
            )));
        }
        // Below 2^56: sides are at most 2^12.
        let pixels = file.bytes(u64::from(count) * u64::from(height) * u64::from(width))?;
        file.end()?;
        PackedImages::new(name, [height, width], PackedPixels::Grey, pixels, labels)
    })
}

fn read_labels(path: &Path) -> Result<Vec<u8>> {
    let mut file = PackedFile::open(path)?;
    let [count] = header(&mut file, 0x801)?;
    let labels = file.bytes(count.into())?;
    if let Some(at) = labels.iter().position(|&label| label > 9) {
        let label = labels[at];
        return Err(file.error(format!("image {at} is of class {label}, not of 0 to 9")));
    }
    file.end()?;
    Ok(labels)
}

/// The dimensions behind the magic number.
fn header<const N: usize>(file: &mut PackedFile, magic: u32) -> Result<[u32; N]> {
    let found = file.number()?;
    if found != magic {
        let message =
            format!("this is not such a file: it begins with {found:#010x}, not {magic:#010x}");
        return Err(file.error(message));
    }
    let mut dimensions = [0; N];
    for dimension in &mut dimensions {
        *dimension = file.number()?;
    }
    Ok(dimensions)
}
