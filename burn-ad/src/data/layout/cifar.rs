//! CIFAR-10 in its binary version (Krizhevsky 2009): five training batches and a test batch.
//!
//! A record is one byte of class number and 32 x 32 bytes each of red, green and blue. Class names stand in
//! `batches.meta.txt`, one a line.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::one_class::{Classes, digits};
use super::packed_file::{PackedFile, missing, shared};
use super::{IndexOptions, Layout, Survey};
use crate::data::packed::{PackedImages, PackedPixels};
use crate::error::{Error, Result};

const SIDE: u32 = 32;
const PIXELS: usize = 3 * (SIDE * SIDE) as usize;
const RECORD: usize = 1 + PIXELS;
const CLASSES: usize = 10;
const TRAIN: [&str; 5] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
];
const TEST: [&str; 1] = ["test_batch.bin"];
const NAMES: &str = "batches.meta.txt";

pub(super) fn matches(root: &Path) -> bool {
    root.join(TRAIN[0]).is_file() || root.join(TEST[0]).is_file()
}

/// Test images of all classes are tested.
pub(super) fn survey(root: &Path, options: &IndexOptions) -> Result<Survey> {
    let classes = Classes {
        names: names(root)?,
        train: batches(root, &TRAIN, "train")?,
        test: batches(root, &TEST, "test")?,
    };
    Ok(Survey::of_classes(
        Layout::Cifar10,
        classes.dataset(root, options)?,
    ))
}

fn names(root: &Path) -> Result<Vec<String>> {
    let path = root.join(NAMES);
    if !path.is_file() {
        return Ok(digits());
    }
    let text = std::fs::read_to_string(&path).map_err(|error| Error::io(&error).path(&path))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let names: Vec<String> = lines.map(str::to_owned).collect();
    if names.len() != CLASSES {
        let message = format!("there are {} names of classes, not {CLASSES}", names.len());
        return Err(Error::data(message)
            .path(&path)
            .help("give each class a line, or remove the file: classes then go by their numbers"));
    }
    Ok(names)
}

fn batches(root: &Path, names: &[&str], part: &str) -> Result<Arc<PackedImages>> {
    let files: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
    if let Some(at) = files.iter().position(|path| !path.is_file()) {
        return Err(missing(root, names[at]));
    }
    shared(&files, || {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for path in &files {
            read(path, &mut pixels, &mut labels)?;
        }
        let size = [SIDE, SIDE];
        PackedImages::new(part, size, PackedPixels::Planes, pixels, labels)
    })
}

fn read(path: &Path, pixels: &mut Vec<u8>, labels: &mut Vec<u8>) -> Result<()> {
    let length = std::fs::metadata(path).map_err(|error| Error::io(&error).path(path))?;
    let mut file = PackedFile::open(path)?;
    if length.len() == 0 || length.len() % RECORD as u64 != 0 {
        return Err(file.error(format!(
            "{} bytes are not whole images of {RECORD} bytes each",
            length.len()
        )));
    }
    let bytes = file.bytes(length.len())?;
    file.end()?;
    pixels.reserve(bytes.len());
    for (at, record) in bytes.chunks_exact(RECORD).enumerate() {
        if usize::from(record[0]) >= CLASSES {
            let message = format!("image {at} is of class {}, not of 0 to 9", record[0]);
            return Err(Error::data(message)
                .path(path)
                .help("give the binary version of CIFAR-10, as it was published"));
        }
        labels.push(record[0]);
        pixels.extend_from_slice(&record[1..]);
    }
    Ok(())
}
