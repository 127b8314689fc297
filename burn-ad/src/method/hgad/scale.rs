//! From log-probabilities of single vectors to anomaly maps.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::data::Region;
use crate::error::Result;
use crate::method::padding::max_inside;
use crate::ops;
use crate::tensors::{HostTensor, TensorSet, to_vec};

/// The maps of one kind of log-probability at all scales, of a batch: for each scale
/// `[batch, rows, columns]`.
pub(super) type Levels<B> = Vec<Tensor<B, 3>>;

/// What log-probabilities of one class's images, and their sum over scales, are compared with.
///
/// The published conversion is `max(s) - s` with `s = sum over scales of upsampled exp(v - max v)`.
/// With `d = sum of upsampled 1 - exp(v - max v)` it is `d - min(d)`, which does not lose the
/// differences between probabilities near 1.
///
/// Differs from the paper by default: its extremes are those of the test set, so that a score
/// depends on the other images; ours are those of the class's training normals and stay with the
/// model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    /// The largest log-probability of each scale.
    pub(super) maxima: Vec<f32>,
    /// The smallest sum of deficits.
    pub(super) deficit: f32,
}

impl Scale {
    /// Before anything is known.
    pub(super) fn unset(scales: usize) -> Self {
        Self {
            maxima: vec![0.0; scales],
            deficit: 0.0,
        }
    }
}

/// The scales of both kinds of log-probability, one a class.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Extremes {
    pub(super) likelihood: Vec<Scale>,
    pub(super) entropy: Vec<Scale>,
}

impl Extremes {
    /// Before anything is known.
    pub(super) fn unset(classes: usize, scales: usize) -> Self {
        let unset = vec![Scale::unset(scales); classes];
        Self {
            likelihood: unset.clone(),
            entropy: unset,
        }
    }

    pub(super) fn save(&self, tensors: &mut TensorSet) {
        for (name, scales) in [("likelihood", &self.likelihood), ("entropy", &self.entropy)] {
            let count = scales.first().map_or(0, |scale| scale.maxima.len());
            let maxima = scales.iter().flat_map(|scale| scale.maxima.clone());
            let maxima = HostTensor::new([scales.len(), count], maxima.collect());
            tensors.insert(format!("scale.{name}.maxima"), maxima);
            let deficits = scales.iter().map(|scale| scale.deficit).collect();
            let deficits = HostTensor::new([scales.len()], deficits);
            tensors.insert(format!("scale.{name}.deficit"), deficits);
        }
    }

    /// Takes back what [`save`](Self::save) put into `tensors`.
    ///
    /// # Errors
    /// When a tensor is absent or shaped otherwise.
    pub(super) fn load(classes: usize, scales: usize, tensors: &mut TensorSet) -> Result<Self> {
        let mut of = |name: &str| -> Result<Vec<Scale>> {
            let maxima = format!("scale.{name}.maxima");
            let maxima = tensors
                .take(&maxima, &[Some(classes), Some(scales)])?
                .values;
            let deficits = format!("scale.{name}.deficit");
            let deficits = tensors.take(&deficits, &[Some(classes)])?.values;
            let scale = |(maxima, deficit): (&[f32], f32)| Scale {
                maxima: maxima.to_vec(),
                deficit,
            };
            Ok(maxima
                .chunks_exact(scales)
                .zip(deficits)
                .map(scale)
                .collect())
        };
        Ok(Self {
            likelihood: of("likelihood")?,
            entropy: of("entropy")?,
        })
    }
}

/// Anomaly maps `[batch, size, size]`, at least 0: what is more normal than everything a scale was
/// fitted on is as good as that. `scales` has one entry an image.
pub(super) fn anomaly<B: Backend>(
    scales: &[&Scale],
    levels: &Levels<B>,
    size: usize,
) -> Tensor<B, 3> {
    let smallest: Vec<f32> = scales.iter().map(|scale| scale.deficit).collect();
    let smallest = TensorData::new(smallest, [scales.len(), 1, 1]);
    let deficits = deficits(scales, levels, size);
    let device = deficits.device();
    (deficits - Tensor::from_data(smallest, &device)).clamp_min(0.0)
}

fn deficits<B: Backend>(scales: &[&Scale], levels: &Levels<B>, size: usize) -> Tensor<B, 3> {
    let maps = levels.iter().enumerate().map(|(index, level)| {
        let ([batch, rows, columns], device) = (level.dims(), level.device());
        // On the host: not every backend has this function, and the maps are small.
        let mut values = to_vec(level.clone());
        for (values, scale) in values.chunks_exact_mut(rows * columns).zip(scales) {
            for value in values {
                *value = -(*value - scale.maxima[index]).exp_m1();
            }
        }
        let data = TensorData::new(values, [batch, 1, rows, columns]);
        let level = Tensor::<B, 4>::from_data(data, &device);
        ops::resize_bilinear(level, [size; 2], true).squeeze_dim::<3>(1)
    });
    maps.reduce(|sum, map| sum + map)
        .expect("validate() leaves at least one scale")
}

/// Collects maps and finds their extremes, class by class.
#[derive(Clone)]
pub(super) struct ScaleFit {
    classes: Vec<ClassFit>,
}

#[derive(Clone)]
struct ClassFit {
    maxima: Vec<f32>,
    /// One entry an image: its maps with their shapes, one a scale, and where its picture lies.
    images: Vec<(Vec<TensorData>, Region)>,
}

impl ScaleFit {
    pub(super) fn new(classes: usize, scales: usize) -> Self {
        let none = ClassFit {
            maxima: vec![f32::NEG_INFINITY; scales],
            images: Vec::new(),
        };
        Self {
            classes: vec![none; classes],
        }
    }

    /// Adds the maps of a batch, whose images belong to `classes`.
    pub(super) fn add<B: Backend>(
        &mut self,
        levels: &Levels<B>,
        valid: &[Region],
        classes: &[usize],
    ) {
        let maps: Vec<([usize; 2], Vec<f32>)> = levels
            .iter()
            .map(|map| {
                let [_, rows, columns] = map.dims();
                ([rows, columns], to_vec(map.clone()))
            })
            .collect();
        for (image, (&class, region)) in classes.iter().zip(valid).enumerate() {
            let fit = &mut self.classes[class];
            let levels = maps.iter().zip(&mut fit.maxima);
            let levels = levels.map(|(([rows, columns], values), largest)| {
                let area = rows * columns;
                let values = &values[image * area..][..area];
                *largest = values.iter().copied().fold(*largest, f32::max);
                TensorData::new(values.to_vec(), [1, *rows, *columns])
            });
            fit.images.push((levels.collect(), *region));
        }
    }

    /// The extremes of each class. One without images keeps those it has in `old`, else takes the
    /// widest of all; without any image they change nothing.
    pub(super) fn finish<B: Backend>(
        self,
        old: &[Scale],
        size: usize,
        device: &B::Device,
    ) -> Vec<Scale> {
        let scales = self.classes[0].maxima.len();
        let found: Vec<Option<Scale>> = self
            .classes
            .into_iter()
            .map(|fit| fit.finish::<B>(size, device))
            .collect();
        let widest = found.iter().flatten().cloned().reduce(|mut all, scale| {
            for (all, largest) in all.maxima.iter_mut().zip(&scale.maxima) {
                *all = all.max(*largest);
            }
            all.deficit = all.deficit.min(scale.deficit);
            all
        });
        let other = widest.unwrap_or_else(|| Scale::unset(scales));
        let others = old.iter().chain(std::iter::repeat(&other));
        found
            .into_iter()
            .zip(others)
            .map(|(scale, other)| scale.unwrap_or_else(|| other.clone()))
            .collect()
    }
}

impl ClassFit {
    fn finish<B: Backend>(self, size: usize, device: &B::Device) -> Option<Scale> {
        if self.images.is_empty() {
            return None;
        }
        let mut scale = Scale {
            maxima: self.maxima,
            deficit: 0.0,
        };
        let mut smallest = f32::INFINITY;
        for (levels, region) in self.images {
            let levels: Levels<B> = levels
                .into_iter()
                .map(|data| Tensor::from_data(data, device))
                .collect();
            let normality = deficits(&[&scale], &levels, size).neg();
            smallest = smallest.min(-to_vec(max_inside(&normality, &[region]))[0]);
        }
        scale.deficit = smallest;
        Some(scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    fn levels(values: &[f32]) -> Levels<Flex> {
        let data = TensorData::new(values.to_vec(), [values.len(), 1, 1]);
        vec![Tensor::from_data(data, &Default::default())]
    }

    #[test]
    fn each_class_is_compared_with_its_own_best() {
        let region = Region {
            top: 0,
            left: 0,
            height: 2,
            width: 2,
        };
        let mut fit = ScaleFit::new(3, 1);
        fit.add(&levels(&[-1.0, -7.0, -2.0]), &[region; 3], &[0, 2, 0]);
        fit.add(&levels(&[-6.0]), &[region], &[2]);
        let mut old = fit.clone().finish::<Flex>(&[], 2, &Default::default());
        old[1].maxima[0] = -3.0;
        let kept = fit.clone().finish::<Flex>(&old, 2, &Default::default());
        assert_eq!(kept, old);
        let scales = fit.finish::<Flex>(&[], 2, &Default::default());
        let maxima: Vec<f32> = scales.iter().map(|scale| scale.maxima[0]).collect();
        // The second one has no image.
        assert_eq!(maxima, [-1.0, -1.0, -6.0]);
        let chosen = [&scales[0], &scales[2], &scales[2]];
        let found = to_vec(anomaly(&chosen, &levels(&[-2.0, -7.0, -5.0]), 2));
        let expected = 1.0 - (-1.0f32).exp();
        for (place, expected) in [(0, expected), (4, expected), (8, 0.0)] {
            assert!((found[place] - expected).abs() < 1e-6, "{found:?}");
        }
        let none = ScaleFit::new(2, 3).finish::<Flex>(&[], 2, &Default::default());
        assert_eq!(none, vec![Scale::unset(3); 2]);
    }
}
