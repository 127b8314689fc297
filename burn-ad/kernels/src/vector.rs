//! What kernels share: exponential functions and activations on registers, loads and stores of whole
//! and partly filled registers.
// Loads and stores through pointers, for kernels that check whole rows instead of single values.
#![allow(unsafe_code)]

use std::any::TypeId;

use pulp::{MemMask, Scalar128b, Simd};

use crate::activation::Activation;

/// Values beyond this are far in the tail of everything computed here.
const LIMIT: f32 = 87.0;
/// Adding and subtracting this rounds to the nearest integer, which stays in the lowest bits.
const ROUND: f32 = 12_582_912.0;
/// `ln 2` in two parts: the first has few digits, so that products with small integers are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// `a * b + c`, rounded once where there is an instruction for it, else twice.
#[inline(always)]
pub(crate) fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    // Pulp's calls the mathematical library for each lane where there is none.
    if TypeId::of::<S>() == TypeId::of::<Scalar128b>() {
        simd.add_f32s(simd.mul_f32s(a, b), c)
    } else {
        simd.mul_add_e_f32s(a, b, c)
    }
}

/// `exp(x)`, relative error below 3e-7; `x` is limited to +-87, NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let limited = simd.max_f32s(
        simd.min_f32s(x, simd.splat_f32s(LIMIT)),
        simd.splat_f32s(-LIMIT),
    );
    let rounded = mul_add(
        simd,
        limited,
        simd.splat_f32s(std::f32::consts::LOG2_E),
        simd.splat_f32s(ROUND),
    );
    let n = simd.sub_f32s(rounded, simd.splat_f32s(ROUND));
    let r = mul_add(simd, n, simd.splat_f32s(-LN_2_HIGH), limited);
    let r = mul_add(simd, n, simd.splat_f32s(-LN_2_LOW), r);
    // Cephes' polynomial for exp on [-ln 2 / 2, ln 2 / 2].
    let mut p = simd.splat_f32s(1.987_569_1e-4);
    p = mul_add(simd, p, r, simd.splat_f32s(1.398_199_9e-3));
    p = mul_add(simd, p, r, simd.splat_f32s(8.333_452e-3));
    p = mul_add(simd, p, r, simd.splat_f32s(4.166_579_6e-2));
    p = mul_add(simd, p, r, simd.splat_f32s(1.666_666_5e-1));
    p = mul_add(simd, p, r, simd.splat_f32s(0.5));
    let value = mul_add(
        simd,
        simd.mul_f32s(p, r),
        r,
        simd.add_f32s(r, simd.splat_f32s(1.0)),
    );
    // 2^n: n + 127 moves from the lowest bits of `rounded` to the exponent; all others fall out.
    let bits = simd.add_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(127));
    let bits = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(23));
    let value = simd.mul_f32s(value, simd.transmute_f32s_u32s(bits));
    // Whether `min` and `max` keep NaN differs between processors.
    simd.select_f32s(simd.equal_f32s(x, x), value, x)
}

/// `tanh(x)`, absolute error below 2e-7.
#[inline(always)]
#[allow(dead_code)] // the flow's kernel will take it
pub(crate) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let power = exp(simd, simd.add_f32s(x, x));
    let part = simd.div_f32s(simd.splat_f32s(2.0), simd.add_f32s(power, one));
    simd.sub_f32s(one, part)
}

/// `1 / (1 + exp(-x))`, relative error below 4e-7 where `x > -87`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let power = exp(simd, simd.neg_f32s(x));
    simd.div_f32s(one, simd.add_f32s(power, one))
}

/// The activation of every lane. NaN stays NaN.
#[inline(always)]
pub(crate) fn activate<S: Simd>(simd: S, activation: Activation, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    match activation {
        Activation::Identity => x,
        Activation::Relu => simd.select_f32s(simd.less_than_f32s(x, zero), zero, x),
        Activation::Relu6 => {
            let six = simd.splat_f32s(6.0);
            let x = simd.select_f32s(simd.less_than_f32s(x, zero), zero, x);
            simd.select_f32s(simd.greater_than_f32s(x, six), six, x)
        }
        Activation::Swish => simd.mul_f32s(x, sigmoid(simd, x)),
        Activation::LeakyRelu(slope) => {
            let scaled = simd.mul_f32s(x, simd.splat_f32s(slope));
            simd.select_f32s(simd.less_than_f32s(x, zero), scaled, x)
        }
    }
}

/// `N` registers from their `N * F32_LANES` values; fewer values than that, when `N` is 1, are filled
/// up with 0.
#[inline(always)]
pub(crate) fn read<S: Simd, const N: usize>(simd: S, values: &[f32]) -> [S::f32s; N] {
    match S::as_simd_f32s(values).0.first_chunk::<N>() {
        Some(registers) => *registers,
        None => [simd.partial_load_f32s(values); N],
    }
}

/// Writes what fits of `N` registers; the counterpart of [`read`].
#[inline(always)]
pub(crate) fn write<S: Simd, const N: usize>(simd: S, values: &mut [f32], registers: [S::f32s; N]) {
    match S::as_mut_simd_f32s(values).0.first_chunk_mut::<N>() {
        Some(place) => *place = registers,
        None => simd.partial_store_f32s(values, registers[0]),
    }
}

/// Runs `$block` for all channels: `$N` registers at a time, then one, then the rest, with `$range` as
/// the channels' range. A macro, because closures may lose the instruction set they are called in.
macro_rules! by_registers {
    ($S:ty, $channels:expr, $count:literal, |$range:ident, $N:ident| $block:expr) => {{
        let (channels, lanes) = ($channels, <$S>::F32_LANES);
        let mut at = 0;
        while at + $count * lanes <= channels {
            const $N: usize = $count;
            let $range = at..at + $count * lanes;
            $block;
            at += $count * lanes;
        }
        while at < channels {
            const $N: usize = 1;
            let $range = at..(at + lanes).min(channels);
            $block;
            at += lanes;
        }
    }};
}
pub(crate) use by_registers;

/// How a register meets memory: [`Whole`] or, at the end of a row, [`Part`].
pub(crate) trait Access<S: Simd>: Copy {
    /// # Safety
    /// The values it stands for must be readable at `from`.
    unsafe fn load(self, simd: S, from: *const f32) -> S::f32s;

    /// # Safety
    /// The values it stands for must be writable at `to`, and nobody else may use them.
    unsafe fn store(self, simd: S, to: *mut f32, value: S::f32s);
}

/// Every lane.
#[derive(Clone, Copy)]
pub(crate) struct Whole;

/// The first lanes; the others are read as 0 and not written.
#[derive(Clone, Copy)]
pub(crate) struct Part<S: Simd>(MemMask<S::m32s>);

impl<S: Simd> Part<S> {
    /// The first `lanes` lanes.
    #[inline(always)]
    pub(crate) fn new(simd: S, lanes: usize) -> Self {
        // `MemMask::new` leaves out jumps into pulp's table of loads: plain masked ones are faster
        // where the mask is loop-invariant.
        let mask = simd.mask_between_m32s(0, lanes.min(S::F32_LANES) as u32);
        Self(MemMask::new(mask.mask()))
    }
}

impl<S: Simd> Access<S> for Whole {
    #[inline(always)]
    unsafe fn load(self, _: S, from: *const f32) -> S::f32s {
        // SAFETY: readable, by the contract; any bits are a valid register.
        unsafe { from.cast::<S::f32s>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, _: S, to: *mut f32, value: S::f32s) {
        // SAFETY: writable and not shared, by the contract.
        unsafe { to.cast::<S::f32s>().write_unaligned(value) }
    }
}

impl<S: Simd> Access<S> for Part<S> {
    #[inline(always)]
    unsafe fn load(self, simd: S, from: *const f32) -> S::f32s {
        // SAFETY: the lanes of the mask are readable, by the contract.
        unsafe { simd.mask_load_ptr_f32s(self.0, from) }
    }

    #[inline(always)]
    unsafe fn store(self, simd: S, to: *mut f32, value: S::f32s) {
        // SAFETY: the lanes of the mask are writable and not shared, by the contract.
        unsafe { simd.mask_store_ptr_f32s(self.0, to, value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use pulp::WithSimd;

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Exp,
        Tanh,
        Sigmoid,
        Activation(Activation),
    }

    struct Map<'a>(Function, &'a mut [f32]);

    impl WithSimd for Map<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for values in self.1.chunks_mut(S::F32_LANES) {
                let x = simd.partial_load_f32s(values);
                let y = match self.0 {
                    Function::Exp => exp(simd, x),
                    Function::Tanh => tanh(simd, x),
                    Function::Sigmoid => sigmoid(simd, x),
                    Function::Activation(activation) => activate(simd, activation, x),
                };
                simd.partial_store_f32s(values, y);
            }
        }
    }

    fn map(isa: Isa, function: Function, values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        isa.run(Map(function, &mut values));
        values
    }

    #[test]
    fn exponential_functions_equal_the_library_within_rounding() {
        let inputs: Vec<f32> = (-80_000..=80_000).map(|step| step as f32 * 1e-3).collect();
        for isa in Isa::available() {
            let exps = map(isa, Function::Exp, &inputs);
            let tanhs = map(isa, Function::Tanh, &inputs);
            let sigmoids = map(isa, Function::Sigmoid, &inputs);
            for (i, &x) in inputs.iter().enumerate() {
                let (x, exp) = (f64::from(x), f64::from(x).exp());
                assert!(
                    (f64::from(exps[i]) / exp - 1.0).abs() < 3e-7,
                    "{isa}: exp {x}"
                );
                assert!(
                    (f64::from(tanhs[i]) - x.tanh()).abs() < 2e-7,
                    "{isa}: tanh {x}"
                );
                let ratio = f64::from(sigmoids[i]) * (1.0 + (-x).exp());
                assert!((ratio - 1.0).abs() < 4e-7, "{isa}: sigmoid {x}");
            }
            let special = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e4, -1e4];
            let found = map(isa, Function::Exp, &special);
            assert!(found[0].is_finite() && found[0] > 1e37 && found[0] == found[3]);
            assert!(found[1] > 0.0 && found[1] < 1e-37 && found[1] == found[4]);
            assert!(found[2].is_nan());
        }
    }

    #[test]
    fn activations_equal_their_definition_and_keep_nan() {
        let mut inputs: Vec<f32> = (-2000..=2000).map(|step| step as f32 * 0.01).collect();
        inputs.push(f32::NAN);
        let all = [
            Activation::Identity,
            Activation::Relu,
            Activation::Relu6,
            Activation::Swish,
            Activation::LeakyRelu(0.2),
        ];
        for isa in Isa::available() {
            for activation in all {
                let found = map(isa, Function::Activation(activation), &inputs);
                for (&x, &y) in inputs.iter().zip(&found) {
                    if x.is_nan() {
                        assert!(y.is_nan(), "{isa}: {activation:?}");
                        continue;
                    }
                    let expected = match activation {
                        Activation::Identity => x,
                        Activation::Relu => x.max(0.0),
                        Activation::Relu6 => x.clamp(0.0, 6.0),
                        Activation::Swish => x / (1.0 + (-x).exp()),
                        Activation::LeakyRelu(slope) => x.max(x * slope),
                    };
                    // Several roundings of a value of its size.
                    let bound = 1e-6 * expected.abs();
                    assert!(
                        (y - expected).abs() <= bound,
                        "{isa}: {activation:?} of {x}"
                    );
                }
            }
        }
    }

    struct Copy<'a>(&'a [f32], &'a mut [f32]);

    impl WithSimd for Copy<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let count = self.0.len().min(S::F32_LANES);
            assert!(count <= self.1.len());
            // SAFETY: both slices have at least `count` values.
            unsafe {
                let part = Part::new(simd, count);
                let value = part.load(simd, self.0.as_ptr());
                part.store(simd, self.1.as_mut_ptr(), value);
                if self.0.len() >= S::F32_LANES {
                    let value = Whole.load(simd, self.0.as_ptr());
                    Whole.store(simd, self.1.as_mut_ptr(), value);
                }
            }
        }
    }

    #[test]
    fn a_part_leaves_other_values_alone() {
        for isa in Isa::available() {
            for count in 0..=16 {
                let from: Vec<f32> = (0..count).map(|i| 1.0 + i as f32).collect();
                let mut to = vec![0.0; 20];
                isa.run(Copy(&from, &mut to));
                for (i, &value) in to.iter().enumerate() {
                    let copied = i < count.min(isa.lanes());
                    assert_eq!(value, if copied { 1.0 + i as f32 } else { 0.0 });
                }
            }
        }
    }
}
