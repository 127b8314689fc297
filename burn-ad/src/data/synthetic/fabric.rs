//! Product 2: a twill cloth with coloured stripes.

use super::canvas::{Colour, DESIGN, Point, scaled};
use super::noise::Noise;
use super::shapes::turned;
use super::stream::Draws;

/// Width of a thread in design units, unless a pixel is so large that a thread would be less than four pixels.
const THREAD: f32 = 6.0;
/// The warp passes over three weft threads and under one.
const REPEAT: i32 = 4;
/// Threads from stripe to stripe, and in a stripe.
const STRIPE_EVERY: i32 = 10;
const STRIPE: i32 = 2;

const WARP: Colour = [0.22, 0.30, 0.45];
const STRIPE_WARP: Colour = [0.58, 0.42, 0.22];
const WEFT: Colour = [0.54, 0.53, 0.50];

/// One piece of cloth in front of the camera; all natural variation of the product is in here.
pub(super) struct Fabric {
    thread: f32,
    angle: f32,
    offset: Point,
    waves: Noise,
    yarn: Noise,
    fuzz: Noise,
    dye: f32,
    /// A warp thread that is missing between two heights.
    pub(super) gap: Option<Gap>,
    /// The first thread of a stripe that was woven in the ground colour.
    pub(super) lost_stripe: Option<i32>,
}

/// A missing piece of a warp thread.
pub(super) struct Gap {
    pub(super) warp: i32,
    pub(super) from: f32,
    pub(super) to: f32,
}

impl Fabric {
    pub(super) fn draw(size: usize, draws: &mut Draws) -> Self {
        Self {
            thread: THREAD.max(4.0 * DESIGN / size as f32),
            angle: draws.around_zero(0.004),
            offset: [draws.around_zero(0.8), draws.around_zero(0.8)],
            waves: Noise(draws.seed()),
            yarn: Noise(draws.seed()),
            fuzz: Noise(draws.seed()),
            dye: draws.uniform(0.94, 1.06),
            gap: None,
            lost_stripe: None,
        }
    }

    /// Number of warp threads across the picture.
    pub(super) fn warps(&self) -> i32 {
        (DESIGN / self.thread) as i32
    }

    /// First threads of the stripes that lie well inside the picture.
    pub(super) fn stripes(&self) -> Vec<i32> {
        (1..self.warps() - STRIPE)
            .filter(|&warp| is_stripe(warp) && !is_stripe(warp - 1))
            .collect()
    }

    /// Colour at a point of the picture.
    pub(super) fn colour(&self, picture: Point) -> Colour {
        let middle = DESIGN / 2.0;
        let p = turned([picture[0] - middle, picture[1] - middle], -self.angle);
        let wave = |offset: f32| {
            0.6 * self
                .waves
                .fractal(p[0] / 70.0 + offset, p[1] / 70.0 - offset)
        };
        let x = (p[0] + middle + self.offset[0] + wave(0.0)) / self.thread;
        let y = (p[1] + middle + self.offset[1] + wave(300.0)) / self.thread;
        let (warp, weft) = (x.floor() as i32, y.floor() as i32);
        let (across_warp, across_weft) = (x - x.floor() - 0.5, y - y.floor() - 0.5);
        let phase = (warp + weft).rem_euclid(REPEAT);
        let missing = self
            .gap
            .as_ref()
            .is_some_and(|gap| warp == gap.warp && (gap.from..gap.to).contains(&picture[1]));
        let fuzz = 1.0 + 0.10 * self.fuzz.fractal(p[0] / 2.2, p[1] / 2.2);

        if phase == 0 || missing {
            // A weft float: it dives under its neighbours at both ends.
            let yarn = 1.0 + 0.10 * self.yarn.at(x / 9.0, weft as f32);
            let height = bulge(across_weft) * (0.55 + 0.45 * bulge(0.9 * across_warp));
            let depth = if missing { 0.62 } else { 1.0 };
            return scaled(
                WEFT,
                self.dye * fuzz * yarn * depth * (0.42 + 0.62 * height),
            );
        }
        let yarn = 1.0 + 0.09 * self.yarn.at(warp as f32, y / 14.0 + 700.0);
        // Position along the float of three crossings, -0.5 to 0.5.
        let along = (phase as f32 - 1.0 + across_weft + 0.5) / (REPEAT - 1) as f32 - 0.5;
        let height = bulge(across_warp) * (0.45 + 0.55 * bulge(0.95 * along));
        let colour = if is_stripe(warp) && !self.is_lost(warp) {
            STRIPE_WARP
        } else {
            WARP
        };
        scaled(colour, self.dye * fuzz * yarn * (0.38 + 0.66 * height))
    }

    fn is_lost(&self, warp: i32) -> bool {
        self.lost_stripe
            .is_some_and(|first| (first..first + STRIPE).contains(&warp))
    }
}

fn is_stripe(warp: i32) -> bool {
    (warp - STRIPE_EVERY / 2).rem_euclid(STRIPE_EVERY) < STRIPE
}

/// Height of a round thread at a position from -0.5 to 0.5 across it.
fn bulge(across: f32) -> f32 {
    (1.0 - 4.0 * across * across).max(0.0).sqrt()
}
