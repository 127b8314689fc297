//! A trained model: fitted, calibrated, saved as one directory and loaded again.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use burn::tensor::backend::{AutodiffBackend, Backend};
use serde::{Deserialize, Serialize};

use super::calibration::{Calibration, CalibrationSource};
use super::config::{AnyDetector, MethodConfig};
use super::{Detector, Examination, Prediction, TrainingData, TrainingImages};
use crate::backbone::{Backbone, BackboneConfig, Unit, WeightsFile, digest};
use crate::data::{Batch, Loader, Preprocess, Sample, for_each_batch};
use crate::error::{Error, Result};
use crate::files;
use crate::report::likelihoods::CentreDistances;
use crate::tensors::{TensorSet, to_vec};
use crate::train::{Run, Step, hold_out};

/// The format this version writes; it reads this one and none newer.
pub const FORMAT_VERSION: u64 = 1;

const HEADER_FILE: &str = "model.json";
const TENSOR_FILE: &str = "model.safetensors";
const BACKBONE_FILE: &str = "backbone.safetensors";

/// Which feature extractor a model was trained with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackboneRecord {
    /// The architecture.
    pub arch: BackboneConfig,
    /// SHA-256 of its weights ([`digest`]): the model works with these and no others.
    pub digest: String,
    /// Where the weights came from, in words.
    pub source: String,
    /// The seed, when the weights are random: they can then be drawn again.
    pub random_seed: Option<u64>,
    /// Whether the weights lie in the model directory.
    pub embedded: bool,
}

/// How a model came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// Name of the product.
    pub dataset: String,
    /// Images given to train on, those kept aside for calibration included.
    pub images: usize,
    /// Known anomalies that training or its data split had, by their names in the data folder; they
    /// belong to no test set of this model.
    #[serde(default)]
    pub known_anomalies: Vec<String>,
    /// Anomalous images that were among those given to train on as if they were normal, by the same
    /// names; they belong to no test set, either.
    #[serde(default)]
    pub contamination: Vec<String>,
    /// The seed of the run.
    pub seed: u64,
    /// The backend it ran on.
    pub backend: String,
    /// Seconds for fitting and calibration.
    pub seconds: f64,
}

/// Everything about a model that is not a tensor: the content of `model.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelHeader {
    /// Version of the directory's format.
    pub format_version: u64,
    /// Version of burn-ad that wrote it.
    pub burn_ad_version: String,
    /// The method and its full settings.
    pub method: MethodConfig,
    /// The feature extractor.
    pub backbone: BackboneRecord,
    /// What happens to an image before the network.
    pub preprocess: Preprocess,
    /// Threshold and scale of scores.
    pub calibration: Calibration,
    /// How it came about.
    pub training: TrainingRecord,
    /// SHA-256 of `model.safetensors`; empty until saved.
    #[serde(default)]
    pub tensors_sha256: String,
}

/// What training needs to know beside the method's settings.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Name of the product, for the record.
    pub dataset: String,
    /// Name of the backend, for the record.
    pub backend: String,
    /// Where the backbone's weights come from, for the record.
    pub weights_source: String,
    /// The seed of the backbone's weights, when they are random.
    pub random_seed: Option<u64>,
    /// Names of the known anomalies in the data folder, for the record.
    pub known_anomalies: Vec<String>,
    /// Names of the anomalous images that train as normal ones, for the record.
    pub contamination: Vec<String>,
    /// Share of the training images kept aside for calibration; 0 calibrates on the images the
    /// method was fitted on.
    pub calibration_share: f64,
    /// Share of normal images allowed above the threshold.
    pub target_fpr: f64,
}

/// A trained model.
#[derive(Debug)]
pub struct Model<B: Backend> {
    header: ModelHeader,
    detector: AnyDetector<B>,
}

impl<B: Backend> Model<B> {
    /// Trains on images and calibrates on some of the normal ones kept aside.
    ///
    /// # Errors
    /// When settings contradict each other, images cannot be read, or the run is interrupted.
    pub fn train<AB>(
        method: &MethodConfig,
        backbone: Backbone<B>,
        images: &TrainingImages<'_>,
        loader: &Loader,
        options: &TrainOptions,
        run: &mut Run<'_, AB>,
    ) -> Result<Self>
    where
        AB: AutodiffBackend<InnerBackend = B, Device = B::Device>,
    {
        method.validate()?;
        if !(0.0..1.0).contains(&options.calibration_share) {
            return Err(Error::usage(format!(
                "a calibration share of {} is not in [0, 1)",
                options.calibration_share
            )));
        }
        let samples = images.normal;
        if samples.is_empty() {
            return Err(Error::data("there are no training images"));
        }
        if !(images.initial_flows.is_empty() || method.has_flows()) {
            return Err(Error::usage(format!("{method} has no flows to start from")));
        }
        if images.initial_model.is_some() && !method.has_classes() {
            return Err(Error::usage(format!(
                "{method} cannot begin with a trained model: it learns one product, in one go"
            ))
            .help("choose hgad, which adds products to a model"));
        }
        let started = Instant::now();
        let (kept, held) = hold_out(samples.len(), options.calibration_share, run.seed);
        let (kept, held) = with_every_class(kept, held, samples);
        let pick = |indices: &[usize]| -> Vec<Sample> {
            indices
                .iter()
                .map(|&index| samples[index].clone())
                .collect()
        };
        let (fit, held_out) = (pick(&kept), pick(&held));
        let source = if held_out.is_empty() {
            CalibrationSource::Training
        } else {
            CalibrationSource::HeldOut
        };
        let calibration = if held_out.is_empty() { &fit } else { &held_out };
        let record = BackboneRecord {
            arch: backbone.config(),
            digest: digest(backbone.units().iter().map(|(spec, unit)| (spec, unit))),
            source: options.weights_source.clone(),
            random_seed: options.random_seed,
            embedded: false,
        };
        if let Some(model) = images.initial_model {
            model.check_inputs(&record, loader.preprocess())?;
        }
        let data = TrainingData {
            fit: &fit,
            calibration,
            anomalous: if method.uses_anomalies() {
                images.anomalous
            } else {
                &[]
            },
            initial_flows: images.initial_flows,
            initial_model: images.initial_model,
            watched: images.watched,
            loader,
        };
        let detector = method.fit(backbone, &data, run)?;
        let calibration = calibrate(&detector, &data, options.target_fpr, source, run)?;
        if source == CalibrationSource::Training && options.calibration_share > 0.0 {
            run.warn(
                "too few training images to keep any aside: the threshold was fitted on the \
                 images the model has seen, so it is too low",
            );
        } else if calibration.guaranteed_fpr() > options.target_fpr {
            run.warn(&format!(
                "{} calibration images cannot promise a false-positive rate of {}: the threshold \
                 is their largest score, which promises {:.3}",
                calibration.images,
                options.target_fpr,
                calibration.guaranteed_fpr()
            ));
        }
        let header = ModelHeader {
            format_version: FORMAT_VERSION,
            burn_ad_version: env!("CARGO_PKG_VERSION").to_owned(),
            method: detector.config().unwrap_or_else(|| method.clone()),
            backbone: record,
            preprocess: loader.preprocess().clone(),
            calibration,
            training: TrainingRecord {
                dataset: options.dataset.clone(),
                images: samples.len(),
                known_anomalies: options.known_anomalies.clone(),
                contamination: options.contamination.clone(),
                seed: run.seed,
                backend: options.backend.clone(),
                seconds: started.elapsed().as_secs_f64(),
            },
            tensors_sha256: String::new(),
        };
        Ok(Self { header, detector })
    }

    /// Everything about the model that is not a tensor.
    pub fn header(&self) -> &ModelHeader {
        &self.header
    }

    /// Scores a batch; raw scores, see [`Calibration`] for their meaning.
    pub fn predict(&self, batch: &Batch<B>) -> Prediction<B> {
        self.detector.predict(batch)
    }

    /// The same, with what else the method can say about the images.
    pub fn examine(&self, batch: &Batch<B>) -> Examination<B> {
        self.detector.examine(batch)
    }

    /// How far the centres of the classes are from one another, one entry a feature map; empty for
    /// methods without classes.
    pub fn centre_distances(&self) -> Vec<CentreDistances> {
        self.detector.centre_distances()
    }

    /// The classes the model tells apart; empty for methods without classes.
    pub fn classes(&self) -> &[String] {
        self.detector.classes()
    }

    /// From now on images are scored as the class they look most like, also where their class is
    /// known; changes nothing for methods without classes.
    pub fn infer_classes(&mut self) {
        self.detector.infer_classes();
    }

    /// Puts statistics of the test set into the scores, as the flow papers do (`--protocol paper`):
    /// for reproducing tables only. The calibration no longer fits then and must be replaced.
    ///
    /// # Errors
    /// When the run is interrupted.
    pub fn adopt_test_statistics(
        &mut self,
        samples: &[Sample],
        loader: &Loader,
        run: &mut Run<'_, B>,
    ) -> Result<()> {
        self.detector.adopt_statistics(samples, loader, run)
    }

    /// Replaces threshold and scale (test-set protocols).
    #[must_use]
    pub fn with_calibration(mut self, calibration: Calibration) -> Self {
        self.header.calibration = calibration;
        self
    }

    /// Writes the model directory: complete under a temporary name first, then renamed. An older
    /// model of the same name is replaced only when the new one is complete.
    ///
    /// # Errors
    /// When `dir` exists and is not a model directory, or cannot be written.
    pub fn save(&self, dir: &Path, with_backbone: bool) -> Result<()> {
        let at = |error: std::io::Error| Error::io(&error).path(dir);
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        ensure_replaceable(dir)?;
        std::fs::create_dir_all(parent).map_err(at)?;
        let temporary = tempfile::Builder::new()
            .prefix(".burn-ad-model-")
            .tempdir_in(parent)
            .map_err(at)?;
        let tensor_path = temporary.path().join(TENSOR_FILE);
        self.detector.tensors().write(&tensor_path)?;
        sync(&tensor_path)?;
        let mut header = self.header.clone();
        header.tensors_sha256 = files::sha256_file(&tensor_path)?;
        header.backbone.embedded = with_backbone && !header.backbone.arch.is_none();
        if header.backbone.embedded {
            let units: Vec<Unit> = self
                .detector
                .backbone()
                .units()
                .into_iter()
                .map(|(_, unit)| unit)
                .collect();
            WeightsFile {
                arch: header.backbone.arch,
                pixels: header.backbone.arch.pixels(),
                source: header.backbone.source.clone(),
                source_sha256: String::new(),
                recipe: None,
                units,
            }
            .write(&temporary.path().join(BACKBONE_FILE))?;
        }
        let json = serde_json::to_vec_pretty(&header)
            .map_err(|error| Error::model(error.to_string()).path(dir))?;
        files::write_atomically(&temporary.path().join(HEADER_FILE), |writer| {
            use std::io::Write;
            Ok(writer.write_all(&json)?)
        })?;
        replace(temporary, dir, parent)
    }

    /// Reads a model directory. `weights` finds the backbone when the model has one that is neither in
    /// the directory nor random.
    ///
    /// # Errors
    /// When the directory is absent, incomplete, foreign, damaged or newer than this program, or
    /// the backbone found is not the one the model was trained with.
    pub fn load(
        dir: &Path,
        device: &B::Device,
        weights: impl FnOnce(&BackboneRecord) -> Result<Backbone<B>>,
    ) -> Result<Self> {
        let StoredModel { header, tensors } = StoredModel::read(dir)?;
        let record = &header.backbone;
        let backbone = if record.embedded {
            WeightsFile::read(&dir.join(BACKBONE_FILE))?.backbone(device)?
        } else if record.arch.is_none() {
            // There is nothing to draw.
            record.arch.random(0, device)
        } else if let Some(seed) = record.random_seed {
            record.arch.random(seed, device)
        } else {
            weights(record)?
        };
        if backbone.config() != record.arch
            || digest(backbone.units().iter().map(|(spec, unit)| (spec, unit))) != record.digest
        {
            return Err(Error::model(format!(
                "the model was trained with other weights of {}: {} (SHA-256 {})",
                record.arch, record.source, record.digest
            ))
            .path(dir)
            .help("give the same weights file, or save models with their backbone"));
        }
        let size = header.preprocess.geometry.size;
        let detector = header
            .method
            .load(backbone, size, tensors, device)
            .map_err(|error| error.path(dir.join(TENSOR_FILE)))?;
        Ok(Self { header, detector })
    }
}

/// A model as it lies in its directory, without the backbone: what training can begin with.
#[derive(Clone, Debug)]
pub struct StoredModel {
    pub(super) header: ModelHeader,
    pub(super) tensors: TensorSet,
}

impl StoredModel {
    /// Reads it.
    ///
    /// # Errors
    /// When the directory is absent, incomplete, foreign, damaged or newer than this program.
    pub fn read(dir: &Path) -> Result<Self> {
        let header = ModelHeader::read(dir)?;
        let path = dir.join(TENSOR_FILE);
        let found = files::sha256_file(&path)
            .map_err(|error| error.help("the model directory is incomplete: copy it again"))?;
        if found != header.tensors_sha256 {
            return Err(
                Error::model("the file is damaged, truncated or of another model")
                    .path(&path)
                    .help(
                        "its SHA-256 is not the one in model.json: copy the whole directory again",
                    ),
            );
        }
        let tensors = TensorSet::read(&path)?;
        Ok(Self { header, tensors })
    }

    /// Everything about it that is not a tensor.
    pub fn header(&self) -> &ModelHeader {
        &self.header
    }

    /// Whether it saw images through the same network in the same way.
    fn check_inputs(&self, backbone: &BackboneRecord, preprocess: &Preprocess) -> Result<()> {
        let trained = &self.header.backbone;
        if (trained.arch, &trained.digest) != (backbone.arch, &backbone.digest) {
            return Err(Error::usage(format!(
                "the model to begin with looks through {}, {}, and this training through {}, {}",
                trained.arch, trained.source, backbone.arch, backbone.source
            ))
            .help("give the same backbone with the same weights"));
        }
        if &self.header.preprocess != preprocess {
            return Err(Error::usage(
                "the model to begin with sees images of another size or fit",
            )
            .help("leave out --size, --fit and the settings of [data]: they are taken from the model"));
        }
        Ok(())
    }
}

impl ModelHeader {
    /// Reads `model.json` alone.
    ///
    /// # Errors
    /// When it is absent, foreign, or of a newer format.
    pub fn read(dir: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            format_version: u64,
            burn_ad_version: String,
        }
        let path = dir.join(HEADER_FILE);
        let foreign = |error: serde_json::Error| {
            Error::model(format!("not a burn-ad model ({error})"))
                .path(&path)
                .help("give the directory that `burn-ad train` wrote")
        };
        if !path.is_file() {
            return Err(Error::model("not a model directory: it has no model.json")
                .path(dir)
                .help("give the directory that `burn-ad train` wrote"));
        }
        let json = std::fs::read(&path).map_err(|error| Error::io(&error).path(&path))?;
        let envelope: Envelope = serde_json::from_slice(&json).map_err(foreign)?;
        if envelope.format_version > FORMAT_VERSION {
            return Err(Error::model(format!(
                "the model has format {} (written by burn-ad {}); this is burn-ad {}, which reads \
                 formats up to {FORMAT_VERSION}",
                envelope.format_version,
                envelope.burn_ad_version,
                env!("CARGO_PKG_VERSION")
            ))
            .path(&path)
            .help("use a newer burn-ad"));
        }
        let header: Self = serde_json::from_slice(&json).map_err(foreign)?;
        header
            .method
            .validate()
            .map_err(|error| error.path(&path))?;
        header
            .preprocess
            .geometry
            .check()
            .map_err(|error| error.path(&path))?;
        Ok(header)
    }
}

/// Gives images back that were to be held out where a class would otherwise have none to learn from.
fn with_every_class(
    mut kept: Vec<usize>,
    held: Vec<usize>,
    samples: &[Sample],
) -> (Vec<usize>, Vec<usize>) {
    let learnt: BTreeSet<Option<&str>> = kept.iter().map(|&index| samples[index].class()).collect();
    let (held, back): (Vec<usize>, Vec<usize>) = held
        .into_iter()
        .partition(|&index| learnt.contains(&samples[index].class()));
    kept.extend(back);
    kept.sort_unstable();
    (kept, held)
}

fn sync(path: &Path) -> Result<()> {
    std::fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| Error::io(&error).path(path))
}

/// Nothing there, an empty directory, or an older model.
fn ensure_replaceable(dir: &Path) -> Result<()> {
    let Ok(mut entries) = std::fs::read_dir(dir) else {
        return match dir.exists() {
            true => Err(Error::usage("a file of this name exists").path(dir)),
            false => Ok(()),
        };
    };
    if entries.next().is_none() || dir.join(HEADER_FILE).is_file() {
        return Ok(());
    }
    Err(
        Error::usage("the directory holds something that is not a model")
            .path(dir)
            .help("choose another directory, or empty this one"),
    )
}

/// Renames the finished directory into place, moving an older one aside until then.
fn replace(temporary: tempfile::TempDir, dir: &Path, parent: &Path) -> Result<()> {
    let at = |error: std::io::Error| Error::io(&error).path(dir);
    let aside = if dir.exists() {
        let aside = tempfile::Builder::new()
            .prefix(".burn-ad-old-")
            .tempdir_in(parent)
            .map_err(at)?;
        std::fs::rename(dir, aside.path().join("model")).map_err(at)?;
        Some(aside)
    } else {
        None
    };
    make_listable(temporary.path()).map_err(at)?;
    if let Err(error) = std::fs::rename(temporary.path(), dir) {
        if let Some(aside) = aside {
            std::fs::rename(aside.path().join("model"), dir).map_err(at)?;
        }
        return Err(at(error));
    }
    // Renamed: there is nothing left to remove.
    let _ = temporary.keep();
    Ok(())
}

/// Temporary directories are private to their owner; a model should get the usual mode.
#[cfg(unix)]
fn make_listable(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_listable(_dir: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Scores the calibration images and fits the threshold on them.
fn calibrate<AB: AutodiffBackend>(
    detector: &AnyDetector<AB::InnerBackend>,
    data: &TrainingData<'_>,
    target_fpr: f64,
    source: CalibrationSource,
    run: &mut Run<'_, AB>,
) -> Result<Calibration> {
    let (device, batch_size) = (run.device.clone(), run.batch_size);
    let size = data.loader.preprocess().geometry.size;
    let (mut scores, mut maxima, mut medians) = (Vec::new(), Vec::new(), Vec::new());
    let mut unreadable: Vec<Error> = Vec::new();
    for_each_batch::<AB::InnerBackend>(
        data.loader,
        data.calibration,
        batch_size,
        &device,
        &mut |_, error| {
            unreadable.push(error);
            Ok(())
        },
        &mut |batch, items| {
            let prediction = detector.predict(&batch);
            scores.extend(to_vec(prediction.image_scores));
            let maps = to_vec(prediction.anomaly_maps);
            for (item, map) in items.iter().zip(maps.chunks_exact(size * size)) {
                let mut pixels = item.placement.valid.values(map, size);
                pixels.sort_unstable_by(f32::total_cmp);
                maxima.push(pixels[pixels.len() - 1]);
                medians.push(pixels[pixels.len() / 2]);
            }
            run.step(&Step {
                phase: "calibrating",
                done: scores.len() as u64,
                total: data.calibration.len() as u64,
                unit: "images",
                values: &[],
            })
        },
    )?;
    // The images the method was fitted on were reported then.
    for error in unreadable
        .iter()
        .filter(|_| source == CalibrationSource::HeldOut)
    {
        run.warn(&format!("left out of calibration: {error}"));
    }
    medians.sort_unstable_by(f32::total_cmp);
    let median = medians.get(medians.len() / 2).copied().unwrap_or(0.0);
    Calibration::fit(&scores, &maxima, median, target_fpr, source)
}
