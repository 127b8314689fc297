//! A download that can be cut off at any byte and goes on from there.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use burn_ad::error::{Error, Result};
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::{Agent, Body};

use super::{Progress, create_parent, part_of, verify};

/// Downloads files; the settings are public fields.
#[derive(Clone, Copy, Debug)]
pub struct Downloader {
    /// Transfers in a row that bring nothing new before it gives up.
    pub attempts: u32,
    /// Wait before the second of them; doubles each time.
    pub pause: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the next bytes.
    pub read_timeout: Duration,
}

impl Default for Downloader {
    fn default() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(30),
        }
    }
}

/// How one transfer ended.
enum Ending {
    /// Everything the server has is in the part file.
    Complete,
    /// The connection broke or the server was busy; worth another transfer.
    Interrupted(String),
    /// What is in the part file cannot be continued.
    Restart,
}

/// A part file under way.
struct Part<'a> {
    url: &'a str,
    file: File,
    /// Tells two versions of the file on the server apart.
    validator: Option<String>,
}

impl Downloader {
    /// Downloads `url` to `path`, whose SHA-256 must begin with `sha256`.
    ///
    /// The bytes grow in `<path>.part`; an interrupted download goes on where it stopped, in this
    /// call and in a later one, if the server can. Only a complete file with the right SHA-256 gets
    /// the name `path`. If such a file is there already, the network is not used.
    ///
    /// # Errors
    /// When the server does not have the file, the transfer keeps failing (the part file then
    /// stays), the SHA-256 is wrong (the part file is deleted), the disk cannot be written, or
    /// another process is downloading the same file.
    pub fn download(
        &self,
        url: &str,
        path: &Path,
        sha256: &str,
        progress: &mut Progress<'_>,
    ) -> Result<()> {
        if verify::is_intact(path, sha256)? {
            return Ok(());
        }
        create_parent(path)?;
        let part_path = part_of(path);
        let at = |error: std::io::Error| Error::io(&error).path(&part_path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&part_path)
            .map_err(at)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::weights("another process is downloading this file")
                    .path(&part_path)
                    .help("wait until it has finished"));
            }
            Err(TryLockError::Error(error)) => return Err(at(error)),
        }
        let mut part = Part {
            url,
            file,
            validator: None,
        };
        // Bytes of an earlier call may belong to another version of the file: if the sum of old and
        // new has the wrong hash, everything is fetched once more before the server is blamed.
        let mut mixed = part.length().map_err(at)? > 0;
        loop {
            if let Err(error) = self.complete(&mut part, progress) {
                if part.length().is_ok_and(|length| length == 0) {
                    std::fs::remove_file(&part_path).map_err(at)?; // nothing to resume
                }
                return Err(error.path(path));
            }
            part.file.flush().map_err(at)?;
            if verify::is_intact(&part_path, sha256)? {
                return verify::publish(&part_path, path);
            }
            if !mixed {
                return Err(verify::reject(&part_path, sha256, url)?);
            }
            mixed = false;
            part.clear().map_err(at)?;
        }
    }

    /// Transfers until the part file is complete.
    fn complete(&self, part: &mut Part<'_>, progress: &mut Progress<'_>) -> Result<()> {
        let agent: Agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(self.connect_timeout))
            .timeout_per_read(Some(self.read_timeout))
            .timeout_per_write(Some(self.read_timeout))
            .user_agent(concat!("burn-ad/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let mut failures = 0;
        let mut restarts = 0;
        loop {
            let before = part.length()?;
            let reason = match part.transfer(&agent, progress)? {
                Ending::Complete => return Ok(()),
                Ending::Interrupted(reason) => reason,
                Ending::Restart => {
                    part.clear()?;
                    restarts += 1;
                    if restarts < self.attempts {
                        continue;
                    }
                    "the server's ranges make no sense".to_owned()
                }
            };
            failures = if part.length()? > before {
                1
            } else {
                failures + 1
            };
            if failures >= self.attempts || restarts >= self.attempts {
                return Err(
                    Error::weights(format!("downloading {} failed: {reason}", part.url))
                        .help("check the network and try again; what has arrived is kept"),
                );
            }
            sleep(self.pause * 2u32.pow((failures - 1).min(6)));
        }
    }
}

impl Part<'_> {
    fn length(&self) -> std::io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn clear(&mut self) -> std::io::Result<()> {
        self.validator = None;
        self.file.set_len(0)
    }

    /// One request: the whole file, or the rest of it.
    fn transfer(&mut self, agent: &Agent, progress: &mut Progress<'_>) -> Result<Ending> {
        let have = self.length()?;
        let mut request = agent
            .get(self.url)
            .header(header::ACCEPT_ENCODING, "identity");
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
            if let Some(validator) = &self.validator {
                request = request.header(header::IF_RANGE, validator);
            }
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => {
                return Err(Error::weights(format!("{}: {error}", self.url)));
            }
            Err(error) => return Ok(Ending::Interrupted(error.to_string())),
        };
        let status = response.status();
        match status {
            StatusCode::OK => {
                self.clear()?; // the server sent everything, whatever was asked
                let total = response.body().content_length();
                self.receive(response, 0, total, progress)
            }
            StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
                Some((Some(start), total)) if start == have => {
                    self.receive(response, have, total, progress)
                }
                _ => Ok(Ending::Restart),
            },
            StatusCode::RANGE_NOT_SATISFIABLE => match content_range(response.headers()) {
                Some((_, Some(total))) if have > 0 && total == have => {
                    progress(have, Some(total));
                    Ok(Ending::Complete)
                }
                _ => Ok(Ending::Restart),
            },
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Ok(Ending::Interrupted(format!("the server answers {status}")))
            }
            _ if status.is_server_error() => {
                Ok(Ending::Interrupted(format!("the server answers {status}")))
            }
            _ => Err(
                Error::weights(format!("{} cannot be downloaded: {status}", self.url)).help(
                    "the file may have moved: download it by hand and use `burn-ad weights import`",
                ),
            ),
        }
    }

    /// Appends a body at `done`; `total` is the length of the whole file.
    fn receive(
        &mut self,
        response: Response<Body>,
        mut done: u64,
        total: Option<u64>,
        progress: &mut Progress<'_>,
    ) -> Result<Ending> {
        self.validator = validator(response.headers());
        self.file.seek(SeekFrom::Start(done))?;
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        progress(done, total);
        loop {
            let read = match body.read(&mut buffer) {
                Ok(read) => read,
                Err(error) => return Ok(Ending::Interrupted(error.to_string())),
            };
            if read == 0 {
                return Ok(match total {
                    Some(total) if done < total => Ending::Interrupted(format!(
                        "the connection was cut after {done} of {total} bytes"
                    )),
                    _ => Ending::Complete,
                });
            }
            self.file.write_all(&buffer[..read])?;
            done += read as u64;
            progress(done, total);
        }
    }
}

/// First byte and length of the whole file in `Content-Range: bytes 5-9/10` or `bytes */10`.
fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let start = range
        .split_once('-')
        .and_then(|(start, _)| start.trim().parse().ok());
    Some((start, total.trim().parse().ok()))
}

/// What `If-Range` may carry: a strong entity tag, or the time of the last change.
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
    text(header::ETAG)
        .filter(|tag| tag.starts_with('"'))
        .or_else(|| text(header::LAST_MODIFIED))
}
