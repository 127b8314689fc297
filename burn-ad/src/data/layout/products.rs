//! Datasets of several products.

use std::path::{Path, PathBuf};

use super::files::{folders, product_name};
use super::{IndexOptions, Layout, index};
use crate::data::sample::{Dataset, Sample};
use crate::error::Result;

/// Products lie in the folder, or in folders of it: a union of datasets.
const DEPTH: usize = 2;

/// Lists the samples of every product below `root` as one dataset.
///
/// A folder that is a product itself is the one product, by its own name. Otherwise the products are
/// its folders, or the folders of these, by their paths below `root`. The kinds of samples begin with
/// the product (`bottle/good`, `visa/candle/good`), and products come in the order of their names.
/// Folders that are no product are passed over.
///
/// # Errors
/// Those of [`index`], also where there is no product at all.
pub fn index_products(root: &Path, layout: Layout, options: &IndexOptions) -> Result<Dataset> {
    let products = match root.is_dir() && !layout.matches(root)? {
        true => below(root, layout)?,
        false => Vec::new(),
    };
    if products.is_empty() {
        let product = index(root, layout, options)?;
        let name = product.name.clone();
        return Ok(Dataset {
            train: named(&name, product.train),
            pool: named(&name, product.pool),
            test: named(&name, product.test),
            name,
        });
    }
    let mut all = Dataset {
        name: product_name(root),
        ..Dataset::default()
    };
    for (name, path) in products {
        let product = index(&path, layout, options)
            .map_err(|error| error.context(format!("product '{name}'")))?;
        all.train.extend(named(&name, product.train));
        all.pool.extend(named(&name, product.pool));
        all.test.extend(named(&name, product.test));
    }
    Ok(all)
}

/// Whether the folder `root` is a product, or has some where [`index_products`] looks for them.
pub(super) fn is_dataset(root: &Path, layout: Layout) -> Result<bool> {
    Ok(layout.matches(root)? || !below(root, layout)?.is_empty())
}

/// The products below a folder that is none, with their names.
fn below(root: &Path, layout: Layout) -> Result<Vec<(String, PathBuf)>> {
    let mut products = Vec::new();
    find(root, layout, "", DEPTH, &mut products)?;
    Ok(products)
}

/// Samples of the product `name`.
fn named(name: &str, mut samples: Vec<Sample>) -> Vec<Sample> {
    for sample in &mut samples {
        sample.kind = format!("{name}/{}", sample.kind);
    }
    samples
}

fn find(
    root: &Path,
    layout: Layout,
    prefix: &str,
    depth: usize,
    products: &mut Vec<(String, PathBuf)>,
) -> Result<()> {
    for (name, path) in folders(root)? {
        let name = format!("{prefix}{name}");
        if layout.matches(&path)? {
            products.push((name, path));
        } else if depth > 1 {
            find(&path, layout, &format!("{name}/"), depth - 1, products)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }

    fn classes(dataset: &Dataset) -> Vec<&str> {
        let all = dataset.train.iter().chain(&dataset.test);
        let mut classes: Vec<&str> = all.map(|sample| sample.class().unwrap_or("-")).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    #[test]
    fn products_of_datasets_of_any_layout_become_classes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for file in [
            "mvtec/bottle/train/good/0.png",
            "mvtec/bottle/test/crack/1.png",
            "mvtec/bottle/ground_truth/crack/1_mask.png",
            "mvtec/cable/train/good/0.png",
            "mvtec/cable/test/good/1.png",
            "plates/normal/0.png",
            "plates/abnormal/dent/1.png",
            "notes/readme/0.png",
        ] {
            touch(&root.join(file));
        }
        let options = IndexOptions::default();
        let dataset = index_products(root, Layout::Auto, &options).unwrap();
        assert_eq!(classes(&dataset), ["mvtec/bottle", "mvtec/cable", "plates"]);
        let crack = dataset
            .test
            .iter()
            .find(|sample| sample.kind == "mvtec/bottle/crack")
            .unwrap();
        assert!(crack.mask.is_some() && crack.label.is_anomalous());
        assert_eq!(dataset.train.len(), 3);

        let mvtec = index_products(&root.join("mvtec"), Layout::MvtecAd, &options).unwrap();
        assert_eq!(classes(&mvtec), ["bottle", "cable"]);
        let one = index_products(&root.join("plates"), Layout::Auto, &options).unwrap();
        assert_eq!(
            (classes(&one), one.name.as_str()),
            (vec!["plates"], "plates")
        );
        assert!(index_products(&root.join("notes"), Layout::Auto, &options).is_err());
        assert!(index_products(&root.join("absent"), Layout::Auto, &options).is_err());
    }

    #[test]
    fn a_product_without_training_images_is_named() {
        let dir = tempfile::tempdir().unwrap();
        touch(&dir.path().join("bottle/train/good/0.png"));
        std::fs::create_dir_all(dir.path().join("cable/train/good")).unwrap();
        let error = index_products(dir.path(), Layout::Auto, &IndexOptions::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("product 'cable'"), "{error}");
    }
}
