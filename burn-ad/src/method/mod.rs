//! The detection systems, and what all of them have in common.

pub mod bgad;
mod calibration;
pub mod ckaad;
mod config;
pub(crate) mod fingerprint;
mod flow_learner;
pub mod hgad;
pub mod igd;
mod model;
pub mod npad;
mod padding;
pub(crate) mod reading;
mod score;
mod taps;

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

pub use calibration::{Calibration, CalibrationSource};
pub use config::MethodConfig;
pub use model::{
    BackboneRecord, FORMAT_VERSION, Model, ModelHeader, StoredModel, TrainOptions, TrainingRecord,
};
pub use score::{ScoredImage, score_samples};

use crate::backbone::Backbone;
use crate::data::{Batch, Loader, Sample};
use crate::error::Result;
use crate::flow::StateDict;
use crate::report::likelihoods::CentreDistances;
use crate::tensors::TensorSet;
use crate::train::Run;

/// What a detector says about a batch. Higher means more anomalous.
#[derive(Clone, Debug)]
pub struct Prediction<B: Backend> {
    /// One score an image, `[batch]`.
    pub image_scores: Tensor<B, 1>,
    /// One score a pixel, `[batch, size, size]`. Letterbox padding repeats the picture's edge.
    pub anomaly_maps: Tensor<B, 3>,
}

/// What a detector saw in a batch, beside its scores.
#[derive(Clone, Debug)]
pub struct Examination<B: Backend> {
    /// The scores.
    pub prediction: Prediction<B>,
    /// The class that each image looks most like; empty for methods without classes, and where there is
    /// only one.
    pub classes: Vec<String>,
    /// Log-likelihoods a dimension of the feature vectors, under each image's class where there are
    /// classes, one tensor `[batch, rows, columns]` a map; empty for methods without likelihoods.
    pub likelihoods: Vec<Tensor<B, 3>>,
}

/// A trained system.
pub trait Detector<B: Backend>: Send {
    /// Scores images. What one image gets does not depend on the others in the batch.
    fn predict(&self, batch: &Batch<B>) -> Prediction<B>;

    /// The same, with what else can be said about the images.
    fn examine(&self, batch: &Batch<B>) -> Examination<B> {
        Examination {
            prediction: self.predict(batch),
            classes: Vec::new(),
            likelihoods: Vec::new(),
        }
    }

    /// How far the centres of the classes are from one another, one entry a feature map; empty for
    /// methods without classes.
    fn centre_distances(&self) -> Vec<CentreDistances> {
        Vec::new()
    }

    /// The classes it tells apart, in the order of its index; empty for methods without classes.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// From now on images are scored as the class they look most like, also where a batch names
    /// their class; changes nothing for methods without classes.
    fn infer_classes(&mut self) {}

    /// The frozen feature extractor it looks through.
    fn backbone(&self) -> &Backbone<B>;

    /// What was learnt, without the backbone.
    fn tensors(&self) -> TensorSet;

    /// Puts statistics of `samples` into the scores, as the flow papers' protocol does with the test
    /// set; changes nothing for methods whose scores need none.
    ///
    /// # Errors
    /// When the run is interrupted.
    fn adopt_statistics(
        &mut self,
        _samples: &[Sample],
        _loader: &Loader,
        _run: &mut Run<'_, B>,
    ) -> Result<()> {
        Ok(())
    }
}

/// What a user gives to learn from.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrainingImages<'a> {
    /// Normal images.
    pub normal: &'a [Sample],
    /// Known anomalies with their masks, for methods that learn from some.
    pub anomalous: &'a [Sample],
    /// Flows trained with FrEIA to start from, one a tap, each as its blocks; empty: drawn from the
    /// seed.
    pub initial_flows: &'a [Vec<StateDict>],
    /// A trained model to start from, for methods that can learn more products.
    pub initial_model: Option<&'a StoredModel>,
    /// Labelled images that are scored from time to time, for the log alone.
    pub watched: Watched<'a>,
}

/// Labelled images that are scored while training goes on: they change nothing in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watched<'a> {
    /// The images; none for no watching.
    pub samples: &'a [Sample],
    /// Epochs from one time to the next, at least 1.
    pub every: usize,
}

impl<'a> TrainingImages<'a> {
    /// Normal images alone.
    pub fn of_normal(normal: &'a [Sample]) -> Self {
        Self {
            normal,
            ..Self::default()
        }
    }
}

/// Images to learn from.
#[derive(Clone, Copy, Debug)]
pub struct TrainingData<'a> {
    /// Normal images that the method is fitted on.
    pub fit: &'a [Sample],
    /// Normal images kept aside for statistics of scores; never empty (the fit images themselves
    /// when there are too few to keep any aside).
    pub calibration: &'a [Sample],
    /// Known anomalies with their masks; empty for methods that use none.
    pub anomalous: &'a [Sample],
    /// Flows to start from, one a tap; empty: drawn from the seed.
    pub initial_flows: &'a [Vec<StateDict>],
    /// A trained model to start from; it sees images as this training does.
    pub initial_model: Option<&'a StoredModel>,
    /// Labelled images that are scored from time to time, for the log alone.
    pub watched: Watched<'a>,
    /// Decodes and prepares them.
    pub loader: &'a Loader,
}

/// Implemented by each method's configuration: how to train it, and how to bring it back.
pub trait Fit {
    /// The trained system.
    type Detector<B: Backend>: Detector<B>;

    /// Trains on normal images, and on known anomalies where the method uses some.
    ///
    /// # Errors
    /// When images cannot be read, the data does not suffice, or the run is interrupted.
    fn fit<AB: AutodiffBackend>(
        &self,
        backbone: Backbone<AB::InnerBackend>,
        data: &TrainingData<'_>,
        run: &mut Run<'_, AB>,
    ) -> Result<Self::Detector<AB::InnerBackend>>;

    /// Restores a trained system from what [`Detector::tensors`] gave.
    ///
    /// # Errors
    /// When a tensor is absent, left over, or does not fit this configuration.
    fn load<B: Backend>(
        &self,
        backbone: Backbone<B>,
        size: usize,
        tensors: TensorSet,
        device: &B::Device,
    ) -> Result<Self::Detector<B>>;
}
