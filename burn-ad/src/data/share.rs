//! Shares of images, as users write them and as whole images.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How many normal training images are used. In a file a number (`60`) or a text (`"20%"`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum TrainLimit {
    /// At most this many.
    Count(usize),
    /// This many percent of them, in `(0, 100]`: rounded half up to whole images, at least one.
    Percent(f64),
}

/// A limit in a file.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a train limit is a whole number, or a share such as \"20%\""
)]
enum Written {
    Count(usize),
    Text(String),
}

impl TrainLimit {
    /// # Errors
    /// When no image would be left, or more than there are.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Count(0) => Err(Error::usage("a train limit of 0 leaves no image")
                .help("give at least 1, or no limit")),
            Self::Percent(percent) if !(percent > 0.0 && percent <= 100.0) => Err(Error::usage(
                format!("a train limit of {percent}% is not possible"),
            )
            .help("give a share above 0% and up to 100%, for instance 20%")),
            _ => Ok(()),
        }
    }

    /// How many of `count` images it leaves.
    pub fn of(self, count: usize) -> usize {
        match self {
            Self::Count(limit) => limit.min(count),
            Self::Percent(percent) => whole(percent / 100.0, count).max(1).min(count),
        }
    }
}

impl FromStr for TrainLimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let count = || text.trim().parse().ok().map(Self::Count);
        let found = percent(text).map(Self::Percent).or_else(count);
        let limit = found.ok_or_else(|| {
            Error::usage(format!("'{text}' is no train limit"))
                .help("give a number of images, or a share such as 20%")
        })?;
        limit.check()?;
        Ok(limit)
    }
}

impl TryFrom<Written> for TrainLimit {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        match written {
            Written::Count(count) => Ok(Self::Count(count)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<TrainLimit> for Written {
    fn from(limit: TrainLimit) -> Self {
        match limit {
            TrainLimit::Count(count) => Self::Count(count),
            TrainLimit::Percent(percent) => Self::Text(format!("{percent}%")),
        }
    }
}

/// A share written as a number (`0.1`) or in percent (`10%`).
///
/// # Errors
/// When it is neither.
pub fn read_share(text: &str) -> Result<f64> {
    let number = || text.trim().parse().ok();
    let found = percent(text).map(|percent| percent / 100.0).or_else(number);
    found.ok_or_else(|| {
        Error::usage(format!("'{text}' is no share")).help("give one such as 10%, or 0.1")
    })
}

/// The number before a percent sign.
fn percent(text: &str) -> Option<f64> {
    text.trim().strip_suffix('%')?.trim().parse().ok()
}

/// A share of `count` images, rounded half up.
pub(super) fn whole(share: f64, count: usize) -> usize {
    // The product may fall just below a half: 0.29 * 50 is 14.499999999999998.
    (share * count as f64 + 0.5 + 1e-9).floor() as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shares_are_rounded_half_up_and_never_to_nothing() {
        for (text, count, expected) in [
            ("20%", 60, 12),
            ("60%", 5, 3),
            ("100%", 7, 7),
            ("10%", 5, 1),
            ("10%", 15, 2),
            ("10%", 14, 1),
            ("29%", 50, 15),
            ("12.5%", 12, 2),
            ("1%", 20, 1),
            ("0.001%", 3, 1),
            ("4", 60, 4),
            ("99", 60, 60),
        ] {
            let limit: TrainLimit = text.parse().unwrap();
            assert_eq!(limit.of(count), expected, "{text} of {count}");
        }
        assert_eq!("20%".parse::<TrainLimit>().unwrap().of(0), 0);
    }

    #[test]
    fn a_limit_is_a_number_or_a_text() {
        for (json, limit) in [
            ("60", TrainLimit::Count(60)),
            ("\"20%\"", TrainLimit::Percent(20.0)),
            ("\"12.5%\"", TrainLimit::Percent(12.5)),
        ] {
            let read: TrainLimit = serde_json::from_str(json).unwrap();
            assert_eq!(read, limit);
            assert_eq!(serde_json::to_string(&limit).unwrap(), json);
        }
        assert_eq!(
            " 20 % ".parse::<TrainLimit>().unwrap(),
            TrainLimit::Percent(20.0)
        );
        for wrong in [
            "0.2", "-1", "[1]", "\"many\"", "\"0%\"", "\"101%\"", "\"nan%\"",
        ] {
            assert!(
                serde_json::from_str::<TrainLimit>(wrong).is_err(),
                "{wrong}"
            );
        }
        let error = serde_json::from_str::<TrainLimit>("0.2").unwrap_err();
        assert!(error.to_string().contains("20%"), "{error}");
    }

    #[test]
    fn a_share_is_a_number_or_percent() {
        for (text, share) in [("10%", 0.1), ("0.1", 0.1), ("29%", 0.29), ("0", 0.0)] {
            assert_eq!(read_share(text).unwrap(), share);
        }
        assert!(read_share("a tenth").unwrap_err().is_usage());
    }
}
