//! One self-contained page: figures, histogram of the scores, log-likelihoods, gallery of overlays.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::eval::EvalReport;
use super::histogram::{histogram, short};
use super::likelihoods::Likelihoods;
use super::predictions::Decision;
use super::table::{Align, Table};
use crate::error::Result;
use crate::files::write_atomically;

const STYLE: &str = include_str!("report.css");

/// One test image in the gallery.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GalleryItem {
    /// Name shown, usually the path below the dataset's folder.
    pub name: String,
    /// Folder name of what it shows: `good`, or the kind of defect.
    pub kind: String,
    /// Whether it shows a defect.
    pub anomalous: bool,
    /// Image score, higher = more anomalous.
    pub score: f32,
    /// The overlay picture, as a path relative to the page.
    pub overlay: Option<String>,
}

/// Writes the page; pictures are linked, not embedded, and loaded as they come into view.
///
/// The page needs no script and loads nothing but the overlays. The gallery is sorted by score, highest
/// first, and can be filtered by kind and, with a threshold in the report, by missed and false alarm.
///
/// # Errors
/// When the file cannot be written.
pub fn write_report(
    path: &Path,
    report: &EvalReport,
    likelihoods: Option<&Likelihoods>,
    items: &[GalleryItem],
) -> Result<()> {
    let page = render(report, likelihoods, items);
    write_atomically(path, |file| {
        Ok(std::io::Write::write_all(file, page.as_bytes())?)
    })
}

fn render(report: &EvalReport, likelihoods: Option<&Likelihoods>, items: &[GalleryItem]) -> String {
    let filters = Filters::new(report, items);
    let mut page = String::new();
    let title = escape(&format!("{} on {}", report.method, report.dataset));
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n\
         <header><h1>{title}</h1><p>{}</p></header>\n<main>\n",
        filters.rules(),
        escape(&report.title())
    );
    page.push_str("<section><h2>Results</h2><div class=\"figures\">");
    write_table(&mut page, "Whole test set", &report.summary());
    page.push_str("<div>");
    if !report.classes.is_empty() {
        write_table(&mut page, "By product", &report.classes());
    }
    if !report.kinds.is_empty() {
        write_table(&mut page, "By kind of image", &report.kinds());
    }
    if let Some(confusion) = report.confusion() {
        write_table(&mut page, "Decisions at the threshold", &confusion);
    }
    page.push_str("</div></div></section>\n");
    if let Some(svg) = histogram(items, report.threshold) {
        let _ = writeln!(
            page,
            "<section><h2>Scores</h2><p><span class=\"key normal\"></span>normal<span class=\"key anomalous\"></span>anomalous, images per bin</p>{svg}</section>"
        );
    }
    if let Some(likelihoods) = likelihoods {
        page.push_str(&likelihoods.section());
    }
    if !items.is_empty() {
        write_gallery(&mut page, &filters, items);
    }
    let _ = write!(
        page,
        "</main>\n<footer><p>burn-ad {}</p></footer>\n</body>\n</html>\n",
        escape(&report.version)
    );
    page
}

fn write_table(page: &mut String, caption: &str, table: &Table) {
    let class = |align: Align| match align {
        Align::Left => "",
        Align::Right => " class=\"number\"",
    };
    let _ = write!(
        page,
        "<div class=\"scroll\"><table><caption>{caption}</caption><thead><tr>"
    );
    for (title, align) in table.columns() {
        let (class, title) = (class(*align), escape(title));
        let _ = write!(page, "<th scope=\"col\"{class}>{title}</th>");
    }
    page.push_str("</tr></thead><tbody>");
    for row in table.rows() {
        page.push_str("<tr>");
        for (index, (cell, (_, align))) in row.iter().zip(table.columns()).enumerate() {
            let (class, cell) = (class(*align), escape(cell));
            let _ = match index {
                0 => write!(page, "<th scope=\"row\"{class}>{cell}</th>"),
                _ => write!(page, "<td{class}>{cell}</td>"),
            };
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
}

fn write_gallery(page: &mut String, filters: &Filters<'_>, items: &[GalleryItem]) {
    page.push_str(
        "<section><h2>Images, highest score first</h2>\
         <p>Each picture: image | heat map, a colour meaning the same value in all pictures | what lies \
         above the threshold. <span class=\"key truth\"></span>ground truth\
         <span class=\"key found\"></span>contour at the threshold</p>\n<fieldset><legend>Show</legend>\n",
    );
    for (index, filter) in filters.list.iter().enumerate() {
        let checked = if index == 0 { " checked" } else { "" };
        let _ = writeln!(
            page,
            "<input type=\"radio\" name=\"filter\" id=\"{0}\"{checked}><label for=\"{0}\">{1} ({2})</label>",
            filter.class,
            escape(&filter.title),
            filter.count
        );
    }
    page.push_str("<ol class=\"gallery\">\n");
    let mut sorted: Vec<&GalleryItem> = items.iter().collect();
    // Scores that are not numbers go last.
    let rank = |item: &GalleryItem| {
        if item.score.is_nan() {
            f32::NEG_INFINITY
        } else {
            item.score
        }
    };
    sorted.sort_by(|a, b| {
        rank(b)
            .total_cmp(&rank(a))
            .then_with(|| a.name.cmp(&b.name))
    });
    for item in sorted {
        write_item(page, filters, item);
    }
    page.push_str("</ol></fieldset></section>\n");
}

fn write_item(page: &mut String, filters: &Filters<'_>, item: &GalleryItem) {
    let (name, kind) = (escape(&item.name), escape(&item.kind));
    let _ = write!(page, "<li class=\"{}\"><figure>", filters.classes(item));
    if let Some(overlay) = &item.overlay {
        let link = escape(&link(overlay));
        let _ = write!(
            page,
            "<a href=\"{link}\"><img src=\"{link}\" loading=\"lazy\" alt=\"{name}: image, heat map and contour\"></a>"
        );
    }
    let _ = write!(
        page,
        "<figcaption><span class=\"name\">{name}</span><span>{kind}</span><span>score {}</span>",
        short(f64::from(item.score))
    );
    if let Some(outcome) = filters.outcome(item) {
        let class = if outcome.is_wrong() { "wrong" } else { "right" };
        let _ = write!(page, "<span class=\"{class}\">{}</span>", outcome.name());
    }
    page.push_str("</figcaption></figure></li>\n");
}

/// What the threshold makes of an image whose truth is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Found,
    Passed,
    Missed,
    FalseAlarm,
}

impl Outcome {
    fn is_wrong(self) -> bool {
        matches!(self, Self::Missed | Self::FalseAlarm)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Passed => "passed",
            Self::Missed => "missed",
            Self::FalseAlarm => "false alarm",
        }
    }
}

struct Filter {
    class: String,
    title: String,
    count: usize,
}

/// Radio buttons of the gallery and the classes they switch; the first shows everything.
struct Filters<'a> {
    list: Vec<Filter>,
    kinds: BTreeMap<&'a str, usize>,
    threshold: Option<f32>,
}

impl<'a> Filters<'a> {
    fn new(report: &EvalReport, items: &'a [GalleryItem]) -> Self {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for item in items {
            *counts.entry(&item.kind).or_default() += 1;
        }
        let mut filters = Self {
            list: Vec::new(),
            kinds: counts
                .keys()
                .enumerate()
                .map(|(i, kind)| (*kind, i))
                .collect(),
            threshold: report.threshold.map(|threshold| threshold as f32),
        };
        let count = |wanted: Outcome| {
            let outcomes = items.iter().map(|item| filters.outcome(item));
            outcomes.filter(|outcome| *outcome == Some(wanted)).count()
        };
        let mut list = vec![("all", "all".to_owned(), items.len())];
        if filters.threshold.is_some() {
            list.push(("missed", "missed".to_owned(), count(Outcome::Missed)));
            list.push((
                "alarm",
                "false alarms".to_owned(),
                count(Outcome::FalseAlarm),
            ));
        }
        let kinds = counts
            .iter()
            .enumerate()
            .map(|(index, (kind, count))| Filter {
                class: format!("kind-{index}"),
                title: (*kind).to_owned(),
                count: *count,
            });
        filters.list = list
            .into_iter()
            .map(|(class, title, count)| Filter {
                class: class.to_owned(),
                title,
                count,
            })
            .chain(kinds)
            .collect();
        filters
    }

    fn outcome(&self, item: &GalleryItem) -> Option<Outcome> {
        let decision = Decision::of(item.score, self.threshold?);
        Some(match (item.anomalous, decision) {
            (true, Decision::Anomalous) => Outcome::Found,
            (true, Decision::Normal) => Outcome::Missed,
            (false, Decision::Normal) => Outcome::Passed,
            (false, Decision::Anomalous) => Outcome::FalseAlarm,
        })
    }

    fn classes(&self, item: &GalleryItem) -> String {
        let kind = self
            .kinds
            .get(item.kind.as_str())
            .copied()
            .unwrap_or_default();
        let outcome = match self.outcome(item) {
            Some(Outcome::Missed) => " missed",
            Some(Outcome::FalseAlarm) => " alarm",
            _ => "",
        };
        format!("kind-{kind}{outcome}")
    }

    fn rules(&self) -> String {
        self.list
            .iter()
            .skip(1)
            .fold(String::new(), |mut css, filter| {
                let class = &filter.class;
                let _ = writeln!(
                    css,
                    "#{class}:checked~.gallery>:not(.{class}){{display:none}}"
                );
                css
            })
    }
}

/// Text as it may stand in HTML, also within quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A relative path as a link: everything but unreserved characters is percent-encoded, so that `#`, `?`,
/// `%`, spaces and a colon (which would make the first part a protocol) stay part of the name.
fn link(path: &str) -> String {
    let path = if cfg!(windows) {
        path.replace('\\', "/")
    } else {
        path.to_owned()
    };
    path.bytes().fold(String::new(), |mut link, byte| {
        let _ = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                write!(link, "{}", char::from(byte))
            }
            _ => write!(link, "%{byte:02X}"),
        };
        link
    })
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
