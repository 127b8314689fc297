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
    let grid = Grid::new(&variants, &vary, &counts)
        .unwrap()
        .with_split(&split);
    assert_eq!(
        grid.axes,
        ["variant", "m.beta", "n.beta", "anomalies", "learnt kind"]
    );
    assert_eq!(grid.cells.len(), 2 * 2 * 2 * 3);
    assert_eq!(grid.means.len(), 8);
    assert_eq!(grid.means[7], 21..24);
    let last = &grid.cells[23];
    assert_eq!(last.labels, ["B", "2", "3", "2 per kind", "stain"]);
    assert_eq!(texts(&last.sets), ["x=2", "m.beta=2", "n.beta=3"]);
    assert_eq!(last.drawn, Some(Kinds::Only(vec!["stain".to_owned()])));
    assert_eq!(last.tested, Kinds::Except(vec!["stain".to_owned()]));
}

#[test]
fn unseen_kinds_are_tested_alone() {
    let hard = vec!["hole".to_owned()];
    let grid = Grid::new(&[], &[], &[])
        .unwrap()
        .with_split(&Split::Unseen(hard.clone()));
    assert_eq!(grid.cells[0].labels, ["as given"]);
    assert_eq!(grid.cells[0].drawn, Some(Kinds::Except(hard.clone())));
    assert_eq!(grid.cells[0].tested, Kinds::Only(hard));
}

#[test]
fn rows_of_the_same_name_are_refused() {
    let twice = ["A: x=1", "A: x=2"].map(|text| Variant::parse(text).unwrap());
    assert!(Grid::new(&twice, &[], &[]).unwrap_err().is_usage());
}
