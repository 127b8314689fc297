//! What training begins with: what the seed draws, or a model that is to learn more products.

use burn::tensor::backend::AutodiffBackend;

use super::config::HgadConfig;
use super::learner::ScaleLearner;
use super::learnt;
use super::mixture::Mixture;
use super::scale::Extremes;
use super::scales::{ScaleMap, Scales};
use crate::error::{Error, Result};
use crate::flow::ConditionalFlow;
use crate::method::{MethodConfig, TrainingData};
use crate::train::Run;

pub(super) enum Start<AB: AutodiffBackend> {
    /// Flows and mixtures are drawn.
    Drawn,
    /// Those of a trained model, with the names of its classes and the extremes of their scores.
    Model {
        classes: Vec<String>,
        learnt: Vec<(ConditionalFlow<AB>, Mixture)>,
        extremes: Extremes,
    },
}

impl<AB: AutodiffBackend> Start<AB> {
    /// # Errors
    /// When the model to begin with is of another method, or its settings do not fit.
    pub(super) fn of(
        config: &HgadConfig,
        scales: &Scales,
        data: &TrainingData<'_>,
        device: &AB::Device,
    ) -> Result<Self> {
        let Some(model) = data.initial_model else {
            return Ok(Self::Drawn);
        };
        let MethodConfig::Hgad(old) = &model.header().method else {
            return Err(Error::usage(format!(
                "hgad cannot begin with a model of {}",
                model.header().method
            )));
        };
        let differs = [
            ("stride", old.stride != config.stride),
            ("scales", old.scales != config.scales),
            ("flow", old.flow != config.flow),
            ("one_class", old.one_class != config.one_class),
            (
                "centres or loss.intra",
                old.centres_used() != config.centres_used(),
            ),
        ];
        if let Some((name, _)) = differs.iter().find(|(_, differs)| *differs) {
            return Err(Error::usage(format!(
                "the model to begin with was trained with another method.{name}"
            ))
            .help("what is learnt has to stay of the same shape: leave this setting as it was"));
        }
        let mut tensors = model.tensors.clone();
        let classes = old.classes.clone();
        let learnt = learnt(config, scales, classes.len(), &mut tensors, device)?;
        let extremes = Extremes::load(classes.len(), scales.maps.len(), &mut tensors)?;
        Ok(Self::Model {
            classes,
            learnt,
            extremes,
        })
    }

    /// The classes that are known already.
    pub(super) fn classes(&self) -> &[String] {
        match self {
            Self::Drawn => &[],
            Self::Model { classes, .. } => classes,
        }
    }

    /// The extremes of scores that are known already.
    pub(super) fn extremes(&self) -> Extremes {
        match self {
            Self::Drawn => Extremes::default(),
            Self::Model { extremes, .. } => extremes.clone(),
        }
    }

    /// One learner a scale, for this number of classes.
    pub(super) fn learners(
        self,
        config: &HgadConfig,
        scales: &Scales,
        classes: usize,
        run: &Run<'_, AB>,
    ) -> Vec<ScaleLearner<AB>> {
        let mut learnt = match self {
            Self::Drawn => Vec::new(),
            Self::Model { learnt, .. } => learnt,
        }
        .into_iter();
        let learner = |&map: &ScaleMap| {
            let mut rng = run.rng(&map.name("mixture"));
            let (flow, mixture) = match learnt.next() {
                Some((flow, mixture)) => (flow, mixture.with_classes(classes, &mut rng)),
                None => {
                    let mut flow_rng = run.rng(&map.name("flow"));
                    let flow = config.flow.init(map.channels, &mut flow_rng, &run.device);
                    let centres = config.centres_used();
                    let mixture = Mixture::init(classes, centres, map.channels, &mut rng);
                    (flow, mixture)
                }
            };
            ScaleLearner::new(config, map, flow, mixture, &run.device)
        };
        scales.maps.iter().map(learner).collect()
    }
}
