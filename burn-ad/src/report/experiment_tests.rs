#![allow(clippy::unwrap_used)]
use super::*;

fn figures(image_auroc: f64, aupro: Option<f64>) -> Figures<Option<f64>> {
    Figures {
        image_auroc: Some(image_auroc),
        aupro,
        seconds: Some(2.0),
        ..Figures::default()
    }
}

fn cell(label: &str, runs: &[std::result::Result<Figures<Option<f64>>, &str>]) -> Cell {
    let runs = runs.iter().map(|run| run.map_err(str::to_owned));
    Cell {
        labels: vec![label.to_owned()],
        runs: (0..).zip(runs).collect(),
    }
}

fn example() -> ExperimentReport {
    let cells = [
        cell(
            "NFAD",
            &[Ok(figures(0.8, Some(0.5))), Ok(figures(0.9, None))],
        ),
        cell(
            "BGAD, τ = 1",
            &[Err("loss, \"NaN\""), Ok(figures(0.7, Some(0.6)))],
        ),
        cell("none", &[Err("no"), Err("no")]),
    ];
    ExperimentReport::new("plate", "flex", vec!["variant".to_owned()], &cells)
}

#[test]
fn the_deviation_is_that_of_a_sample() {
    let spread = Spread::of([Some(1.0), None, Some(2.0), Some(4.0)]).unwrap();
    assert_eq!((spread.mean, spread.runs), (7.0 / 3.0, 3));
    assert!((spread.deviation.unwrap() - (7.0f64 / 3.0).sqrt()).abs() < 1e-12);
    assert_eq!(Spread::of([Some(3.0)]).unwrap().deviation, None);
    assert_eq!(Spread::of([Some(3.0); 4]).unwrap().deviation, Some(0.0));
    assert_eq!(Spread::of([None, None]), None);
}

#[test]
fn means_over_products_are_shown_where_there_are_products() {
    assert!(!example().table().text().contains("mean of products"));
    let of_products = Figures {
        mean_image_auroc: Some(0.75),
        ..figures(0.8, None)
    };
    let cells = [cell("one model", &[Ok(of_products)])];
    let report = ExperimentReport::new("line", "flex", vec!["variant".to_owned()], &cells);
    let text = report.table().text();
    assert!(
        text.contains("mean of products") && text.contains("0.7500"),
        "{text}"
    );
    assert!(!text.contains("class accuracy"), "{text}");
}

#[test]
fn figures_of_masks_are_shown_where_there_are_masks() {
    let of_images = Figures {
        image_best_f1: Some(0.75),
        image_best_f1_accuracy: Some(0.625),
        ..figures(0.8, None)
    };
    let report = |figures| {
        let cells = [cell("one", &[Ok(figures)])];
        ExperimentReport::new("oct", "flex", vec!["variant".to_owned()], &cells)
    };
    let text = report(of_images).table().text();
    for part in ["image AUROC", "best F1", "accuracy at best F1", "0.6250"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(
        !text.contains("pixel AUROC") && !text.contains("PRO"),
        "{text}"
    );
    let of_pixels = Figures {
        pro_per_image: Some(0.5),
        ..of_images
    };
    let text = report(of_pixels).table().text();
    assert!(
        text.contains("PRO per image") && !text.contains("AUPRO"),
        "{text}"
    );
}

/// Lines of runs that were written before a figure was known.
#[test]
fn older_figures_are_read() {
    let mut value = serde_json::to_value(figures(0.8, Some(0.5))).unwrap();
    let fields = value.as_object_mut().unwrap();
    fields.remove("pro_per_image").unwrap();
    fields.remove("image_best_f1_accuracy").unwrap();
    let read: Figures<Option<f64>> = serde_json::from_value(value).unwrap();
    assert_eq!(read, figures(0.8, Some(0.5)));
}

#[test]
fn the_table_shows_spreads_gaps_and_reasons() {
    let text = example().table().text();
    let lines: Vec<&str> = text.lines().collect();
    for (line, parts) in [
        (2, ["NFAD", "  2  ", "0.8500 ± 0.0707", "0.5000"]),
        (3, ["BGAD, τ = 1", "  1  ", "0.7000", "1: loss, \"NaN\""]),
        (4, ["none", "  0  ", "-", "2: no"]),
    ] {
        assert!(
            parts.iter().all(|part| lines[line].contains(part)),
            "{text}"
        );
    }
    let mut fine = example();
    fine.cells.truncate(1);
    assert!(!fine.table().text().contains("failed"));
}

#[test]
fn the_mean_over_cells_is_taken_seed_by_seed() {
    let a = cell(
        "a",
        &[
            Ok(figures(0.5, Some(0.2))),
            Ok(figures(0.7, Some(0.2))),
            Ok(figures(1.0, None)),
        ],
    );
    let b = cell(
        "b",
        &[
            Ok(figures(0.9, Some(0.4))),
            Ok(figures(0.7, None)),
            Err("lost"),
        ],
    );
    let mean = Cell::mean_of(&[&a, &b], vec!["mean".to_owned()]);
    assert_eq!(mean.runs[&0], Ok(figures(0.7, Some(0.30000000000000004))));
    assert_eq!(mean.runs[&1], Ok(figures(0.7, None)));
    assert_eq!(mean.runs[&2], Err("lost".to_owned()));
    // The spread is that over seeds, not over kinds.
    let summary = mean.summary(&["kind".to_owned()]);
    assert_eq!(summary.figures.image_auroc.unwrap().deviation, Some(0.0));
    assert_eq!((summary.runs, summary.failed), (2, 1));
}

#[test]
fn csv_reads_back_to_the_last_bit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.csv");
    let report = example();
    report.write_csv(&path).unwrap();
    let mut reader = csv::Reader::from_path(&path).unwrap();
    let titles = reader.headers().unwrap().clone();
    let column = |name: &str| titles.iter().position(|title| title == name).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.unwrap()).collect();
    assert_eq!(rows.len(), 3);
    let spread = report.cells[0].figures.image_auroc.unwrap();
    assert_eq!(
        rows[0][column("image_auroc")].parse::<f64>().unwrap(),
        spread.mean
    );
    let deviation: f64 = rows[0][column("image_auroc_deviation")].parse().unwrap();
    assert_eq!(Some(deviation), spread.deviation);
    assert_eq!(&rows[1][column("variant")], "BGAD, τ = 1");
    assert_eq!(&rows[1][column("failures")], "loss, \"NaN\"");
    assert_eq!(&rows[2][column("aupro")], "");
}

#[test]
fn json_reads_back_the_same() {
    let report = example();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(
        serde_json::from_str::<ExperimentReport>(&text).unwrap(),
        report
    );
}
