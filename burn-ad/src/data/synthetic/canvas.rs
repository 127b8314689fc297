//! A picture in linear floating-point colours, addressed in design units.

use rayon::prelude::*;

/// The scenes are designed on a square of this side; one unit is a pixel of the default picture size.
pub(super) const DESIGN: f32 = 256.0;

/// A colour with components in about `[0, 1]`.
pub(super) type Colour = [f32; 3];

/// A point in design units, `x` to the right and `y` downwards, from the top left corner.
pub(super) type Point = [f32; 2];

/// Square picture before the camera.
pub(super) struct Canvas {
    pub(super) size: usize,
    pub(super) pixels: Vec<Colour>,
}

impl Canvas {
    /// Evaluates a scene at every pixel centre.
    pub(super) fn paint(size: usize, scene: impl Fn(Point) -> Colour + Sync) -> Self {
        let unit = DESIGN / size as f32;
        let pixels = (0..size * size)
            .into_par_iter()
            .with_min_len(16 * size)
            .map(|pixel| scene(centre(pixel % size, pixel / size, unit)))
            .collect();
        Self { size, pixels }
    }

    /// Side of a pixel in design units.
    pub(super) fn unit(&self) -> f32 {
        DESIGN / self.size as f32
    }

    /// Changes the pixels whose centres lie within `reach` of any of `points` (a bounding box).
    pub(super) fn edit(
        &mut self,
        points: &[Point],
        reach: f32,
        mut change: impl FnMut(Point, &mut Colour),
    ) {
        let (unit, size) = (self.unit(), self.size);
        let range = |axis: usize| {
            let low = points.iter().map(|p| p[axis]).fold(f32::MAX, f32::min) - reach;
            let high = points.iter().map(|p| p[axis]).fold(f32::MIN, f32::max) + reach;
            // A float to integer cast saturates, so that an empty or outside box is an empty range.
            let from = (low / unit).floor() as usize;
            from.min(size)..((high / unit).ceil() as usize).min(size)
        };
        for row in range(1) {
            for column in range(0) {
                change(
                    centre(column, row, unit),
                    &mut self.pixels[row * size + column],
                );
            }
        }
    }
}

fn centre(column: usize, row: usize, unit: f32) -> Point {
    [(column as f32 + 0.5) * unit, (row as f32 + 0.5) * unit]
}

/// Multiplies all components.
pub(super) fn scaled(colour: Colour, factor: f32) -> Colour {
    colour.map(|component| component * factor)
}

/// Blends from `a` to `b`.
pub(super) fn blend(a: Colour, b: Colour, share: f32) -> Colour {
    std::array::from_fn(|c| super::noise::mix(a[c], b[c], share))
}

/// Distance between two points.
pub(super) fn distance(a: Point, b: Point) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_visits_the_box_and_stays_inside_the_picture() {
        let mut canvas = Canvas::paint(64, |_| [0.0; 3]);
        canvas.edit(&[[40.0, 80.0]], 8.0, |_, pixel| *pixel = [1.0; 3]);
        let painted = canvas.pixels.iter().filter(|p| p[0] == 1.0).count();
        assert_eq!(painted, 16, "a box of 16 units is 4 pixels of 4 units wide");
        assert_eq!(canvas.pixels[20 * 64 + 10], [1.0; 3]);
        canvas.edit(&[[-50.0, 300.0]], 8.0, |_, _| {
            panic!("outside of the picture")
        });
    }
}
