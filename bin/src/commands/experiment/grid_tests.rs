#![allow(clippy::unwrap_used)]
use super::*;

fn texts(sets: &[Override]) -> Vec<&str> {
    sets.iter().map(|set| set.text.as_str()).collect()
}

#[test]
fn variants_have_a_name_and_settings() {
    for (text, name, sets) in [
        (
            "BGAD, no RPAG: method.name=bgad; method.augment=none;",
            "BGAD, no RPAG",
            vec!["method.name=bgad", "method.augment=none"],
        ),
        ("a.b=1; c='x:y'", "a.b=1; c='x:y'", vec!["a.b=1", "c='x:y'"]),
        ("a=C:/x", "a=C:/x", vec!["a=C:/x"]),
        ("base", "base", vec![]),
    ] {
        let variant = Variant::parse(text).unwrap();
        assert_eq!((variant.name.as_str(), texts(&variant.sets)), (name, sets));
    }
    assert!(Variant::parse(": a=1").unwrap_err().is_usage());
    for reserved in ["x: train.seed=3", "x: anomalies.count={ total = 3 }"] {
        assert!(Variant::parse(reserved).unwrap_err().is_usage());
    }
}

#[test]
fn values_keep_their_own_commas() {
    let axis = Axis::parse("m.taps=[4, 8],[16], { a = [1, 2], b = 'x,y' }").unwrap();
    assert_eq!(axis.values, ["[4, 8]", "[16]", "{ a = [1, 2], b = 'x,y' }"]);
    for wrong in ["m.beta", "=1", "m.beta=", "m.beta=1,,2"] {
        assert!(Axis::parse(wrong).unwrap_err().is_usage(), "{wrong}");
    }
}

#[test]
fn the_grid_is_a_product_with_a_mean_over_kinds() {
    let variants = ["A: x=1", "B: x=2"].map(|text| Variant::parse(text).unwrap());
    let vary = [
        Axis::parse("m.beta=1,2").unwrap(),
        Axis::parse("n.beta=3").unwrap(),
    ];
    let counts = [KnownCount::Total(5), KnownCount::PerKind(2)];
    let split = Split::OneClass(["hole", "scratch", "stain"].map(str::to_owned).to_vec());
    let grid = Grid::new(&variants, &vary, &counts, &[])
        .unwrap()
        .with_split(|_| Ok(split.clone()))
        .unwrap();
    assert_eq!(
        grid.axes,
        ["variant", "m.beta", "n.beta", "anomalies", "learnt kind"]
    );
    assert_eq!(grid.cells.len(), 2 * 2 * 2 * 3);
    assert_eq!(grid.means.len(), 8);
    assert_eq!(grid.means[7].cells, [21, 22, 23]);
    assert_eq!(
        grid.means[7].labels,
        ["B", "2", "3", "2 per kind", "(mean)"]
    );
    let last = &grid.cells[23];
    assert_eq!(last.labels, ["B", "2", "3", "2 per kind", "stain"]);
    assert_eq!(texts(&last.sets), ["x=2", "m.beta=2", "n.beta=3"]);
    assert_eq!(last.drawn, Some(Kinds::Only(vec!["stain".to_owned()])));
    assert_eq!(last.tested, Kinds::Except(vec!["stain".to_owned()]));
}

#[test]
fn unseen_kinds_are_tested_alone() {
    let hard = vec!["hole".to_owned()];
    let grid = Grid::new(&[], &[], &[], &[])
        .unwrap()
        .with_split(|_| Ok(Split::Unseen(hard.clone())))
        .unwrap();
    assert_eq!(grid.cells[0].labels, ["as given"]);
    assert_eq!(grid.cells[0].drawn, Some(Kinds::Except(hard.clone())));
    assert_eq!(grid.cells[0].tested, Kinds::Only(hard));
}

#[test]
fn rows_of_the_same_name_are_refused() {
    let twice = ["A: x=1", "A: x=2"].map(|text| Variant::parse(text).unwrap());
    assert!(Grid::new(&twice, &[], &[], &[]).unwrap_err().is_usage());
}

#[test]
fn kinds_in_turn_may_differ_by_normal_class_and_both_have_means() {
    let vary = [Axis::parse("data.normal_class=0,1").unwrap()];
    let counts = [KnownCount::Share(0.01), KnownCount::Share(0.05)];
    let grid = Grid::new(&[], &vary, &counts, &[])
        .unwrap()
        .with_split(|cell| {
            let other = if cell.labels[0] == "0" { "1" } else { "0" };
            Ok(Split::EachKind(vec![other.to_owned(), "2".to_owned()]))
        })
        .unwrap();
    assert_eq!(grid.axes, ["normal_class", "anomalies", "learnt kind"]);
    let labels: Vec<String> = grid
        .cells
        .iter()
        .map(|cell| cell.labels.join(" "))
        .collect();
    assert_eq!(labels[1], "0 ratio 0.01 2");
    assert_eq!(labels[4], "1 ratio 0.01 0");
    assert!(grid.cells.iter().all(|cell| cell.tested == Kinds::All));
    assert_eq!(grid.cells[4].drawn, Some(Kinds::Only(vec!["0".to_owned()])));
    let means: Vec<(String, &[usize])> = grid
        .means
        .iter()
        .map(|mean| (mean.labels.join(" "), mean.cells.as_slice()))
        .collect();
    assert_eq!(
        means,
        [
            ("0 ratio 0.01 (mean)".to_owned(), &[0, 1][..]),
            ("0 ratio 0.05 (mean)".to_owned(), &[2, 3]),
            ("1 ratio 0.01 (mean)".to_owned(), &[4, 5]),
            ("1 ratio 0.05 (mean)".to_owned(), &[6, 7]),
            ("(mean) ratio 0.01 (mean)".to_owned(), &[0, 1, 4, 5]),
            ("(mean) ratio 0.05 (mean)".to_owned(), &[2, 3, 6, 7]),
        ]
    );
}

#[test]
fn numbers_of_kinds_are_rows() {
    let counts = [KnownCount::Share(0.05)];
    let grid = Grid::new(&[], &[], &counts, &[1, 3]).unwrap();
    assert_eq!(grid.axes, ["anomalies", "kinds drawn"]);
    assert_eq!(grid.cells[1].labels, ["ratio 0.05", "3"]);
    assert_eq!((grid.cells[0].draw, grid.cells[1].draw), (Some(1), Some(3)));
    let grid = grid.with_split(|_| Ok(Split::General)).unwrap();
    assert!(grid.means.is_empty());
}
