//! The foreground as a set of places.

use image::{GrayImage, RgbImage};

use super::mask;
use crate::error::{Error, Result};

/// The pixels of an image that belong to the product.
pub(super) struct Area<'a> {
    width: i64,
    height: i64,
    /// `None`: all of them.
    mask: Option<&'a GrayImage>,
}

impl<'a> Area<'a> {
    /// # Errors
    /// When the mask is not of the image's size.
    pub(super) fn new(image: &RgbImage, mask: Option<&'a GrayImage>) -> Result<Self> {
        let (width, height) = image.dimensions();
        if let Some(mask) = mask
            && mask.dimensions() != (width, height)
        {
            return Err(Error::data(format!(
                "the image has {width} x {height} pixels, its foreground mask {} x {}",
                mask.width(),
                mask.height()
            ))
            .help("supply a mask of the image's size"));
        }
        Ok(Self {
            width: width.into(),
            height: height.into(),
            mask,
        })
    }

    pub(super) fn contains(&self, [x, y]: [i64; 2]) -> bool {
        (0..self.width).contains(&x)
            && (0..self.height).contains(&y)
            && self
                .mask
                .is_none_or(|mask| mask.get_pixel(x as u32, y as u32)[0] != 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mask
            .is_some_and(|mask| mask.as_raw().iter().all(|&value| value == 0))
    }

    /// The share of a region that lies in the area once it is moved by `offset`; pixels that leave
    /// the image do not lie in it. The region is not empty.
    pub(super) fn share(&self, region: &[[i64; 2]], offset: [i64; 2]) -> f64 {
        let moved = region
            .iter()
            .map(|point| [point[0] + offset[0], point[1] + offset[1]]);
        let inside = moved.filter(|&point| self.contains(point)).count();
        inside as f64 / region.len() as f64
    }

    /// The points of the area at least `margins` away from the image's border; all points of the
    /// area where there are none.
    pub(super) fn points(&self, margins: [i64; 2]) -> mask::Region {
        let all = || {
            let rows = (0..self.height).flat_map(|y| (0..self.width).map(move |x| [x, y]));
            rows.filter(|&point| self.contains(point))
        };
        let away = |at: i64, margin: i64, side: i64| at >= margin && at + margin < side;
        let inner: mask::Region = all()
            .filter(|&[x, y]| away(x, margins[0], self.width) && away(y, margins[1], self.height))
            .collect();
        if inner.is_empty() {
            all().collect()
        } else {
            inner
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn points_keep_away_from_the_border_where_they_can() {
        let image = RgbImage::new(5, 4);
        let whole = Area::new(&image, None).unwrap();
        assert_eq!(whole.points([2, 1]), [[2, 1], [2, 2]]);
        assert_eq!(whole.points([3, 1]).len(), 20);
        let mask = mask::drawn(&["#...#", ".....", "...#.", "....#"]);
        let some = Area::new(&image, Some(&mask)).unwrap();
        assert_eq!(some.points([1, 1]), [[3, 2]]);
        assert_eq!(some.points([2, 2]).len(), 4);
    }

    #[test]
    fn what_leaves_the_image_is_not_in_the_area() {
        let image = RgbImage::new(3, 2);
        let whole = Area::new(&image, None).unwrap();
        assert_eq!(whole.share(&[[0, 0], [2, 0]], [1, 0]), 0.5);
        assert_eq!(whole.share(&[[0, 0], [2, 0]], [-1, -1]), 0.0);
        let none = GrayImage::new(3, 2);
        assert!(Area::new(&image, Some(&none)).unwrap().is_empty());
        assert!(Area::new(&image, Some(&GrayImage::new(2, 3))).is_err());
    }
}
