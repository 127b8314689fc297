//! What is measured, in which sizes.

use std::fmt;

use burn::tensor::backend::AutodiffBackend;
use burn_ad::Result;
use burn_ad::backbone::BackboneConfig;
use burn_ad_benches::{Work, flow};
use clap::ValueEnum;
use serde::Serialize;

use super::fit::Fit;

/// Kinds of work that can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Group {
    /// Feature maps of frozen backbones.
    Features,
    /// A training step of BGAD's flow.
    FlowStep,
    /// A training step of ResNet-18, with batch normalisation in training mode.
    ConvStep,
    /// A training step of CKAAD: discriminator, then auto-encoder.
    CkaadStep,
    /// A training step of IGD: encoder and decoder, then the critic.
    IgdStep,
    /// Nearest neighbours and Mahalanobis distances.
    Scoring,
    /// AUPRO, and all pixel metrics.
    Metrics,
    /// N-pad learns the demo's product, from images in memory to a calibrated model.
    Fit,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Task {
    /// A piece of work of a few milliseconds to seconds.
    Work(Work),
    /// A whole training run.
    Fit(Fit),
}

/// Does the work once, and returns when its result is there.
pub(super) type Runner = Box<dyn FnMut() -> Result<()>>;

impl Task {
    /// A name without spaces.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Work(work) => work.name(),
            Self::Fit(_) => "fit".to_owned(),
        }
    }

    /// Images that one run computes, where that is what it does.
    pub(super) fn images(&self) -> Option<usize> {
        match self {
            Self::Work(work) => work.images(),
            Self::Fit(fit) => Some(fit.images),
        }
    }

    /// Whether its memory is worth telling.
    pub(super) fn has_memory(&self) -> bool {
        matches!(self, Self::Fit(_))
    }

    pub(super) fn prepare<AB: AutodiffBackend>(&self, device: &AB::Device) -> Result<Runner> {
        match self {
            Self::Work(work) => {
                let mut run = work.prepare::<AB>(device);
                Ok(Box::new(move || {
                    run();
                    Ok(())
                }))
            }
            Self::Fit(fit) => fit.prepare::<AB>(device),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(work) => work.fmt(f),
            Self::Fit(fit) => fit.fmt(f),
        }
    }
}

/// Which tasks, and their sizes.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) groups: Vec<Group>,
    pub(super) backbones: Vec<BackboneConfig>,
    pub(super) batches: Vec<usize>,
    /// Side of the images of a feature pass.
    pub(super) size: usize,
    flow_step: Work,
    conv_step: Work,
    ckaad_steps: Vec<Work>,
    igd_steps: Vec<Work>,
    nearest: Work,
    /// Side of the grid, and dimensions.
    mahalanobis: (usize, &'static [usize]),
    /// Number of maps, and their side.
    maps: (usize, usize),
    fit: Fit,
}

impl Plan {
    /// The sizes that docs/results.md reports.
    pub(super) fn full() -> Self {
        let names = [
            "resnet18",
            "wide_resnet50_2",
            "tf_efficientnet_lite0",
            "tf_efficientnet_b6",
        ];
        Self {
            backbones: names.map(known).to_vec(),
            batches: vec![1, 8],
            size: 256,
            // The middle tap of tf_efficientnet_b6 at 256 x 256 pixels.
            flow_step: Work::FlowStep {
                vectors: flow::CHUNK,
                channels: 72,
                side: 32,
            },
            conv_step: Work::ConvStep {
                batch: 8,
                size: 128,
            },
            ckaad_steps: vec![
                Work::CkaadStep {
                    backbone: known("resnet18"),
                    strides: &[8, 16],
                    normal: 8,
                    anomalous: 8,
                    size: 256,
                },
                Work::CkaadStep {
                    backbone: known("wide_resnet50_2"),
                    strides: &[4, 8, 16],
                    normal: 4,
                    anomalous: 4,
                    size: 256,
                },
            ],
            igd_steps: vec![
                Work::IgdStep {
                    side: 32,
                    batch: 64,
                    width: 64,
                    decoder_width: 64,
                    latent: 128,
                    features: None,
                },
                Work::IgdStep {
                    side: 256,
                    batch: 8,
                    width: 64,
                    decoder_width: 64,
                    latent: 128,
                    features: Some(512),
                },
            ],
            nearest: Work::Nearest {
                queries: 1024,
                width: 384,
                bank: 16384,
            },
            mahalanobis: (64, &[100, 200]),
            maps: (100, 256),
            fit: Fit::DEMO,
            groups: Group::value_variants().to_vec(),
        }
    }

    /// Everything once more, small.
    pub(super) fn quick() -> Self {
        Self {
            backbones: vec![known("resnet18")],
            batches: vec![1],
            size: 64,
            flow_step: Work::FlowStep {
                vectors: 256,
                channels: 24,
                side: 16,
            },
            conv_step: Work::ConvStep { batch: 2, size: 32 },
            ckaad_steps: vec![Work::CkaadStep {
                backbone: known("tf_efficientnet_lite0"),
                strides: &[8, 16],
                normal: 2,
                anomalous: 1,
                size: 64,
            }],
            igd_steps: vec![Work::IgdStep {
                side: 32,
                batch: 4,
                width: 8,
                decoder_width: 8,
                latent: 16,
                features: None,
            }],
            nearest: Work::Nearest {
                queries: 64,
                width: 48,
                bank: 512,
            },
            mahalanobis: (8, &[20]),
            maps: (10, 96),
            fit: Fit::MINI,
            ..Self::full()
        }
    }

    /// The rows, in the order of the groups; none twice.
    pub(super) fn tasks(&self) -> Vec<Task> {
        let mut tasks: Vec<Task> = Vec::new();
        for group in &self.groups {
            for task in self.group(*group) {
                if !tasks.contains(&task) {
                    tasks.push(task);
                }
            }
        }
        tasks
    }

    fn group(&self, group: Group) -> Vec<Task> {
        let works = match group {
            Group::Features => {
                let size = self.size;
                let of_one = |&backbone| {
                    let batches = self.batches.iter();
                    batches.map(move |&batch| Work::Features {
                        backbone,
                        batch,
                        size,
                    })
                };
                self.backbones.iter().flat_map(of_one).collect()
            }
            Group::FlowStep => vec![self.flow_step],
            Group::ConvStep => vec![self.conv_step],
            Group::CkaadStep => self.ckaad_steps.clone(),
            Group::IgdStep => self.igd_steps.clone(),
            Group::Scoring => {
                let (side, widths) = self.mahalanobis;
                let distances = widths
                    .iter()
                    .map(|&width| Work::Mahalanobis { side, width });
                [self.nearest].into_iter().chain(distances).collect()
            }
            Group::Metrics => {
                let (maps, size) = self.maps;
                vec![
                    Work::Aupro { maps, size },
                    Work::PixelMetrics { maps, size },
                ]
            }
            Group::Fit => return vec![Task::Fit(self.fit)],
        };
        works.into_iter().map(Task::Work).collect()
    }
}

fn known(name: &str) -> BackboneConfig {
    name.parse().expect("the name of a backbone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_all_tasks_apart_and_none_comes_twice() {
        let mut plan = Plan::full();
        plan.batches = vec![1, 8, 1];
        plan.groups.push(Group::Metrics);
        let tasks = plan.tasks();
        assert_eq!(tasks.len(), 8 + 1 + 1 + 2 + 2 + 3 + 2 + 1);
        let mut names: Vec<String> = tasks.iter().map(Task::name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), tasks.len());
        assert!(names.iter().all(|name| !name.contains(' ')));
    }

    #[test]
    fn the_quick_plan_has_every_group() {
        let plan = Plan::quick();
        assert!(
            plan.groups
                .iter()
                .all(|&group| !plan.group(group).is_empty())
        );
    }
}
