//! Score maps with masks; `benches/pytorch/metrics.py` makes the same.

use burn_ad::metrics::ScoreMap;

use crate::noise::uniform;

/// Side of a block that is anomalous as a whole, in pixels.
const BLOCK: usize = 32;

/// Scores of some square maps, and which pixels are anomalous.
#[derive(Clone, Debug)]
pub struct Maps {
    side: usize,
    /// Uniform noise; anomalous pixels lie 0.375 higher.
    pub scores: Vec<f32>,
    /// One block in fifty.
    pub mask: Vec<bool>,
}

impl Maps {
    /// `count` maps of `side` x `side` pixels.
    pub fn new(count: usize, side: usize) -> Self {
        let pixels = 0..count * side * side;
        let (scores, mask) = pixels
            .map(|pixel| {
                let (map, y, x) = (pixel / (side * side), pixel / side % side, pixel % side);
                let cell = (map * 4096 + y / BLOCK) * 4096 + x / BLOCK;
                let mask = uniform(2, cell as u64) < 0.02;
                let lift = if mask { 0.375 } else { 0.0 };
                (uniform(1, pixel as u64) + lift, mask)
            })
            .unzip();
        Self { side, scores, mask }
    }

    /// One view a map.
    pub fn views(&self) -> Vec<ScoreMap<'_>> {
        let pixels = self.side * self.side;
        let maps = self.scores.chunks(pixels).zip(self.mask.chunks(pixels));
        maps.map(|(scores, mask)| ScoreMap {
            scores,
            mask,
            valid: None,
            height: self.side,
            width: self.side,
        })
        .collect()
    }
}
