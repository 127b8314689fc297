//! Tables for the terminal and for markdown.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthStr;

/// How the cells of a column are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of text under titled columns.
///
/// ```
/// use burn_ad::report::table::{number, Align, Table};
/// let mut table = Table::new([("kind", Align::Left), ("AUROC", Align::Right)]);
/// table.row(["scratch".to_owned(), number(Some(0.98765), 3)]);
/// table.row(["dent".to_owned(), number(None, 3)]);
/// assert_eq!(table.text(), "kind     AUROC\n-------  -----\nscratch  0.988\ndent         -\n");
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new<T: Into<String>>(columns: impl IntoIterator<Item = (T, Align)>) -> Self {
        Self {
            columns: columns
                .into_iter()
                .map(|(title, align)| (title.into(), align))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that are not given, or empty, show "-", and cells past the last column are dropped.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut row: Vec<String> = cells
            .into_iter()
            .take(self.columns.len())
            .map(Into::into)
            .map(|cell: String| if cell.is_empty() { "-".into() } else { cell })
            .collect();
        row.resize(self.columns.len(), "-".into());
        self.rows.push(row);
    }

    /// Titles of the columns and how their cells are placed.
    pub fn columns(&self) -> &[(String, Align)] {
        &self.columns
    }

    /// The rows so far, each with one cell per column.
    pub fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Aligned text, two spaces between columns, one line per row, no trailing spaces.
    ///
    /// Widths are what a terminal shows: an East Asian wide character counts two columns. Control
    /// characters (a file name may hold a newline) are shown as `\u{fffd}`, so they cannot break the table.
    pub fn text(&self) -> String {
        let clean = |cell: &str| cell.replace(char::is_control, "\u{fffd}");
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| clean(title)).collect();
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(|cell| clean(cell)).collect())
            .collect();
        let widths: Vec<usize> = (0..titles.len())
            .map(|column| {
                rows.iter()
                    .map(|row| row[column].width())
                    .chain([titles[column].width()])
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let mut text = String::new();
        for row in [&titles, &rule].into_iter().chain(&rows) {
            let mut line = String::new();
            for ((cell, (_, align)), width) in row.iter().zip(&self.columns).zip(&widths) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                let padding = " ".repeat(width - cell.width());
                match align {
                    Align::Left => line.extend([cell.as_str(), &padding]),
                    Align::Right => line.extend([&padding, cell.as_str()]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// A markdown table (GitHub's dialect); `|`, backslashes and control characters in cells are escaped.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = String>| {
            for cell in cells {
                let _ = write!(text, "| {cell} ");
            }
            text.push_str("|\n");
        };
        line(&mut self.columns.iter().map(|(title, _)| escape_markdown(title)));
        line(&mut self.columns.iter().map(|(_, align)| {
            match align {
                Align::Left => "---",
                Align::Right => "---:",
            }
            .to_owned()
        }));
        for row in &self.rows {
            line(&mut row.iter().map(|cell| escape_markdown(cell)));
        }
        text
    }
}

fn escape_markdown(cell: &str) -> String {
    cell.replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace(char::is_control, " ")
}

/// A number with a fixed count of decimals; "-" for a missing or non-finite value.
pub fn number(value: Option<f64>, decimals: usize) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.decimals$}"),
        _ => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Table {
        let mut table = Table::new([("kind", Align::Left), ("n", Align::Right)]);
        table.row(["裂纹", "7"]);
        table.row(["a|b", "1234"]);
        table.row(["line\nbreak"]);
        table
    }

    #[test]
    fn columns_end_at_the_same_terminal_column_with_wide_characters() {
        let text = kinds().text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "a newline in a name must not add a line");
        assert_eq!(lines[2], "裂纹           7");
        assert!(lines.iter().all(|line| line.width() == lines[0].width()));
    }

    #[test]
    fn missing_cells_show_a_dash() {
        let mut table = Table::new([("a", Align::Left), ("b", Align::Right)]);
        table.row([""]);
        table.row(["x", "y", "dropped"]);
        assert_eq!(table.text(), "a  b\n-  -\n-  -\nx  y\n");
        assert_eq!(number(None, 3), "-");
        assert_eq!(number(Some(f64::NAN), 3), "-");
        assert_eq!(number(Some(-0.12345), 3), "-0.123");
    }

    #[test]
    fn markdown_cells_cannot_break_the_table() {
        assert_eq!(
            kinds().markdown(),
            "| kind | n |\n| --- | ---: |\n| 裂纹 | 7 |\n| a\\|b | 1234 |\n| line break | - |\n"
        );
    }
}
