//! Geometry: image, mask and map agree about where things are.

use burn_ad::data::{Filter, Fit, Geometry, Placement};
use image::{GrayImage, Luma, Rgb, RgbImage};
use proptest::prelude::*;

fn fits() -> impl Strategy<Value = Fit> {
    prop_oneof![Just(Fit::Crop), Just(Fit::Squash), Just(Fit::Letterbox)]
}

fn filters() -> impl Strategy<Value = Filter> {
    prop_oneof![
        Just(Filter::Bilinear),
        Just(Filter::Bicubic),
        Just(Filter::Lanczos)
    ]
}

fn check_inside(placement: &Placement, size: usize) {
    let (valid, source) = (placement.valid, placement.source);
    assert!(valid.height >= 1 && valid.width >= 1, "{placement:?}");
    assert!(
        valid.top + valid.height <= size && valid.left + valid.width <= size,
        "{placement:?}"
    );
    assert!(source.height >= 1 && source.width >= 1, "{placement:?}");
    assert!(
        source.top + source.height <= placement.original[0],
        "{placement:?}"
    );
    assert!(
        source.left + source.width <= placement.original[1],
        "{placement:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn regions_lie_inside(fit in fits(), height in 1usize..3000, width in 1usize..3000, size in 1usize..600) {
        let geometry = Geometry { fit, size, filter: Filter::Bilinear };
        let placement = geometry.place([height, width]);
        check_inside(&placement, size);
        if fit != Fit::Crop {
            prop_assert!(placement.source.height == height && placement.source.width == width);
        }
        if fit != Fit::Letterbox {
            prop_assert!(placement.valid.height == size && placement.valid.width == size);
        }
    }

    #[test]
    fn a_constant_image_stays_constant(
        fit in fits(), filter in filters(), height in 1u32..200, width in 1u32..200, size in 1usize..100, grey: u8
    ) {
        let geometry = Geometry { fit, size, filter };
        let (out, _) = geometry.apply(&RgbImage::from_pixel(width, height, Rgb([grey; 3])));
        prop_assert_eq!(out.dimensions(), (size as u32, size as u32));
        prop_assert!(out.iter().all(|&value| value == grey));
    }

    #[test]
    fn a_constant_map_comes_back_constant(
        fit in fits(), height in 1usize..200, width in 1usize..200, size in 1usize..100, side in 1usize..40, value in -5f32..5.0
    ) {
        let placement = Geometry { fit, size, filter: Filter::Bilinear }.place([height, width]);
        let restored = placement.restore(&vec![value; side * side], side);
        prop_assert_eq!(restored.len(), height * width);
        prop_assert!(restored.iter().all(|&restored| restored == value));
    }

    /// A bright square and the mask that marks it end up on the same input pixels.
    #[test]
    fn a_painted_square_lands_on_its_mask(
        fit in fits(), filter in filters(), height in 60u32..300, width in 60u32..300, size in 48usize..200,
        y in 0.25f64..0.6, x in 0.25f64..0.6
    ) {
        let (top, left) = ((y * f64::from(height)) as u32, (x * f64::from(width)) as u32);
        let side = height.min(width) / 5;
        let inside = |px: u32, py: u32| (left..left + side).contains(&px) && (top..top + side).contains(&py);
        let image = RgbImage::from_fn(width, height, |px, py| Rgb([if inside(px, py) { 255 } else { 0 }; 3]));
        let mask = GrayImage::from_fn(width, height, |px, py| Luma([u8::from(inside(px, py))]));
        let geometry = Geometry { fit, size, filter };
        let (input, placement) = geometry.apply(&image);
        let marked = geometry.apply_mask(&mask);
        // Away from the square's edge (one pixel, at either resolution), both must agree.
        let scale = placement.scaled[0] as f64 / f64::from(height);
        let reach = (scale.ceil() as i64 + 1).max(2);
        let at = |py: i64, px: i64| {
            let clamp = |v: i64| v.clamp(0, size as i64 - 1) as usize;
            marked[clamp(py) * size + clamp(px)]
        };
        for py in 0..size as i64 {
            for px in 0..size as i64 {
                let here = at(py, px);
                let edge = (-reach..=reach).any(|dy| (-reach..=reach).any(|dx| at(py + dy, px + dx) != here));
                if edge || !placement.valid.contains(py as usize, px as usize) {
                    continue;
                }
                let bright = input.get_pixel(px as u32, py as u32)[0] > 127;
                prop_assert_eq!(bright, here, "at row {} column {}", py, px);
            }
        }
    }

    /// A peak in the map comes back to the original pixel that it was made from.
    #[test]
    fn a_restored_peak_is_where_it_was(
        fit in fits(), height in 20usize..400, width in 20usize..400, size in 32usize..300, y in 0.0f64..1.0, x in 0.0f64..1.0
    ) {
        let placement = Geometry { fit, size, filter: Filter::Bilinear }.place([height, width]);
        let source = placement.source;
        let row = source.top + (y * (source.height - 1) as f64) as usize;
        let column = source.left + (x * (source.width - 1) as f64) as usize;
        // The map is a cone around the image of (row, column), found by restoring coordinates'
        // inverse independently: the fraction of the way through the seen part.
        let along = |pixel: usize, first: usize, length: usize, start: usize, valid: usize| {
            start as f64 + ((pixel - first) as f64 + 0.5) / length as f64 * valid as f64 - 0.5
        };
        let cy = along(row, source.top, source.height, placement.valid.top, placement.valid.height);
        let cx = along(column, source.left, source.width, placement.valid.left, placement.valid.width);
        let map: Vec<f32> = (0..size * size)
            .map(|i| -(((i / size) as f64 - cy).hypot((i % size) as f64 - cx)) as f32)
            .collect();
        let restored = placement.restore(&map, size);
        let seen = placement.seen();
        let best = (0..restored.len())
            .filter(|&i| seen[i])
            .max_by(|&a, &b| restored[a].total_cmp(&restored[b]))
            .expect("something is seen");
        // Within a pixel of the coarser of the two grids.
        let coarse = |axis: usize| (placement.original[axis] as f64 / placement.scaled[axis] as f64).max(1.0) * 1.5 + 1.0;
        prop_assert!((best / width).abs_diff(row) as f64 <= coarse(0), "row {} for {}", best / width, row);
        prop_assert!((best % width).abs_diff(column) as f64 <= coarse(1), "column {} for {}", best % width, column);
    }
}

#[test]
fn a_hair_a_dot_and_a_size_of_one_are_placed() {
    for fit in [Fit::Crop, Fit::Squash, Fit::Letterbox] {
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for (height, width) in [(1, 1000), (1000, 1), (1, 1), (3, 2)] {
                for size in [1, 2, 64] {
                    let geometry = Geometry { fit, size, filter };
                    let image = RgbImage::from_pixel(width, height, Rgb([9, 90, 200]));
                    let (input, placement) = geometry.apply(&image);
                    check_inside(&placement, size);
                    assert!(input.pixels().all(|pixel| pixel.0 == [9, 90, 200]));
                    let mask =
                        geometry.apply_mask(&GrayImage::from_pixel(width, height, Luma([1])));
                    assert_eq!(mask, placement.shown());
                    let restored = placement.restore(&vec![0.5; size * size], size);
                    assert_eq!(restored.len(), (height * width) as usize);
                }
            }
        }
    }
}

#[test]
fn letterbox_filling_repeats_the_edge_and_never_leaks_back() {
    let geometry = Geometry {
        fit: Fit::Letterbox,
        size: 8,
        filter: Filter::Bilinear,
    };
    let image = RgbImage::from_fn(8, 4, |_, y| Rgb([y as u8 * 10; 3]));
    let (input, placement) = geometry.apply(&image);
    assert_eq!((placement.valid.top, placement.valid.height), (2, 4));
    let rows: Vec<u8> = (0..8).map(|y| input.get_pixel(3, y)[0]).collect();
    assert_eq!(rows, [0, 0, 0, 10, 20, 30, 30, 30]);
    let map: Vec<f32> = placement
        .shown()
        .iter()
        .map(|&shown| if shown { 1.0 } else { 99.0 })
        .collect();
    assert!(placement.restore(&map, 8).iter().all(|&value| value == 1.0));
}

#[test]
fn pixels_a_crop_cut_away_take_the_edge_value() {
    let geometry = Geometry {
        fit: Fit::Crop,
        size: 4,
        filter: Filter::Bilinear,
    };
    let placement = geometry.place([4, 8]);
    let map: Vec<f32> = (0..16).map(|i| (i % 4) as f32).collect();
    let restored = placement.restore(&map, 4);
    assert_eq!(restored[..8], [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 3.0, 3.0]);
    let seen = placement.seen();
    assert_eq!(
        seen[..8],
        [false, false, true, true, true, true, false, false]
    );
}

#[test]
fn impossible_sizes_are_usage_errors() {
    for size in [0, Geometry::MAX_SIZE + 1] {
        let geometry = Geometry {
            fit: Fit::Crop,
            size,
            filter: Filter::Bilinear,
        };
        assert!(geometry.check().is_err_and(|error| error.is_usage()));
    }
}
