use super::*;

impl Domain {
    /// The same by Gauss-Seidel, written out from the definition.
    fn relaxed(&self, source: &[f64], target: &[f64], gradients: Gradients) -> Vec<f64> {
        let mut values = target.to_vec();
        for _ in 0..20_000 {
            let mut largest: f64 = 0.0;
            for (&here, neighbours) in self.unknowns.iter().zip(&self.neighbours) {
                let sum: f64 = neighbours
                    .iter()
                    .map(|&there| {
                        let own = source[here] - source[there];
                        let kept = target[here] - target[there];
                        let mixed = gradients == Gradients::Mixed && kept.abs() > own.abs();
                        values[there] + if mixed { kept } else { own }
                    })
                    .sum();
                let change = 1.8 * (sum / 4.0 - values[here]);
                largest = largest.max(change.abs());
                values[here] += change;
            }
            if largest < 1e-9 {
                break;
            }
        }
        self.unknowns.iter().map(|&place| values[place]).collect()
    }
}

const WIDTH: usize = 24;
const HEIGHT: usize = 17;

fn plane(value: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    (0..WIDTH * HEIGHT)
        .map(|place| value((place % WIDTH) as f64, (place / WIDTH) as f64))
        .collect()
}

fn worst(domain: &Domain, got: &[f64], expected: &[f64]) -> f64 {
    let differences = domain
        .places()
        .iter()
        .zip(got)
        .map(|(&place, got)| (got - expected[place]).abs());
    differences.fold(0.0, f64::max)
}

#[test]
fn a_source_that_differs_by_a_harmonic_function_becomes_the_target() {
    let bump = |x: f64, y: f64| 20.0 * (x * 0.7).sin() * (y * 0.4).cos() + 90.0;
    let source = plane(bump);
    // x^2 - y^2 has no Laplacian, on the grid as in the plane.
    let target = plane(|x, y| bump(x, y) + 0.3 * (x * x - y * y) - 2.0 * x + 30.0);
    for inside in [
        |_, _| true,
        |x: usize, y: usize| !(x + 2 * y).is_multiple_of(7),
    ] {
        let domain = Domain::new(WIDTH, HEIGHT, &inside);
        let blended = domain.blend(&source, &target, Gradients::Source);
        let worst = worst(&domain, &blended, &target);
        assert!(worst < 0.05, "{worst}");
    }
}

#[test]
fn a_flat_source_leaves_no_extremum_and_mixing_leaves_the_target() {
    let target = plane(|x, y| 100.0 + 40.0 * (x * 0.9).sin() + 30.0 * (y * 1.3).sin());
    let flat = plane(|_, _| 7.0);
    let domain = Domain::new(WIDTH, HEIGHT, &|_, _| true);
    let (low, high) = target
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), &value| {
            (low.min(value), high.max(value))
        });
    let smooth = domain.blend(&flat, &target, Gradients::Source);
    assert!(
        smooth
            .iter()
            .all(|value| (low - 0.01..high + 0.01).contains(value))
    );
    assert!(worst(&domain, &smooth, &target) > 10.0);
    let mixed = domain.blend(&flat, &target, Gradients::Mixed);
    assert!(worst(&domain, &mixed, &target) < 0.05);
}

#[test]
fn every_size_and_shape_is_solved_to_a_small_part_of_a_level() {
    for (width, height) in [(12, 13), (40, 31), (97, 64), (200, 20)] {
        for kind in 0..3 {
            let inside = move |x: usize, y: usize| match kind {
                0 => true,
                1 => !(x / 3 + y / 2).is_multiple_of(5),
                _ => x.abs_diff(y) < 17,
            };
            // Noise with the full range of values.
            let noise = |seed: usize| -> Vec<f64> {
                let hash = |place: usize| (place * 7919 + seed * 104_729) % 10_007 % 256;
                (0..width * height)
                    .map(|place| hash(place) as f64)
                    .collect()
            };
            let (source, target) = (noise(1), noise(2));
            let domain = Domain::new(width, height, &inside);
            for gradients in [Gradients::Source, Gradients::Mixed] {
                let blended = domain.blend(&source, &target, gradients);
                let exact = domain.relaxed(&source, &target, gradients);
                let differences = blended.iter().zip(&exact).map(|(a, b)| (a - b).abs());
                let worst = differences.fold(0.0, f64::max);
                assert!(worst < 0.2, "{width} {height} {kind} {gradients:?} {worst}");
            }
        }
    }
}

#[test]
fn small_boxes_have_no_unknowns() {
    for (width, height) in [(0, 0), (1, 5), (2, 2), (3, 2)] {
        assert!(Domain::new(width, height, &|_, _| true).places().is_empty());
    }
    let one = Domain::new(3, 3, &|_, _| true);
    let blended = one.blend(&[0.0; 9], &[8.0; 9], Gradients::Source);
    assert_eq!(blended, [8.0]);
}
