//! Which instructions the kernels use, decided once while the program runs.

use std::fmt;
use std::sync::OnceLock;

use pulp::{Scalar128b, Simd, WithSimd};

/// A set of vector instructions. Later ones are faster.
///
/// A value says what to use, not what the processor has: [`Isa::best`] and [`Isa::available`] only
/// give sets that this processor has, and a kernel asked for another falls back to the next lower
/// one it has. So no value makes a program fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust, compiled for the lowest processor of the target.
    Portable,
    /// AArch64 with Advanced SIMD: 4 lanes.
    Neon,
    /// x86-64 with AVX2 and FMA: 8 lanes.
    Avx2,
    /// x86-64 with AVX-512 F, BW, CD, DQ and VL: 16 lanes.
    Avx512,
}

impl Isa {
    /// Every set, slowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Neon, Self::Avx2, Self::Avx512];

    /// The fastest set of this processor.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let mut all = Self::ALL.into_iter().rev();
            all.find(|isa| isa.is_available()).unwrap_or(Self::Portable)
        })
    }

    /// The sets of this processor, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::try_new().is_some(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => pulp::aarch64::Neon::try_new().is_some(),
            _ => false,
        }
    }

    /// This set, or the fastest lower one that the processor has.
    pub fn or_lower(self) -> Self {
        let mut all = Self::ALL.into_iter().rev();
        all.find(|isa| *isa <= self && isa.is_available())
            .unwrap_or(Self::Portable)
    }

    /// Values of `f32` in one register.
    pub fn lanes(self) -> usize {
        match self.or_lower() {
            Self::Portable | Self::Neon => 4,
            Self::Avx2 => 8,
            Self::Avx512 => 16,
        }
    }

    /// Runs `kernel` compiled for this set, or for the fastest lower one that the processor has.
    #[inline]
    pub(crate) fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        {
            if self == Self::Avx512
                && let Some(simd) = pulp::x86::V4::try_new()
            {
                return Simd::vectorize(simd, kernel);
            }
            if self >= Self::Avx2
                && let Some(simd) = pulp::x86::V3::try_new()
            {
                return Simd::vectorize(simd, kernel);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            if self >= Self::Neon
                && let Some(simd) = pulp::aarch64::Neon::try_new()
            {
                return Simd::vectorize(simd, kernel);
            }
        }
        Simd::vectorize(Scalar128b, kernel)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Neon => "NEON",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lanes;

    impl WithSimd for Lanes {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) -> usize {
            S::F32_LANES
        }
    }

    #[test]
    fn every_set_runs_on_every_processor() {
        for isa in Isa::ALL {
            assert_eq!(isa.run(Lanes), isa.lanes(), "{isa}");
            assert!(isa.or_lower().is_available());
        }
        assert!(Isa::best().is_available());
        assert_eq!(Isa::available().last(), Some(Isa::best()));
    }
}
