//! Windows that slide over a feature map.

/// Size of a feature map, channels-last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// Images.
    pub batch: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Map {
    /// Values of the map.
    pub fn len(&self) -> usize {
        self.batch * self.height * self.width * self.channels
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A window of `kernel` cells that slides over a map with `stride`, `padding` cells beyond the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Step downwards and to the right.
    pub stride: [usize; 2],
    /// Cells above, below, left of and right of the map.
    pub padding: [usize; 4],
}

impl Window {
    /// A square window with the same padding on all sides.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 4],
        }
    }

    /// What comes out of a map: one row and column for each place of the window.
    ///
    /// # Panics
    /// If the window is empty, does not move, or is larger than the padded map.
    pub fn output(&self, map: Map) -> Map {
        let [top, bottom, left, right] = self.padding;
        let places = |size: usize, padding: usize, axis: usize| {
            let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
            assert!(kernel > 0 && stride > 0, "a window without size or stride");
            assert!(
                size + padding >= kernel,
                "the window is larger than the map"
            );
            (size + padding - kernel) / stride + 1
        };
        Map {
            height: places(map.height, top + bottom, 0),
            width: places(map.width, left + right, 1),
            ..map
        }
    }

    /// The part of the window of output row `row` that lies on the map.
    #[inline(always)]
    pub(crate) fn rows(&self, row: usize, height: usize) -> Span {
        span(
            row * self.stride[0],
            self.padding[0],
            self.kernel[0],
            height,
        )
    }

    /// The same for columns.
    #[inline(always)]
    pub(crate) fn columns(&self, column: usize, width: usize) -> Span {
        span(
            column * self.stride[1],
            self.padding[2],
            self.kernel[1],
            width,
        )
    }

    /// Output rows whose window contains row `row` of the map, of `count` output rows.
    #[inline(always)]
    pub(crate) fn rows_over(&self, row: usize, count: usize) -> std::ops::Range<usize> {
        over(row + self.padding[0], self.kernel[0], self.stride[0], count)
    }

    /// The same for columns.
    #[inline(always)]
    pub(crate) fn columns_over(&self, column: usize, count: usize) -> std::ops::Range<usize> {
        over(
            column + self.padding[2],
            self.kernel[1],
            self.stride[1],
            count,
        )
    }
}

/// Part of a window along one axis that lies on the map: cells `taps` of the window are cells
/// `first..first + taps.len()` of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: usize,
    pub(crate) taps: std::ops::Range<usize>,
}

#[inline(always)]
fn span(start: usize, padding: usize, kernel: usize, size: usize) -> Span {
    let begin = padding.saturating_sub(start).min(kernel);
    let end = (size + padding).saturating_sub(start).clamp(begin, kernel);
    Span {
        first: (start + begin).saturating_sub(padding),
        taps: begin..end,
    }
}

#[inline(always)]
fn over(place: usize, kernel: usize, stride: usize, count: usize) -> std::ops::Range<usize> {
    let begin = (place + 1).saturating_sub(kernel).div_ceil(stride);
    let end = (place / stride + 1).min(count);
    begin.min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_covers_equal_the_definition() {
        for kernel in 1..6 {
            for stride in 1..4 {
                for padding in 0..=kernel + 1 {
                    for size in 1..9 {
                        let window = Window {
                            kernel: [kernel; 2],
                            stride: [stride; 2],
                            padding: [padding, 1, padding, 1],
                        };
                        if size + padding + 1 < kernel {
                            continue;
                        }
                        let map = Map {
                            batch: 1,
                            height: size,
                            width: size,
                            channels: 1,
                        };
                        let out = window.output(map).height;
                        let cell = |place: usize, tap: usize| {
                            (place * stride + tap)
                                .checked_sub(padding)
                                .filter(|&c| c < size)
                        };
                        for place in 0..out {
                            let span = window.rows(place, size);
                            let on_map: Vec<_> = (0..kernel)
                                .filter_map(|tap| Some((tap, cell(place, tap)?)))
                                .collect();
                            let found: Vec<_> = span.taps.clone().zip(span.first..).collect();
                            assert_eq!(found, on_map);
                            assert_eq!(window.columns(place, size), span);
                        }
                        for row in 0..size {
                            let covers = |place: &usize| {
                                (0..kernel).any(|tap| cell(*place, tap) == Some(row))
                            };
                            let expected: Vec<_> = (0..out).filter(covers).collect();
                            let found: Vec<_> = window.rows_over(row, out).collect();
                            assert_eq!(found, expected);
                            assert_eq!(found, window.columns_over(row, out).collect::<Vec<_>>());
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "larger than the map")]
    fn a_window_larger_than_the_map_is_refused() {
        let map = Map {
            batch: 1,
            height: 3,
            width: 3,
            channels: 1,
        };
        Window::square(6, 1, 1).output(map);
    }
}
