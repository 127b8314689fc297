//! What the page of [`super`] promises.

use super::super::eval::tests::example;
use super::*;

fn item(name: &str, kind: &str, score: f32) -> GalleryItem {
    GalleryItem {
        name: name.into(),
        kind: kind.into(),
        anomalous: kind != "good",
        score,
        overlay: Some(format!("overlays/{name}.png")),
    }
}

#[test]
fn images_are_sorted_by_score_and_marked_against_the_threshold() {
    // The example's threshold is 3.25.
    let items = [
        item("passed", "good", 1.0),
        item("found", "dent", 9.0),
        item("missed", "scratch", 2.0),
        item("alarm", "good", 4.0),
        item("nan", "good", f32::NAN),
    ];
    let page = render(&example(), None, &items);
    let place = |name: &str| {
        page.find(&format!("class=\"name\">{name}<"))
            .expect("shown")
    };
    let order: Vec<usize> = ["found", "alarm", "missed", "passed", "nan"]
        .map(place)
        .to_vec();
    assert!(order.is_sorted());
    // Kinds are numbered by name: dent, good, scratch.
    for class in ["kind-0", "kind-1 alarm", "kind-2 missed", "kind-1"] {
        assert!(page.contains(&format!("<li class=\"{class}\">")), "{class}");
    }
    for filter in [
        "all (5)",
        "missed (1)",
        "false alarms (1)",
        "dent (1)",
        "good (3)",
        "scratch (1)",
    ] {
        assert!(page.contains(&format!(">{filter}</label>")), "{filter}");
    }
    assert!(page.contains("#kind-2:checked~.gallery>:not(.kind-2){display:none}"));
}

#[test]
fn names_cannot_leave_their_place_in_the_page() {
    let nasty = "\"><script>alert(1)</script>'&\n.png";
    let mut report = example();
    report.kinds[0].kind = nasty.into();
    report.dataset = nasty.into();
    let page = render(&report, None, &[item(nasty, nasty, 1.0)]);
    assert!(
        !page.contains("<script") && !page.contains("\"><s"),
        "{page}"
    );
    assert_eq!(page.matches("<img").count(), 1);
}

#[test]
fn links_stay_relative_and_keep_every_character_of_the_name() {
    assert_eq!(link("a b/100%#1?.png"), "a%20b/100%25%231%3F.png");
    assert_eq!(link("javascript:x"), "javascript%3Ax");
    assert_eq!(link("图.png"), "%E5%9B%BE.png");
}

#[test]
fn the_page_loads_nothing_from_elsewhere_and_describes_its_pictures() {
    let page = render(
        &example(),
        None,
        &[item("a", "good", 1.0), item("b", "dent", 2.0)],
    );
    for outside in ["http", "//", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(
        page.matches("<img ").count(),
        page.matches(" alt=\"").count()
    );
    assert_eq!(
        page.matches("<img ").count(),
        page.matches(" loading=\"lazy\"").count()
    );
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
}

#[test]
fn a_report_without_images_threshold_or_kinds_is_still_a_page() {
    let page = render(&EvalReport::default(), None, &[]);
    assert!(page.ends_with("</html>\n") && !page.contains("<svg") && !page.contains("gallery\""));
    let page = render(&EvalReport::default(), None, &[item("a", "good", 1.0)]);
    assert!(page.contains("<svg") && !page.contains(">missed ("));
}

#[test]
fn the_written_file_holds_the_page() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("sub").join("report.html");
    let (report, items) = (example(), [item("a", "good", 1.0)]);
    write_report(&path, &report, None, &items).expect("written");
    assert_eq!(
        std::fs::read_to_string(&path).expect("read"),
        render(&report, None, &items)
    );
}
