//! From scores and maps to the numbers of the report.

use burn_ad::Result;
use burn_ad::data::image::decode_mask;
use burn_ad::data::{MaskSource, Placement, Preprocess, Sample};
use burn_ad::method::{ModelHeader, ScoredImage};
use burn_ad::metrics::{
    BestF1, PixelMetrics, ScoreMap, ThresholdGrid, auroc, average_precision, best_f1,
    mean_image_aupro_sampled, pixel_metrics,
};
use burn_ad::report::eval::{
    ClassReport, Counts, Decisions, EvalReport, KindReport, Quality, Timings,
};
use burn_ad::report::memory::peak_resident_bytes;

use crate::backend::BackendName;
use crate::settings::Protocol;

/// The false-positive rate up to which AUPRO is integrated, as in the papers.
const AUPRO_LIMIT: f64 = 0.3;

/// One image's map beside its truth.
struct Map {
    kind: String,
    scores: Vec<f32>,
    /// `None` for a normal image: no pixel is anomalous.
    mask: Option<Vec<bool>>,
    /// `None` where every pixel shows picture.
    valid: Option<Vec<bool>>,
    height: usize,
    width: usize,
}

/// The maps that pixel metrics need, kept while images are scored.
pub(super) struct Measured {
    /// Whether any anomalous image has a mask.
    has_masks: bool,
    size: usize,
    input: Vec<Map>,
    original: Option<Vec<Map>>,
}

impl Measured {
    pub(super) fn new(samples: &[Sample], preprocess: &Preprocess, original: bool) -> Self {
        Self {
            has_masks: samples.iter().any(|sample| sample.mask.is_some()),
            size: preprocess.geometry.size,
            input: Vec::new(),
            original: original.then(Vec::new),
        }
    }

    /// Takes an image's map, which is kept only where a metric needs it.
    pub(super) fn take(&mut self, sample: &Sample, scored: &mut ScoredImage) -> Result<()> {
        let scores = std::mem::take(&mut scored.map);
        let mask = scored.mask.take();
        // An anomalous image without mask has pixels of unknown truth.
        if !self.has_masks || (sample.label.is_anomalous() && mask.is_none()) {
            return Ok(());
        }
        if let Some(original) = &mut self.original {
            original.push(at_original_resolution(sample, &scores, &scored.placement)?);
        }
        let Placement { valid, .. } = &scored.placement;
        let full = valid.height == self.size && valid.width == self.size;
        self.input.push(Map {
            kind: sample.kind.clone(),
            scores,
            mask,
            valid: (!full).then(|| scored.placement.shown()),
            height: self.size,
            width: self.size,
        });
        Ok(())
    }
}

/// Pixels that a crop cut away count too: a defect there is a defect missed.
fn at_original_resolution(sample: &Sample, map: &[f32], placement: &Placement) -> Result<Map> {
    let mask = match &sample.mask {
        None => None,
        Some(MaskSource::File(path)) => Some(decode_mask(path)?.into_raw()),
        Some(MaskSource::Memory(mask)) => Some(mask.as_raw().clone()),
    };
    let [height, width] = placement.original;
    Ok(Map {
        kind: sample.kind.clone(),
        scores: placement.restore(map, placement.size),
        mask: mask.map(|mask| mask.into_iter().map(|value| value != 0).collect()),
        valid: None,
        height,
        width,
    })
}

impl Map {
    fn with_mask<'a>(&'a self, mask: &'a [bool]) -> ScoreMap<'a> {
        ScoreMap {
            scores: &self.scores,
            mask,
            valid: self.valid.as_deref(),
            height: self.height,
            width: self.width,
        }
    }
}

fn measure<'a>(maps: impl Iterator<Item = &'a Map>) -> Result<PixelMetrics> {
    let maps: Vec<&Map> = maps.collect();
    let largest = maps.iter().map(|map| map.scores.len()).max().unwrap_or(0);
    let clean = vec![false; largest];
    let maps: Vec<ScoreMap<'_>> = maps
        .into_iter()
        .map(|map| map.with_mask(map.mask.as_deref().unwrap_or(&clean[..map.scores.len()])))
        .collect();
    pixel_metrics(&maps, AUPRO_LIMIT)
}

/// The PRO of CKAAD's published code; not defined where scores are infinite, which the exact metrics allow.
fn pro_per_image(maps: &[Map]) -> Option<f64> {
    let masked = maps
        .iter()
        .filter_map(|map| Some(map.with_mask(map.mask.as_deref()?)));
    let masked: Vec<ScoreMap<'_>> = masked.collect();
    mean_image_aupro_sampled(&masked, AUPRO_LIMIT, ThresholdGrid::CKAAD).unwrap_or_default()
}

/// What the report is made from.
pub(super) struct Figures<'a> {
    pub(super) header: &'a ModelHeader,
    pub(super) samples: &'a [Sample],
    pub(super) scored: &'a [ScoredImage],
    pub(super) unreadable: usize,
    pub(super) threshold: Option<f32>,
}

impl Figures<'_> {
    /// The report, and the pixel metrics at the images' own resolution.
    pub(super) fn report(
        &self,
        measured: &Measured,
        backend: BackendName,
        protocol: Protocol,
        dataset: &str,
    ) -> Result<(EvalReport, Option<Quality>)> {
        let (scores, labels) = self.scores(|_| true);
        let anomalous = labels.iter().filter(|&&label| label).count();
        let pixel = (measured.has_masks && !measured.input.is_empty())
            .then(|| measure(measured.input.iter()).map(pixel_quality))
            .transpose()?
            .map(|quality| Quality {
                pro_per_image: pro_per_image(&measured.input),
                ..quality
            });
        let original = measured.original.as_ref().filter(|maps| !maps.is_empty());
        let original = original
            .map(|maps| measure(maps.iter()).map(pixel_quality))
            .transpose()?;
        let milliseconds: Vec<f64> = self.scored.iter().map(|image| image.milliseconds).collect();
        let report = EvalReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            method: self.header.method.to_string(),
            backbone: format!(
                "{}, {}",
                self.header.backbone.arch, self.header.backbone.source
            ),
            dataset: dataset.to_owned(),
            backend: backend.to_string(),
            protocol: match protocol {
                Protocol::Default => "calibrated",
                Protocol::Paper => "paper",
            }
            .to_owned(),
            seed: self.header.training.seed,
            counts: Counts {
                train: self.header.training.images,
                test_normal: labels.len() - anomalous,
                test_anomalous: anomalous,
                skipped: self.unreadable,
            },
            image: image_quality(&scores, &labels)?,
            pixel,
            threshold: self.threshold.map(f64::from),
            decisions: self.threshold.map(|_| self.decisions(&labels)),
            kinds: self.kinds(measured)?,
            classes: self.classes(measured)?,
            class_accuracy: self.class_accuracy(|_| true),
            timings: Timings::of(Some(self.header.training.seconds), &milliseconds),
            peak_memory_bytes: peak_resident_bytes(),
        };
        Ok((report, original))
    }

    /// Scores and labels of the images that `keep` wants.
    fn scores(&self, keep: impl Fn(&Sample) -> bool) -> (Vec<f32>, Vec<bool>) {
        self.scored
            .iter()
            .map(|image| (image, &self.samples[image.index]))
            .filter(|(_, sample)| keep(sample))
            .map(|(image, sample)| (image.score, sample.label.is_anomalous()))
            .unzip()
    }

    fn decisions(&self, labels: &[bool]) -> Decisions {
        let reported = self.scored.iter().map(|image| image.anomalous);
        Decisions::of(reported.zip(labels.iter().copied()))
    }

    /// Normal kinds first, then each kind of defect.
    fn kinds(&self, measured: &Measured) -> Result<Vec<KindReport>> {
        let mut names: Vec<(bool, &str)> = self
            .scored
            .iter()
            .map(|image| &self.samples[image.index])
            .map(|sample| (sample.label.is_anomalous(), sample.kind.as_str()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .map(|(anomalous, kind)| self.kind(kind, anomalous, measured))
            .collect()
    }

    /// One entry a product, where there are several.
    fn classes(&self, measured: &Measured) -> Result<Vec<ClassReport>> {
        let of_images = self.scored.iter().map(|image| &self.samples[image.index]);
        let mut names: Vec<&str> = of_images.filter_map(Sample::class).collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .map(|class| {
                let (scores, labels) = self.scores(|sample| sample.class() == Some(class));
                let below = |map: &&Map| {
                    let kind = map.kind.rsplit_once('/');
                    kind.is_some_and(|(product, _)| product == class)
                };
                let maps: Vec<&Map> = measured.input.iter().filter(below).collect();
                let has_masks = maps.iter().any(|map| map.mask.is_some());
                let pixel = has_masks.then(|| measure(maps.into_iter())).transpose()?;
                Ok(ClassReport {
                    class: class.to_owned(),
                    images: scores.len(),
                    image_auroc: auroc(&scores, &labels)?,
                    pixel_auroc: pixel.as_ref().and_then(|pixel| pixel.auroc),
                    aupro: pixel.as_ref().and_then(|pixel| pixel.aupro),
                    class_accuracy: self.class_accuracy(|sample| sample.class() == Some(class)),
                })
            })
            .collect()
    }

    /// How many of the images that `keep` wants are taken for what they are, among those of known
    /// product.
    fn class_accuracy(&self, keep: impl Fn(&Sample) -> bool) -> Option<f64> {
        let kept = self
            .scored
            .iter()
            .map(|image| (image, &self.samples[image.index]))
            .filter(|(_, sample)| keep(sample));
        let decided: Vec<bool> = kept
            .filter_map(|(image, sample)| Some(image.found_class.as_deref()? == sample.class()?))
            .collect();
        let right = decided.iter().filter(|right| **right).count();
        (!decided.is_empty()).then(|| right as f64 / decided.len() as f64)
    }

    fn kind(&self, kind: &str, anomalous: bool, measured: &Measured) -> Result<KindReport> {
        let of_kind =
            |sample: &Sample| sample.kind == kind && sample.label.is_anomalous() == anomalous;
        let own: Vec<&ScoredImage> = self
            .scored
            .iter()
            .filter(|image| of_kind(&self.samples[image.index]))
            .collect();
        let reported = own.iter().filter(|image| image.anomalous).count();
        let mut report = KindReport {
            kind: kind.to_owned(),
            anomalous,
            images: own.len(),
            reported: self.threshold.map(|_| reported as f64 / own.len() as f64),
            ..KindReport::default()
        };
        if anomalous {
            // Scores of different products need not be comparable.
            let product = own
                .first()
                .and_then(|image| self.samples[image.index].class());
            let normal =
                |sample: &Sample| !sample.label.is_anomalous() && sample.class() == product;
            let (scores, labels) = self.scores(|sample| of_kind(sample) || normal(sample));
            report.image_auroc = auroc(&scores, &labels)?;
            let maps: Vec<&Map> = measured
                .input
                .iter()
                .filter(|map| map.kind == kind && map.mask.is_some())
                .collect();
            if !maps.is_empty() {
                let pixel = measure(maps.into_iter())?;
                report.pixel_auroc = pixel.auroc;
                report.aupro = pixel.aupro;
            }
        }
        Ok(report)
    }
}

fn image_quality(scores: &[f32], labels: &[bool]) -> Result<Quality> {
    let best = best_f1(scores, labels)?;
    Ok(Quality {
        auroc: auroc(scores, labels)?,
        average_precision: average_precision(scores, labels)?,
        aupro: None,
        ..of_best(best)
    })
}

fn pixel_quality(metrics: PixelMetrics) -> Quality {
    Quality {
        auroc: metrics.auroc,
        average_precision: metrics.average_precision,
        aupro: metrics.aupro,
        ..of_best(metrics.best_f1)
    }
}

fn of_best(best: Option<BestF1>) -> Quality {
    Quality {
        best_f1: best.map(|best| best.f1),
        best_f1_threshold: best.map(|best| f64::from(best.threshold)),
        best_f1_accuracy: best.map(|best| best.accuracy),
        ..Quality::default()
    }
}
