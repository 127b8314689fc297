//! One row per image, as CSV or JSON lines.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::write_atomically;

/// What the threshold says about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// The score is not above the threshold.
    Normal,
    /// The score is above the threshold.
    Anomalous,
}

impl Decision {
    /// Anomalous when `score > threshold`.
    pub fn of(score: f32, threshold: f32) -> Self {
        if score > threshold {
            Self::Anomalous
        } else {
            Self::Normal
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Normal => "normal",
            Self::Anomalous => "anomalous",
        })
    }
}

/// What is known about one image after scoring; the columns of `predictions.csv`, in this order.
///
/// Numbers are written with the fewest digits that give the same `f32` back. A row has either a score or
/// an error; what is missing is an empty field in CSV and `null` in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRow {
    /// The image, as the user named it or as found in a folder.
    pub path: String,
    /// The method's own score, higher = more anomalous.
    pub score: Option<f32>,
    /// The score on the scale calibrated with training normals.
    pub normalised_score: Option<f32>,
    /// Normal or anomalous, when a threshold is known.
    pub decision: Option<Decision>,
    /// The product or defect class, for methods that tell classes apart.
    pub class: Option<String>,
    /// Why the image has no score.
    pub error: Option<String>,
    /// Time spent on the image, in milliseconds.
    pub milliseconds: Option<f64>,
}

impl PredictionRow {
    /// A row for an image that was scored; a score that is not finite becomes a row with an error.
    pub fn scored(
        path: impl Into<String>,
        score: f32,
        normalised_score: Option<f32>,
        decision: Option<Decision>,
    ) -> Self {
        if !score.is_finite() {
            return Self::failed(path, format!("the score is not a finite number ({score})"));
        }
        Self {
            score: Some(score),
            normalised_score: normalised_score.filter(|score| score.is_finite()),
            decision,
            ..Self::empty(path.into())
        }
    }

    /// A row for an image that could not be scored.
    pub fn failed(path: impl Into<String>, error: impl fmt::Display) -> Self {
        Self {
            error: Some(error.to_string()),
            ..Self::empty(path.into())
        }
    }

    fn empty(path: String) -> Self {
        Self {
            path,
            score: None,
            normalised_score: None,
            decision: None,
            class: None,
            error: None,
            milliseconds: None,
        }
    }
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Comma-separated, one header line, RFC 4180 quoting, UTF-8.
    Csv,
    /// One JSON object per line.
    Jsonl,
}

/// Writes all rows as CSV, under a temporary name first.
///
/// # Errors
/// When the file cannot be written.
pub fn write_csv(path: &Path, rows: &[PredictionRow]) -> Result<()> {
    write_all(path, Format::Csv, rows)
}

/// Writes all rows as JSON lines, under a temporary name first.
///
/// # Errors
/// When the file cannot be written.
pub fn write_jsonl(path: &Path, rows: &[PredictionRow]) -> Result<()> {
    write_all(path, Format::Jsonl, rows)
}

fn write_all(path: &Path, format: Format, rows: &[PredictionRow]) -> Result<()> {
    write_atomically(path, |file| {
        file.write_all(header(format).as_bytes())?;
        for row in rows {
            file.write_all(&encode(format, row)?)?;
        }
        Ok(())
    })
}

/// Writes rows while a run goes on.
///
/// Rows go to `<path>.partial`, each handed to the operating system as soon as it is pushed, and the file
/// is renamed to `path` by [`finish`](Self::finish). A run that is interrupted, killed or fails leaves all
/// rows so far in the `.partial` file and an earlier `path` untouched; the next run starts the `.partial`
/// file afresh.
#[derive(Debug)]
pub struct PredictionWriter {
    format: Format,
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
}

impl PredictionWriter {
    /// Creates `<path>.partial`, and the folder it lies in.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path, format: Format) -> Result<Self> {
        let partial = partial_path(path);
        let at = |error: std::io::Error| Error::io(&error).path(&partial);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(at)?;
        }
        let mut file = BufWriter::new(File::create(&partial).map_err(at)?);
        file.write_all(header(format).as_bytes()).map_err(at)?;
        file.flush().map_err(at)?;
        Ok(Self {
            format,
            path: path.to_path_buf(),
            partial,
            file,
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the row cannot be written, for example on a full disk.
    pub fn push(&mut self, row: &PredictionRow) -> Result<()> {
        let bytes = encode(self.format, row)?;
        let written = self.file.write_all(&bytes).and_then(|()| self.file.flush());
        written.map_err(|error| Error::io(&error).path(&self.partial))
    }

    /// Gives the file its final name.
    ///
    /// # Errors
    /// When the file cannot be synced or renamed; the `.partial` file then stays.
    pub fn finish(mut self) -> Result<()> {
        let synced = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| Error::io(&error).path(&self.partial))?;
        // Windows refuses to rename an open file.
        drop(self.file);
        std::fs::rename(&self.partial, &self.path)
            .map_err(|error| Error::io(&error).path(&self.path))
    }
}

/// Where [`PredictionWriter`] keeps the rows of a run that has not finished: `<path>.partial`.
pub fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn header(format: Format) -> &'static str {
    match format {
        Format::Csv => "path,score,normalised_score,decision,class,error,milliseconds\n",
        Format::Jsonl => "",
    }
}

/// One row with its line end.
fn encode(format: Format, row: &PredictionRow) -> Result<Vec<u8>> {
    match format {
        Format::Csv => {
            let mut writer = csv::WriterBuilder::new()
                .has_headers(false)
                .from_writer(Vec::new());
            writer
                .serialize(row)
                .map_err(|error| Error::data(format!("cannot write a CSV row: {error}")))?;
            writer
                .into_inner()
                .map_err(|error| Error::data(format!("cannot write a CSV row: {error}")))
        }
        Format::Jsonl => {
            let mut line = serde_json::to_vec(row)
                .map_err(|error| Error::data(format!("cannot write a JSON line: {error}")))?;
            line.push(b'\n');
            Ok(line)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_csv(path: &Path) -> Vec<PredictionRow> {
        csv::Reader::from_path(path)
            .expect("open")
            .deserialize()
            .map(|row| row.expect("row"))
            .collect()
    }

    fn read_jsonl(path: &Path) -> Vec<PredictionRow> {
        let text = std::fs::read_to_string(path).expect("read");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("row"))
            .collect()
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "\\PC{1,12}",
            "[a,;\"'\n\r\t \\\\ß图=-]{1,12}",
            Just("NaN, \"x\"\r\n".to_owned()),
        ]
    }

    fn finite() -> impl Strategy<Value = f32> {
        any::<u32>()
            .prop_map(f32::from_bits)
            .prop_filter("finite", |v| v.is_finite())
    }

    fn any_row() -> impl Strategy<Value = PredictionRow> {
        let decision = prop_oneof![Just(Decision::Normal), Just(Decision::Anomalous)];
        (
            text(),
            proptest::option::of(finite()),
            proptest::option::of(finite()),
            proptest::option::of(decision),
            proptest::option::of(text()),
            proptest::option::of(text()),
            proptest::option::of(0.0..1e9f64),
        )
            .prop_map(
                |(path, score, normalised_score, decision, class, error, milliseconds)| {
                    PredictionRow {
                        path,
                        score,
                        normalised_score,
                        decision,
                        class,
                        error,
                        milliseconds,
                    }
                },
            )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_row_reads_back_bit_for_bit(rows in proptest::collection::vec(any_row(), 0..8)) {
            let dir = tempfile::tempdir().expect("temporary directory");
            let (csv, jsonl) = (dir.path().join("p.csv"), dir.path().join("p.jsonl"));
            write_csv(&csv, &rows).expect("csv");
            write_jsonl(&jsonl, &rows).expect("jsonl");
            prop_assert_eq!(&read_jsonl(&jsonl), &rows);
            let read = read_csv(&csv);
            prop_assert_eq!(&read, &rows);
            for (a, b) in read.iter().zip(&rows) {
                // `==` holds between 0.0 and -0.0: compare bits as well.
                prop_assert_eq!(a.score.map(f32::to_bits), b.score.map(f32::to_bits));
            }
        }
    }

    #[test]
    fn an_interrupted_run_keeps_its_rows_and_the_earlier_result() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("new folder").join("predictions.csv");
        let rows = [
            PredictionRow::scored("a.png", 0.1, Some(0.5), Some(Decision::Normal)),
            PredictionRow::failed("b.png", "not an image"),
        ];
        let mut first = PredictionWriter::create(&path, Format::Csv).expect("create");
        first.push(&rows[0]).expect("push");
        first.finish().expect("finish");
        assert!(!partial_path(&path).exists());

        let mut second = PredictionWriter::create(&path, Format::Csv).expect("create");
        for row in &rows {
            second.push(row).expect("push");
        }
        // What a kill does: no destructor runs.
        std::mem::forget(second);
        assert_eq!(read_csv(&partial_path(&path)), rows);
        assert_eq!(read_csv(&path), rows[..1]);
    }

    #[test]
    fn streaming_and_writing_at_once_give_the_same_bytes() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let rows = [
            PredictionRow::scored("a, \"b\"\n图.png", 1.0e-7, None, Some(Decision::Anomalous)),
            PredictionRow::scored("c.png", 3.0, Some(1.5), None),
        ];
        for (format, write) in [
            (
                Format::Csv,
                write_csv as fn(&Path, &[PredictionRow]) -> Result<()>,
            ),
            (Format::Jsonl, write_jsonl),
        ] {
            let (streamed, whole) = (dir.path().join("streamed"), dir.path().join("whole"));
            let mut writer = PredictionWriter::create(&streamed, format).expect("create");
            rows.iter().for_each(|row| writer.push(row).expect("push"));
            writer.finish().expect("finish");
            write(&whole, &rows).expect("write");
            let bytes = std::fs::read(&whole).expect("read");
            assert_eq!(std::fs::read(&streamed).expect("read"), bytes);
            assert!(!bytes.is_empty());
        }
    }

    #[test]
    fn without_rows_a_csv_file_still_names_its_columns_as_the_struct_does() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("p.csv");
        write_csv(&path, &[]).expect("written");
        let mut named = csv::Writer::from_writer(Vec::new());
        named
            .serialize(PredictionRow::failed("a", "b"))
            .expect("row");
        let named = String::from_utf8(named.into_inner().expect("bytes")).expect("UTF-8");
        let header = std::fs::read_to_string(&path).expect("read");
        assert_eq!(Some(header.trim_end()), named.lines().next());
    }

    #[test]
    fn a_score_that_is_no_number_is_an_error_row() {
        let row = PredictionRow::scored("a.png", f32::NAN, Some(1.0), Some(Decision::Normal));
        assert_eq!((row.score, row.decision), (None, None));
        assert!(row.error.expect("says why").contains("finite"));
        assert_eq!(Decision::of(2.1, 2.0), Decision::Anomalous);
        assert_eq!(Decision::of(2.0, 2.0), Decision::Normal);
    }
}
