//! The figures of a training run over time, as an SVG file of its own.

use std::fmt::Write as _;

use serde_json::Value;

use super::histogram::short;

/// Figures that share an axis: a title, and the keys of a log's lines, with dots between nested ones.
const PANELS: [(&str, &[&str]); 6] = [
    (
        "loss",
        &["loss", "loss_rec", "loss_rec_anomalous", "loss_gac"],
    ),
    (
        "adversarial losses",
        &["loss_d", "loss_g", "loss_critic", "loss_fool"],
    ),
    ("MS-SSIM of reconstructions", &["ms_ssim"]),
    (
        "mean squared distance to the centre",
        &["distance", "scale"],
    ),
    (
        "energies",
        &["energy_normal", "energy_generated", "energy_anomalous"],
    ),
    (
        "AUROC of images that only watch",
        &["validation.auroc", "watched_auroc"],
    ),
];
/// Told apart by people with the common colour vision deficiencies (Okabe and Ito).
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];
const LEFT: f64 = 64.0;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 140.0;
/// Of a panel with its title and the numbers below it.
const STEP: f64 = HEIGHT + 64.0;

/// Draws the lines of a `train.jsonl`, one panel for each group of figures that they have; `None` when
/// there are fewer than two lines or no figure to draw.
pub fn training_curves(lines: &[Value]) -> Option<String> {
    let panels: Vec<(&str, Vec<Curve>)> = PANELS
        .iter()
        .map(|(title, keys)| {
            let curves = keys.iter().filter_map(|key| Curve::new(key, lines));
            (*title, curves.collect::<Vec<_>>())
        })
        .filter(|(_, curves)| !curves.is_empty())
        .collect();
    if lines.len() < 2 || panels.is_empty() {
        return None;
    }
    let height = STEP * panels.len() as f64;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {height}" role="img" font-family="system-ui,sans-serif" font-size="12"><title>figures of the training</title><rect width="100%" height="100%" fill="#fff"/>"##,
        LEFT + WIDTH + 24.0
    );
    for (place, (title, curves)) in panels.iter().enumerate() {
        panel(
            &mut svg,
            title,
            curves,
            lines.len(),
            36.0 + STEP * place as f64,
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// One figure: for each line its place and value.
struct Curve {
    name: String,
    points: Vec<(usize, f64)>,
}

impl Curve {
    /// `None` where no line has a finite value.
    fn new(key: &str, lines: &[Value]) -> Option<Self> {
        let value = |line: &Value| {
            let inner = key.split('.').fold(line, |value, part| &value[part]);
            inner.as_f64().filter(|value| value.is_finite())
        };
        let points = lines.iter().enumerate();
        let points: Vec<(usize, f64)> = points
            .filter_map(|(place, line)| Some((place, value(line)?)))
            .collect();
        (!points.is_empty()).then(|| Self {
            name: key.to_owned(),
            points,
        })
    }
}

fn panel(svg: &mut String, title: &str, curves: &[Curve], lines: usize, top: f64) {
    let values = || {
        curves
            .iter()
            .flat_map(|curve| &curve.points)
            .map(|(_, value)| *value)
    };
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    let span = if high > low { high - low } else { 1.0 };
    let x = |place: usize| LEFT + WIDTH * place as f64 / (lines - 1) as f64;
    let y = |value: f64| top + HEIGHT * (1.0 - (value - low) / span);
    let bottom = top + HEIGHT;
    let _ = write!(
        svg,
        r##"<text x="{LEFT}" y="{}" font-weight="600">{title}</text>"##,
        top - 14.0
    );
    // Three lines, with their values.
    for share in [0.0, 0.5, 1.0] {
        let (at, value) = (bottom - HEIGHT * share, low + span * share);
        let _ = write!(
            svg,
            r##"<path d="M{LEFT} {at:.1}h{WIDTH}" stroke="#d1d9e0"/><text x="{}" y="{:.1}" text-anchor="end" fill="#59636e">{}</text>"##,
            LEFT - 6.0,
            at + 4.0,
            short(value)
        );
    }
    let _ = write!(
        svg,
        r##"<text x="{LEFT}" y="{0:.1}" fill="#59636e">1</text><text x="{1:.1}" y="{0:.1}" text-anchor="end" fill="#59636e">{lines}</text>"##,
        bottom + 16.0,
        LEFT + WIDTH
    );
    let mut at = LEFT + WIDTH;
    for (curve, colour) in curves.iter().zip(COLOURS).rev() {
        let points: Vec<String> = curve
            .points
            .iter()
            .map(|&(place, value)| format!("{:.1},{:.1}", x(place), y(value)))
            .collect();
        let _ = write!(
            svg,
            r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="1.5"/><text x="{at:.1}" y="{:.1}" text-anchor="end" fill="{colour}">{}</text>"##,
            points.join(" "),
            top - 14.0,
            curve.name
        );
        at -= 8.0 * curve.name.len() as f64 + 16.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_figure_of_the_log_is_one_line() {
        let lines: Vec<Value> = (0..5)
            .map(|epoch| {
                json!({
                    "epoch": epoch, "loss_rec": 1.0 / f64::from(epoch + 1), "loss_d": 5.0,
                    "energy_normal": 0.5, "energy_anomalous": epoch,
                    "validation": { "auroc": if epoch > 2 { json!(0.9) } else { Value::Null } },
                })
            })
            .collect();
        let svg = training_curves(&lines).expect("has figures");
        assert_eq!(svg.matches("<polyline").count(), 5);
        assert_eq!(svg.matches("font-weight").count(), 4);
        for name in ["loss_rec", "loss_d", "energy_anomalous", "validation.auroc"] {
            assert!(svg.contains(name), "{name}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_log_without_figures_gives_no_picture() {
        assert!(training_curves(&[]).is_none());
        assert!(training_curves(&[json!({ "loss": 1.0 })]).is_none());
        let lines = [json!({ "seconds": 1.0 }), json!({ "loss": null })];
        assert!(training_curves(&lines).is_none());
    }
}
