//! Whether and how our own CPU kernels compute.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use burn_ad_kernels::Isa;

use crate::error::{Error, Result};

/// The environment variable that chooses: `off`, `precise` or `fast` (the default), with
/// `:portable`, `:neon`, `:avx2` or `:avx512` behind it to use no more than those instructions.
pub const KERNELS_VARIABLE: &str = "BURN_AD_KERNELS";

/// How exact the kernels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Convolutions are summed directly or by Winograd's F(2x2, 3x3), or its like for stride 2: as exact
    /// as Burn's own.
    Precise,
    /// Also Winograd's F(4x4, 3x3): within 1e-5 of the largest value of a map.
    Fast,
}

/// What computes on Burn's CPU backend Flex; other backends are not concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernels {
    /// `None`: Burn's own operations.
    pub precision: Option<Precision>,
    /// The vector instructions to use.
    pub isa: Isa,
}

impl Kernels {
    /// What this thread uses now: what [`Kernels::scope`] says, else the environment variable.
    ///
    /// A value of the variable that cannot be read counts as not set; a program that wants to tell
    /// its user calls [`Kernels::from_environment`] first.
    pub fn current() -> Self {
        static CHOSEN: OnceLock<Kernels> = OnceLock::new();
        SCOPE
            .get()
            .unwrap_or_else(|| *CHOSEN.get_or_init(|| Self::from_environment().unwrap_or_default()))
    }

    /// What the environment variable [`KERNELS_VARIABLE`] asks for.
    ///
    /// # Errors
    /// When its value is none of those it knows.
    pub fn from_environment() -> Result<Self> {
        match std::env::var(KERNELS_VARIABLE) {
            Ok(value) if !value.is_empty() => value.parse(),
            Ok(_) | Err(std::env::VarError::NotPresent) => Ok(Self::default()),
            Err(std::env::VarError::NotUnicode(value)) => Err(unknown(&value.to_string_lossy())),
        }
    }

    /// Runs `work` with these kernels on the calling thread, whatever the environment says.
    pub fn scope<R>(self, work: impl FnOnce() -> R) -> R {
        struct Restore(Option<Kernels>);
        impl Drop for Restore {
            fn drop(&mut self) {
                SCOPE.set(self.0);
            }
        }
        let _restore = Restore(SCOPE.replace(Some(self)));
        work()
    }
}

thread_local! {
    static SCOPE: Cell<Option<Kernels>> = const { Cell::new(None) };
}

/// Fast, with the best instructions of this processor.
impl Default for Kernels {
    fn default() -> Self {
        Self {
            precision: Some(Precision::Fast),
            isa: Isa::best(),
        }
    }
}

impl FromStr for Kernels {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (precision, isa) = match text.split_once(':') {
            Some((precision, isa)) => (precision, Some(isa)),
            None => (text, None),
        };
        let precision = match precision {
            "off" => None,
            "precise" => Some(Precision::Precise),
            "fast" => Some(Precision::Fast),
            _ => return Err(unknown(text)),
        };
        let isa = match isa {
            None => Isa::best(),
            Some("portable") => Isa::Portable,
            Some("neon") => Isa::Neon,
            Some("avx2") => Isa::Avx2,
            Some("avx512") => Isa::Avx512,
            Some(_) => return Err(unknown(text)),
        };
        Ok(Self {
            precision,
            isa: isa.or_lower(),
        })
    }
}

fn unknown(text: &str) -> Error {
    Error::usage(format!("{KERNELS_VARIABLE}={text} is not understood")).help(
        "use off, precise or fast, with :portable, :neon, :avx2 or :avx512 behind it to limit \
         the instructions",
    )
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.precision {
            None => f.write_str("off"),
            Some(Precision::Precise) => write!(f, "precise, {}", self.isa),
            Some(Precision::Fast) => write!(f, "fast, {}", self.isa),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_variable_are_read() {
        let read = |text: &str| text.parse::<Kernels>().expect("known");
        assert_eq!(read("fast"), Kernels::default());
        assert_eq!(read("off").precision, None);
        let slow = read("precise:portable");
        assert_eq!(slow.precision, Some(Precision::Precise));
        assert_eq!(slow.isa, Isa::Portable);
        assert!(read("fast:avx512").isa.is_available());
        for wrong in ["", "on", "fast:", "fast:sse", "off,avx2"] {
            let error = wrong.parse::<Kernels>().expect_err("refused").to_string();
            assert!(error.contains("precise"), "{error}");
        }
    }

    #[test]
    fn a_scope_ends_with_its_work() {
        let before = Kernels::current();
        let off = "off".parse::<Kernels>().expect("known");
        off.scope(|| {
            assert_eq!(Kernels::current(), off);
            Kernels::default().scope(|| assert_eq!(Kernels::current(), Kernels::default()));
            assert_eq!(Kernels::current(), off);
        });
        assert_eq!(Kernels::current(), before);
    }
}
