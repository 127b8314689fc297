//! Training runs as every command does them.

use std::path::Path;

use burn::tensor::backend::AutodiffBackend;
use burn_ad::data::known::relative_name;
use burn_ad::data::{
    Dataset, Geometry, IndexOptions, KnownSplit, Layout, Loader, Preprocess, Sample, contaminate,
    index, index_products,
};
use burn_ad::flow::StateDict;
use burn_ad::method::bgad::Boundary;
use burn_ad::method::ckaad::AnomalySource;
use burn_ad::method::{
    CalibrationSource, MethodConfig, Model, ModelHeader, StoredModel, TrainOptions, TrainingImages,
    Watched,
};
use burn_ad::report::memory::peak_resident_bytes;
use burn_ad::report::table::{Align, Table};
use burn_ad::train::{Checkpoints, Observer, Run};
use burn_ad::{Error, Result};
use burn_ad_weights::flows;

use crate::backend::BackendName;
use crate::progress::{Progress, duration};
use crate::settings::{Protocol, Settings, TrainSettings};
use crate::train_log::Recorder;
use crate::weights::ChosenWeights;

/// Lists the images of a folder: of all its products for methods that learn several, else of one.
///
/// # Errors
/// When the folder cannot be read or follows no layout.
pub(crate) fn images_below(
    root: &Path,
    method: &MethodConfig,
    layout: Layout,
    options: &IndexOptions,
) -> Result<Dataset> {
    if method.has_classes() {
        index_products(root, layout, options)
    } else {
        index(root, layout, options)
    }
}

/// Takes the anomalous images that train as normal ones out of the test set, then the known anomalies that the settings
/// ask for. What contaminates does not depend on which anomalies are known.
///
/// # Errors
/// When there are not that many.
pub(crate) fn split(settings: &Settings, dataset: &Dataset) -> Result<KnownSplit> {
    let seed = settings.train.seed;
    let needs_masks = settings.method.needs_masks();
    let share = settings.data.contamination;
    if share == 0.0 {
        return settings.anomalies.choose(dataset, seed, needs_masks);
    }
    let mut dataset = dataset.clone();
    let contamination = contaminate(&mut dataset, share, seed)?;
    let split = settings.anomalies.choose(&dataset, seed, needs_masks)?;
    Ok(KnownSplit {
        contamination,
        ..split
    })
}

/// Says how many anomalous images train as normal ones, where some are to.
pub(crate) fn say_contamination(settings: &Settings, split: &KnownSplit, progress: &mut Progress) {
    if settings.data.contamination == 0.0 {
        return;
    }
    match split.contamination.len() {
        0 => progress.warn(
            "contamination: the share is less than half of one anomalous test image, so none is taken",
        ),
        count => progress.note(&format!(
            "contamination: {count} anomalous images train as normal ones; they are no test images any more"
        )),
    }
}

/// Takes a dataset apart as the settings ask, and says how many known anomalies there are.
///
/// # Errors
/// When the method does not know what to do with them or cannot do without, or there are not that many.
pub(crate) fn known_anomalies(
    settings: &Settings,
    dataset: &Dataset,
    progress: &mut Progress,
) -> Result<KnownSplit> {
    check_known(settings)?;
    let method = &settings.method;
    let split = split(settings, dataset)?;
    say_contamination(settings, &split, progress);
    if !split.known.is_empty() {
        let used = match (method.uses_anomalies(), dataset.pool.is_empty()) {
            (true, true) => "known anomalies to learn from; they are no test images any more",
            (true, false) => "known anomalies to learn from, none of them a test image",
            (false, true) => {
                "anomalies are kept out of the test set; this method learns from normal images alone"
            }
            (false, false) => {
                "anomalies are left alone; this method learns from normal images alone"
            }
        };
        progress.note(&format!("{} {used}", split.known.len()));
    }
    if split.without_mask > 0 {
        let count = split.without_mask;
        progress.warn(&format!(
            "{count} anomalous images have no mask and cannot be known anomalies"
        ));
    }
    Ok(split)
}

/// Says what lowers the quality of what is going to be trained.
pub(crate) fn announce(settings: &Settings, weights: &ChosenWeights, progress: &mut Progress) {
    if settings.train.protocol == Protocol::Paper {
        progress.warn(
            "protocol 'paper': all normal images are fitted, none is kept aside; the stored threshold means \
             little. Evaluate with `burn-ad eval --protocol paper`",
        );
    }
    if weights.random_seed().is_some() {
        progress.note("note: random backbone weights; real ones find far more");
    }
}

/// Whether method and number of known anomalies fit together.
pub(crate) fn check_known(settings: &Settings) -> Result<()> {
    let method = &settings.method;
    let learners = || {
        let learns =
            |name: &&&str| MethodConfig::preset(name).is_ok_and(|preset| preset.uses_anomalies());
        let names: Vec<&str> = MethodConfig::PRESETS
            .iter()
            .filter(learns)
            .copied()
            .collect();
        names.join(", ")
    };
    match (settings.anomalies.count.is_none(), method) {
        (false, MethodConfig::Ckaad(config)) if config.anomalies == AnomalySource::Elastic => {
            Err(Error::usage(format!(
                "{method} makes its anomalies from normal images; known ones mean nothing to it"
            ))
            .help("leave them out, or choose ckaad-medical, which learns from known ones"))
        }
        (false, MethodConfig::Npad(_) | MethodConfig::Hgad(_) | MethodConfig::Igd(_)) => Err(Error::usage(format!(
            "{method} learns from normal images alone; known anomalies mean nothing to it"
        ))
        .help(format!("leave them out, or choose one of: {}", learners()))),
        (true, MethodConfig::Bgad(config))
            if config.loss.boundary == Boundary::WithAnomalies && config.augment.needs_anomaly() =>
        {
            Err(Error::usage(format!(
            "{method} learns from known anomalies, and none are given"
        ))
        .help(
            "give some with --anomalies 10 (they are left out of the test set), or choose nfad, which needs none",
        ))
        }
        _ => Ok(()),
    }
}

/// All that a training run is made from.
#[derive(Clone)]
pub(crate) struct Training<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) weights: &'a ChosenWeights,
    pub(crate) split: &'a KnownSplit,
    /// The dataset's folder; known anomalies and contamination are recorded by their names below it.
    pub(crate) root: &'a Path,
    pub(crate) backend: BackendName,
    /// Where an iterative method keeps its checkpoint.
    pub(crate) checkpoints: Option<Checkpoints>,
}

impl Training<'_> {
    /// How images are brought to the network.
    pub(crate) fn loader(&self) -> Loader {
        let data = &self.settings.data;
        let preprocess = Preprocess {
            geometry: Geometry {
                fit: data.fit,
                size: data.size,
                filter: data.filter.unwrap_or_else(|| self.weights.filter()),
            },
            normalisation: self.weights.normalisation(),
        };
        with_workers(Loader::new(preprocess), self.settings.train.workers)
    }

    /// Trains and calibrates.
    pub(crate) fn fit<AB: AutodiffBackend>(
        &self,
        device: &AB::Device,
        recorder: &mut Recorder<'_>,
    ) -> Result<Model<AB::InnerBackend>> {
        let train = &self.settings.train;
        let KnownSplit {
            known,
            dataset,
            contamination,
            ..
        } = self.split;
        let names = |samples: &[Sample]| -> Vec<String> {
            let names = samples.iter().map(|it| relative_name(it, self.root));
            names.collect()
        };
        let options = TrainOptions {
            dataset: dataset.name.clone(),
            backend: self.backend.to_string(),
            weights_source: self.weights.source(),
            random_seed: self.weights.random_seed(),
            calibration_share: train.calibration_share,
            target_fpr: train.target_fpr,
            known_anomalies: names(known),
            contamination: names(contamination),
        };
        let initial_flows = initial_flows(train)?;
        let initial_model = train.init_from.as_deref().map(StoredModel::read);
        let initial_model = initial_model.transpose()?;
        if let Some(model) = &initial_model {
            let seed = model.header().training.seed;
            if seed != train.seed {
                recorder.progress.warn(&format!(
                    "the model to begin with was trained with seed {seed}: where the layout has no split of its own, test \
                     images may be among those it has learnt"
                ));
            }
        }
        let images = TrainingImages {
            normal: &dataset.train,
            anomalous: known,
            initial_flows: &initial_flows,
            initial_model: initial_model.as_ref(),
            watched: match train.watch_every {
                Some(every) => Watched {
                    samples: &dataset.test,
                    every,
                },
                None => Watched::default(),
            },
        };
        let backbone = self.weights.backbone::<AB::InnerBackend>(device)?;
        let mut run = Run::<AB>::new(device.clone(), train.seed, recorder)
            .with_batch_size(train.batch_size)
            .with_checkpoints(self.checkpoints.clone());
        if let Some(memory) = train.feature_memory_mib {
            run = run.with_feature_memory(memory << 20);
        }
        let method = &self.settings.method;
        let model = Model::train(
            method,
            backbone,
            &images,
            &self.loader(),
            &options,
            &mut run,
        )?;
        recorder.progress.finish();
        Ok(model)
    }
}

/// The flows that training begins with, one a tap; none where they are drawn from the seed.
fn initial_flows(train: &TrainSettings) -> Result<Vec<Vec<StateDict>>> {
    let Some(path) = &train.init_flows else {
        return Ok(Vec::new());
    };
    let flows = flows::read_flows(path)?.into_iter();
    Ok(flows.map(|flow| flow.blocks).collect())
}

/// The loader with as many threads as asked for.
pub(crate) fn with_workers(loader: Loader, workers: Option<usize>) -> Loader {
    match workers {
        Some(workers) => loader.with_workers(workers),
        None => loader,
    }
}

/// What was trained, in one table.
pub(crate) fn summary(header: &ModelHeader, output: &Path) -> Table {
    let calibration = &header.calibration;
    let images = match calibration.source {
        CalibrationSource::HeldOut => format!("{} images kept aside", calibration.images),
        CalibrationSource::Training => {
            format!("{} images, the ones it was fitted on", calibration.images)
        }
        CalibrationSource::TestSet => format!("{} test images", calibration.images),
    };
    let peak = peak_resident_bytes()
        .map(|bytes| format!("{:.0} MiB", bytes as f64 / 1_048_576.0))
        .unwrap_or_default();
    let training = &header.training;
    let known = training.known_anomalies.len();
    let contamination = training.contamination.len();
    // The model exists, so its backbone has the taps.
    let parameters = header
        .method
        .parameters(&header.backbone.arch, header.preprocess.geometry.size)
        .ok()
        .flatten();
    let mut table = Table::new([("trained", Align::Left), ("", Align::Left)]);
    let rows = [
        ("method", Some(header.method.to_string())),
        (
            "backbone",
            Some(format!(
                "{}, {}",
                header.backbone.arch, header.backbone.source
            )),
        ),
        (
            "trainable parameters",
            parameters.map(|[trainable, all]| {
                let fixed = match all > trainable {
                    true => format!(" ({} with the fixed rotations)", thousands(all)),
                    false => String::new(),
                };
                thousands(trainable) + &fixed
            }),
        ),
        ("dataset", Some(training.dataset.clone())),
        ("normal images", Some(training.images.to_string())),
        (
            "contamination",
            (contamination > 0).then(|| format!("{contamination} anomalous images among them")),
        ),
        ("known anomalies", (known > 0).then(|| known.to_string())),
        ("calibration", Some(images)),
        (
            "threshold",
            Some(format!(
                "{:.4} (false-positive rate at most {:.3})",
                calibration.threshold,
                calibration.guaranteed_fpr()
            )),
        ),
        ("backend", Some(training.backend.clone())),
        ("time", Some(duration(training.seconds))),
        ("peak memory", Some(peak)),
        ("model", Some(output.display().to_string())),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            table.row([name.to_owned(), value]);
        }
    }
    table
}

/// `2,641,920`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 2_641_920].map(thousands),
            ["0", "999", "1,000", "2,641,920"]
        );
    }
}
