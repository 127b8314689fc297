//! Images to learn from that need no labels: of datasets, or of a folder that follows no layout.

use std::path::Path;

use super::files::{Listing, product_name, sample};
use super::limit::limit;
use super::products::{index_products, is_dataset};
use super::{IndexOptions, Layout};
use crate::data::sample::{Dataset, Label};
use crate::error::{Error, Result};

/// The training images below `root`; of a dataset its normal ones, of all products ([`index_products`]).
///
/// Where `layout` is `auto` and no layout is found, they are all images in the folder and below it. The dataset
/// has no test images.
///
/// # Errors
/// Those of [`index_products`], and when there is no image at all.
pub fn training_images(root: &Path, layout: Layout, options: &IndexOptions) -> Result<Dataset> {
    if layout != Layout::Auto || !root.is_dir() || is_dataset(root, layout)? {
        let dataset = index_products(root, layout, options)?;
        return Ok(Dataset {
            pool: Vec::new(),
            test: Vec::new(),
            ..dataset
        });
    }
    if let Some(class) = &options.normal_class {
        let message =
            format!("a folder of images has no classes, so '{class}' cannot be the normal one");
        return Err(Error::usage(message)
            .path(root)
            .help("leave --normal-class out"));
    }
    let images = Listing::deep(root)?.images.into_iter();
    let mut dataset = Dataset {
        name: product_name(root),
        train: images
            .map(|path| sample(path, Label::Normal, "good", None))
            .collect(),
        ..Dataset::default()
    };
    if dataset.train.is_empty() {
        return Err(Error::data("there is no image in this folder or below it")
            .path(root)
            .help("give a folder of images, or a dataset"));
    }
    limit(&mut dataset, options)?;
    Ok(dataset)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data::share::TrainLimit;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }

    fn names(root: &Path, options: &IndexOptions) -> Vec<String> {
        let dataset = training_images(root, Layout::Auto, options).unwrap();
        assert!(dataset.pool.is_empty() && dataset.test.is_empty());
        let below = |name: &str| name[root.to_string_lossy().len() + 1..].replace('\\', "/");
        let samples = dataset.train.iter();
        samples.map(|sample| below(&sample.image.name())).collect()
    }

    #[test]
    fn of_datasets_the_normal_training_images_and_of_a_folder_all() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for file in [
            "sets/bolt/train/good/0.png",
            "sets/bolt/test/crack/1.png",
            "sets/nut/train/good/0.png",
            "loose/a/0.png",
            "loose/b/c/1.jpg",
            "loose/2.png",
            "loose/notes.txt",
            "texts/notes.txt",
        ] {
            touch(&root.join(file));
        }
        let all = IndexOptions::default();
        assert_eq!(names(&root.join("sets/bolt"), &all), ["train/good/0.png"]);
        let both = ["bolt/train/good/0.png", "nut/train/good/0.png"];
        assert_eq!(names(&root.join("sets"), &all), both);
        let loose = ["2.png", "a/0.png", "b/c/1.jpg"];
        assert_eq!(names(&root.join("loose"), &all), loose);
        let two = IndexOptions {
            train_limit: Some(TrainLimit::Percent(60.0)),
            ..IndexOptions::default()
        };
        assert_eq!(names(&root.join("loose"), &two).len(), 2);
        for (folder, layout, part) in [
            ("texts", Layout::Auto, "no image"),
            ("absent", Layout::Auto, "no such folder"),
            ("loose", Layout::MvtecAd, "train/good"),
        ] {
            let error = training_images(&root.join(folder), layout, &all).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let class = IndexOptions {
            normal_class: Some("3".to_owned()),
            ..IndexOptions::default()
        };
        let error = training_images(&root.join("loose"), Layout::Auto, &class).unwrap_err();
        assert!(
            error.is_usage() && error.to_string().contains("'3'"),
            "{error}"
        );
    }
}
