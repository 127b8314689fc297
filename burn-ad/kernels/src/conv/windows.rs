//! Windows of a convolution over images: where each begins and where its result goes.

use super::geometry::Geometry;
use super::product::Row;
use super::tile::Runs;

/// Windows over channels-last images; positions outside an image count as 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub(super) batch: usize,
    /// Rows and columns of an input image.
    pub(super) image: [usize; 2],
    /// Values at each input position.
    pub(super) channels: usize,
    /// Row and column of the first window's first value.
    pub(super) origin: [isize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) stride: usize,
    /// Rows and columns of windows.
    pub(super) count: [usize; 2],
    pub(super) target: Target,
}

/// Where results go: window `(y, x)` to position `first + step * (y, x)` of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) image: [usize; 2],
    pub(super) channels: usize,
    pub(super) first: [usize; 2],
    pub(super) step: usize,
}

impl Windows {
    /// Those of a convolution.
    pub(super) fn of(geometry: &Geometry, inputs: usize, outputs: usize) -> Self {
        let count = geometry.output();
        Self {
            batch: geometry.batch,
            image: [geometry.height, geometry.width],
            channels: inputs,
            origin: [
                -(geometry.padding.top as isize),
                -(geometry.padding.left as isize),
            ],
            kernel: geometry.kernel,
            stride: geometry.stride,
            count,
            target: Target {
                image: count,
                channels: outputs,
                first: [0, 0],
                step: 1,
            },
        }
    }

    pub(super) fn positions(&self) -> usize {
        self.batch * self.count[0] * self.count[1]
    }

    /// Whether every window lies inside its image, so that nothing need be copied.
    pub(super) fn inside(&self) -> bool {
        (0..2).all(|axis| {
            let end = self.origin[axis] + self.reach(axis, self.count[axis]) as isize;
            self.origin[axis] >= 0 && end <= self.image[axis] as isize
        })
    }

    /// Input positions that `count` neighbouring windows cover.
    fn reach(&self, axis: usize, count: usize) -> usize {
        (count - 1) * self.stride + self.kernel[axis]
    }

    /// Where the values of a window lie, in rows of `width` positions.
    fn runs(&self, width: usize) -> Runs {
        Runs {
            count: self.kernel[0],
            length: self.kernel[1] * self.channels,
            step: width * self.channels,
        }
    }

    /// The windows' values in the images themselves; see [`inside`](Self::inside).
    pub(super) fn image_runs(&self) -> Runs {
        self.runs(self.image[1])
    }

    /// The windows' values in a [`band`](Self::fill_band).
    pub(super) fn band_runs(&self) -> Runs {
        self.runs(self.reach(1, self.count[1]))
    }

    /// Rows of windows, over all images, that positions `from..to` lie in, cut at images: for each
    /// image its number, and its rows.
    fn window_rows(&self, from: usize, to: usize) -> impl Iterator<Item = (usize, [usize; 2])> {
        let [height, width] = self.count;
        let (first, last) = (from / width, to.div_ceil(width));
        (first / height..last.div_ceil(height)).map(move |image| {
            let start = first.max(image * height) - image * height;
            let end = last.min((image + 1) * height) - image * height;
            (image, [start, end])
        })
    }

    /// Length of the band of positions `from..to`.
    pub(super) fn band_length(&self, from: usize, to: usize) -> usize {
        let width = self.reach(1, self.count[1]) * self.channels;
        self.window_rows(from, to)
            .map(|(_, [start, end])| self.reach(0, end - start) * width)
            .sum()
    }

    /// Copies what windows `from..to` see, with zeros around the images, to `band`.
    pub(super) fn fill_band(&self, input: &[f32], from: usize, to: usize, band: &mut [f32]) {
        let [height, width] = self.image;
        let columns = self.reach(1, self.count[1]);
        // The part of a band's row that shows the image.
        let left = self.origin[1].min(0).unsigned_abs().min(columns);
        let skipped = self.origin[1].max(0).unsigned_abs();
        let shown = (columns - left).min(width.saturating_sub(skipped));
        let mut lines = band.chunks_exact_mut(columns * self.channels);
        for (image, [start, end]) in self.window_rows(from, to) {
            let top = self.origin[0] + (start * self.stride) as isize;
            for (row, line) in (top..).zip(lines.by_ref().take(self.reach(0, end - start))) {
                if row < 0 || row >= height as isize || shown == 0 {
                    line.fill(0.0);
                    continue;
                }
                let at = ((image * height + row.unsigned_abs()) * width + skipped) * self.channels;
                let (before, rest) = line.split_at_mut(left * self.channels);
                let (seen, after) = rest.split_at_mut(shown * self.channels);
                before.fill(0.0);
                seen.copy_from_slice(&input[at..at + seen.len()]);
                after.fill(0.0);
            }
        }
    }

    /// Offsets of windows `from..from + rows.len()` in the images, or in the band of positions that
    /// begin at `band`.
    pub(super) fn rows(&self, from: usize, band: Option<usize>, rows: &mut [Row]) {
        let [height, width] = self.count;
        if band.is_none() && self.image == self.count && self.target.image == self.count {
            // One position after the other, from the first to the last.
            for (position, row) in (from..).zip(rows) {
                *row = Row {
                    from: position * self.channels,
                    to: position * self.target.channels,
                };
            }
            return;
        }
        let (mut x, line) = (from % width, from / width);
        let (mut y, mut image) = (line % height, line / height);
        // Where the window of column 0 begins.
        let start = |image: usize, y: usize| match band {
            None => {
                let row = self.origin[0].unsigned_abs() + y * self.stride;
                (image * self.image[0] + row) * self.image[1] + self.origin[1].unsigned_abs()
            }
            Some(first) => {
                let (first, line) = (first / width, image * height + y);
                let images = image - first / height;
                let row = if images == 0 {
                    (line - first) * self.stride
                } else {
                    // The band may begin inside its first image; all others are whole.
                    let rows = (first / height + 1) * height - first;
                    let whole = (images - 1) * self.reach(0, height);
                    self.reach(0, rows) + whole + y * self.stride
                };
                row * self.reach(1, width)
            }
        };
        let target = self.target;
        let goal = |image: usize, y: usize| {
            let row = image * target.image[0] + target.first[0] + y * target.step;
            row * target.image[1] + target.first[1]
        };
        let mut places = (start(image, y), goal(image, y));
        for row in rows {
            *row = Row {
                from: (places.0 + x * self.stride) * self.channels,
                to: (places.1 + x * target.step) * target.channels,
            };
            x += 1;
            if x == width {
                x = 0;
                y += 1;
                if y == height {
                    y = 0;
                    image += 1;
                }
                places = (start(image, y), goal(image, y));
            }
        }
    }
}
