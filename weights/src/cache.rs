//! Where fetched and imported weights are kept.

use std::ffi::OsString;
use std::path::PathBuf;

use burn_ad::error::{Error, Result};

/// The cache directory: `BURN_AD_CACHE` if set, else `burn-ad` under `XDG_CACHE_HOME`, else the
/// platform's place: `~/.cache/burn-ad` on Linux, `~/Library/Caches/burn-ad` on macOS,
/// `%LOCALAPPDATA%\burn-ad\cache` on Windows. It need not exist yet.
///
/// # Errors
/// When none of these can be told, because there is no home directory.
pub fn directory() -> Result<PathBuf> {
    locate(|name| std::env::var_os(name), std::env::home_dir()).ok_or_else(|| {
        Error::usage("there is no home directory for the cache")
            .help("set BURN_AD_CACHE to a directory")
    })
}

fn locate(env: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    let path = |name: &str| {
        env(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(own) = path("BURN_AD_CACHE") {
        return Some(own);
    }
    // The XDG specification: a path that is not absolute is to be ignored.
    if let Some(xdg) = path("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        return Some(xdg.join("burn-ad"));
    }
    if cfg!(windows) {
        return path("LOCALAPPDATA").map(|local| local.join("burn-ad").join("cache"));
    }
    let caches = if cfg!(target_os = "macos") {
        "Library/Caches"
    } else {
        ".cache"
    };
    home.filter(|home| !home.as_os_str().is_empty())
        .map(|home| home.join(caches).join("burn-ad"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn located(variables: &[(&str, &str)]) -> Option<PathBuf> {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        locate(find, Some("/home/ada".into()))
    }

    #[test]
    fn our_own_variable_wins_then_xdg_then_home() {
        let (own, xdg) = (("BURN_AD_CACHE", "/w"), ("XDG_CACHE_HOME", "/x"));
        assert_eq!(located(&[own, xdg]), Some("/w".into()));
        assert_eq!(located(&[xdg]), Some("/x/burn-ad".into()));
        assert_eq!(located(&[]), Some("/home/ada/.cache/burn-ad".into()));
        assert_eq!(
            located(&[("BURN_AD_CACHE", ""), ("XDG_CACHE_HOME", "relative")]),
            Some("/home/ada/.cache/burn-ad".into())
        );
        assert_eq!(locate(|_| None, None), None);
    }
}
