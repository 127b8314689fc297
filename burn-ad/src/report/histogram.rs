//! Scores of normal and anomalous images as inline SVG.

use std::fmt::Write as _;

use super::html::GalleryItem;

const BINS: usize = 40;
const LEFT: f64 = 40.0;
const TOP: f64 = 24.0;
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 180.0;

/// Bars of the two classes beside each other per bin, the threshold as a line; `None` without scores.
pub(super) fn histogram(items: &[GalleryItem], threshold: Option<f64>) -> Option<String> {
    let scores = || {
        items
            .iter()
            .map(|item| f64::from(item.score))
            .filter(|score| score.is_finite())
    };
    let threshold = threshold.filter(|threshold| threshold.is_finite());
    let low = scores().chain(threshold).min_by(f64::total_cmp)?;
    let high = scores().chain(threshold).max_by(f64::total_cmp)?;
    scores().next()?;
    // All scores alike: one bin in the middle.
    let width = if high > low { high - low } else { 1.0 };
    let low = if high > low { low } else { low - 0.5 };

    let mut bins = [[0usize; 2]; BINS];
    for item in items.iter().filter(|item| item.score.is_finite()) {
        let bin = ((f64::from(item.score) - low) / width * BINS as f64) as usize;
        bins[bin.min(BINS - 1)][usize::from(item.anomalous)] += 1;
    }
    let tallest = bins.iter().flatten().copied().max().unwrap_or(0).max(1);

    let mut svg = String::new();
    let bottom = TOP + HEIGHT;
    let step = WIDTH / BINS as f64;
    let _ = write!(
        svg,
        r#"<svg class="histogram" viewBox="0 0 {} {}" role="img" aria-labelledby="histogram-title"><title id="histogram-title">{}</title>"#,
        LEFT + WIDTH + 40.0,
        bottom + 40.0,
        description(items, threshold)
    );
    for share in [0.5, 1.0] {
        let y = bottom - HEIGHT * share;
        let _ = write!(svg, r#"<path class="grid" d="M{LEFT} {y}h{WIDTH}"/>"#);
    }
    let _ = write!(
        svg,
        r#"<text x="{0}" y="{1}" text-anchor="end">{tallest}</text><text x="{0}" y="{bottom}" text-anchor="end">0</text>"#,
        LEFT - 6.0,
        TOP + 8.0
    );
    for (index, counts) in bins.iter().enumerate() {
        for (class, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let height = HEIGHT * *count as f64 / tallest as f64;
            let x = LEFT + step * (index as f64 + 0.06 + 0.44 * class as f64);
            let (name, from) = (
                ["normal", "anomalous"][class],
                low + width * index as f64 / BINS as f64,
            );
            let _ = write!(
                svg,
                r#"<rect class="{name}" x="{x:.2}" y="{:.2}" width="{:.2}" height="{height:.2}"><title>{count} {name}, score from {} to {}</title></rect>"#,
                bottom - height,
                step * 0.44,
                short(from),
                short(from + width / BINS as f64)
            );
        }
    }
    let _ = write!(svg, r#"<path class="axis" d="M{LEFT} {bottom}h{WIDTH}"/>"#);
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            LEFT + WIDTH * share,
            bottom + 16.0,
            short(low + width * share)
        );
    }
    let _ = write!(
        svg,
        r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">image score</text>"#,
        LEFT + WIDTH / 2.0,
        bottom + 34.0
    );
    if let Some(threshold) = threshold {
        let x = LEFT + WIDTH * (threshold - low) / width;
        let anchor = match (threshold - low) / width {
            share if share < 0.15 => "start",
            share if share > 0.85 => "end",
            _ => "middle",
        };
        let _ = write!(
            svg,
            r#"<path class="threshold" d="M{x:.2} {}V{bottom}"/><text x="{x:.2}" y="{}" text-anchor="{anchor}">threshold {}</text>"#,
            TOP - 6.0,
            TOP - 10.0,
            short(threshold)
        );
    }
    svg.push_str("</svg>");
    Some(svg)
}

fn description(items: &[GalleryItem], threshold: Option<f64>) -> String {
    let anomalous = items.iter().filter(|item| item.anomalous).count();
    let mut text = format!(
        "Histogram of the scores of {} normal and {anomalous} anomalous images",
        items.len() - anomalous
    );
    if let Some(threshold) = threshold {
        let _ = write!(text, "; the threshold is {}", short(threshold));
    }
    text
}

/// A number in few characters: four significant digits.
pub(super) fn short(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-3..1e6).contains(&magnitude) {
        return format!("{value:.3e}");
    }
    let before_point = if magnitude >= 1.0 {
        magnitude.log10() as usize + 1
    } else {
        1
    };
    format!("{value:.*}", 4usize.saturating_sub(before_point))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(score: f32, anomalous: bool) -> GalleryItem {
        GalleryItem {
            score,
            anomalous,
            ..GalleryItem::default()
        }
    }

    #[test]
    fn every_finite_score_is_in_one_bar() {
        let items: Vec<GalleryItem> = (0..500)
            .map(|i| item((i * i % 97) as f32 * 0.13 - 3.0, i % 3 == 0))
            .chain([item(f32::NAN, true)])
            .collect();
        let svg = histogram(&items, Some(2.0)).expect("scores");
        let counted: usize = svg
            .split("<title>")
            .skip(1)
            .map(|title| {
                title
                    .split(' ')
                    .next()
                    .expect("count")
                    .parse::<usize>()
                    .expect("number")
            })
            .sum();
        assert_eq!(counted, 500);
        assert_eq!(svg.matches("class=\"threshold\"").count(), 1);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn odd_sets_of_scores_can_be_drawn() {
        assert!(histogram(&[], Some(1.0)).is_none());
        assert!(histogram(&[item(f32::INFINITY, true)], None).is_none());
        for scores in [&[2.5f32][..], &[2.5, 2.5], &[f32::MIN, f32::MAX]] {
            let items: Vec<GalleryItem> = scores.iter().map(|score| item(*score, false)).collect();
            let svg = histogram(&items, Some(f64::NAN)).expect("scores");
            assert!(svg.contains("<rect") && !svg.contains("NaN"), "{scores:?}");
            assert!(!svg.contains("class=\"threshold\""));
        }
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0.000"),
            (0.12345, "0.123"),
            (12.3456, "12.35"),
            (123_456.0, "123456"),
            (-1.5e7, "-1.500e7"),
            (1e-5, "1.000e-5"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }
}
