//! Arithmetic on registers of any width: multiply-add, exponential, activations.

use std::any::{Any, TypeId};

use pulp::{Scalar128b, Simd, bytemuck};

use crate::Activation;

/// `exp` of less than minus this is nothing beside a float's smallest step at any scale in use.
const FARTHEST: f32 = 80.0;
/// Adding it rounds to an integer that then stands in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;
/// `ln 2` in two parts: the first has few digits, so that products with small integers are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Subtracting the bits of a positive number from these gives its reciprocal within 13 %.
const RECIPROCAL: u32 = 0x7EF3_11C7;

/// `a * b + c`, rounded once where the instructions can, else twice.
///
/// Pulp's own calls the mathematical library for each lane where there is no such instruction.
#[inline(always)]
pub(crate) fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if TypeId::of::<S>() == TypeId::of::<Scalar128b>() {
        simd.add_f32s(simd.mul_f32s(a, b), c)
    } else {
        simd.mul_add_e_f32s(a, b, c)
    }
}

/// `c - a * b`, rounded as by [`mul_add`].
#[inline(always)]
pub(crate) fn negate_mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if TypeId::of::<S>() == TypeId::of::<Scalar128b>() {
        simd.sub_f32s(c, simd.mul_f32s(a, b))
    } else {
        simd.negate_mul_add_e_f32s(a, b, c)
    }
}

/// `x` between `-bound` and `bound`; NaN becomes anything.
#[inline(always)]
fn limit<S: Simd>(simd: S, x: S::f32s, bound: f32) -> S::f32s {
    let x = simd.min_f32s(simd.splat_f32s(bound), x);
    simd.max_f32s(simd.splat_f32s(-bound), x)
}

/// `exp(-x)` for `x` between -87 and 87, relative error below 3e-7.
#[inline(always)]
fn exp_minus<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let c = |value: f32| simd.splat_f32s(value);
    let rounded = negate_mul_add(simd, x, c(std::f32::consts::LOG2_E), c(ROUND));
    let n = simd.sub_f32s(rounded, c(ROUND));
    let r = mul_add(simd, n, c(LN_2_HIGH), x);
    let r = mul_add(simd, n, c(LN_2_LOW), r);
    // exp(-r): relative error below 4e-9 on [-ln 2 / 2, ln 2 / 2], fitted with the first two coefficients fixed.
    let mut p = c(1.381_454e-3);
    p = mul_add(simd, p, r, c(-8.368_745e-3));
    p = mul_add(simd, p, r, c(4.166_839e-2));
    p = mul_add(simd, p, r, c(-1.666_652e-1));
    p = mul_add(simd, p, r, c(4.999_999_3e-1));
    p = mul_add(simd, p, r, c(-1.0));
    p = mul_add(simd, p, r, c(1.0));
    // The integer's low bits are added to the exponent; what lies above them is shifted out.
    let power = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), power))
}

/// `1 / x` for `x` in `[1, 1e37]`, relative error below 3e-7; quicker than a division.
#[inline(always)]
fn reciprocal<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (mut y, steps) = match near_reciprocal(simd, x) {
        // 6e-5, 4e-9.
        Some(y) => (y, 1),
        // 0.13, 0.016, 2.6e-4, 7e-8.
        None => {
            let bits = simd.sub_u32s(simd.splat_u32s(RECIPROCAL), simd.transmute_u32s_f32s(x));
            (simd.transmute_f32s_u32s(bits), 3)
        }
    };
    for _ in 0..steps {
        // Newton's iteration squares the error.
        let error = negate_mul_add(simd, x, y, simd.splat_f32s(1.0));
        y = mul_add(simd, y, error, y);
    }
    y
}

/// `1 / x` within `2^-14`, by an instruction that only some sets have.
#[inline(always)]
fn near_reciprocal<S: Simd>(simd: S, x: S::f32s) -> Option<S::f32s> {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = (&simd as &dyn Any).downcast_ref::<pulp::x86::V4>() {
        // Checked while it runs, so that it compiles for narrower registers; then it is no work.
        let x: pulp::f32x16 = bytemuck::cast(x);
        let y: pulp::f32x16 = pulp::cast(simd.avx512f._mm512_rcp14_ps(pulp::cast(x)));
        return Some(bytemuck::cast(y));
    }
    let _ = x;
    None
}

/// `1 / (1 + exp(-x))`, relative error below 4e-7 where `x > -80`.
#[inline(always)]
fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let e = exp_minus(simd, limit(simd, x, FARTHEST));
    reciprocal(simd, simd.add_f32s(e, simd.splat_f32s(1.0)))
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

/// The gradient before an activation, whose slope is read from its result `y`; at 0 it is the slope to
/// the left. For `Swish`, whose slope is not in its result, the gradient as it is.
#[inline(always)]
pub(crate) fn before_activation<S: Simd>(
    simd: S,
    activation: Activation,
    y: S::f32s,
    grad: S::f32s,
) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    match activation {
        Activation::Identity | Activation::Swish => grad,
        Activation::Relu => simd.select_f32s(simd.greater_than_f32s(y, zero), grad, zero),
        Activation::Relu6 => {
            let grad = simd.select_f32s(simd.greater_than_f32s(y, zero), grad, zero);
            simd.select_f32s(simd.less_than_f32s(y, simd.splat_f32s(6.0)), grad, zero)
        }
        Activation::LeakyRelu(slope) => {
            let scaled = simd.mul_f32s(grad, simd.splat_f32s(slope));
            simd.select_f32s(simd.greater_than_f32s(y, zero), grad, scaled)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::testing::steps;
    use pulp::WithSimd;

    struct Each<'a, F>(&'a [f32], F);

    trait Function {
        fn call<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s;
    }

    struct Exp;
    impl Function for Exp {
        #[inline(always)]
        fn call<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
            exp_minus(simd, simd.neg_f32s(x))
        }
    }

    struct Sigmoid;
    impl Function for Sigmoid {
        #[inline(always)]
        fn call<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
            sigmoid(simd, x)
        }
    }

    impl Function for Activation {
        #[inline(always)]
        fn call<S: Simd>(&self, simd: S, x: S::f32s) -> S::f32s {
            activate(simd, *self, x)
        }
    }

    impl<F: Function> WithSimd for Each<'_, F> {
        type Output = Vec<f32>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
            let mut out = vec![0.0; self.0.len()];
            for (x, y) in self
                .0
                .chunks(S::F32_LANES)
                .zip(out.chunks_mut(S::F32_LANES))
            {
                simd.partial_store_f32s(y, self.1.call(simd, simd.partial_load_f32s(x)));
            }
            out
        }
    }

    fn inputs() -> Vec<f32> {
        // Up to the limits, not beyond by a rounding.
        steps(-86_999..87_000)
            .map(|step| step as f32 * 1e-3)
            .collect()
    }

    #[test]
    fn exp_equals_the_library_within_rounding() {
        let x = inputs();
        for isa in Isa::available() {
            for (x, y) in x.iter().zip(isa.run(Each(&x, Exp))) {
                let exact = f64::from(*x).exp();
                assert!((f64::from(y) / exact - 1.0).abs() < 3e-7, "{isa}: exp({x})");
            }
        }
    }

    #[test]
    fn activations_equal_their_definitions() {
        let mut x = inputs();
        x.extend([-1e30, -500.0, 500.0, 1e30]);
        type Case = (Activation, fn(f64) -> f64);
        let cases: [Case; 5] = [
            (Activation::Identity, |x| x),
            (Activation::Relu, |x| x.max(0.0)),
            (Activation::Relu6, |x| x.clamp(0.0, 6.0)),
            (Activation::Swish, |x| x / (1.0 + (-x).exp())),
            (Activation::LeakyRelu(0.2), |x| {
                if x > 0.0 { x } else { f64::from(0.2f32) * x }
            }),
        ];
        for isa in Isa::available() {
            for (activation, definition) in cases {
                for (x, y) in x.iter().zip(isa.run(Each(&x, activation))) {
                    let exact = definition(f64::from(*x));
                    // One exponential and one reciprocal: 6e-7. Far below zero, where the
                    // exponential is limited, what is left is next to nothing of `x` itself.
                    let bound = 7e-7 * exact.abs() + 1e-34 * f64::from(x.abs());
                    let error = (f64::from(y) - exact).abs();
                    assert!(
                        error <= bound,
                        "{isa}: {activation:?}({x}) is {y}, not {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn exponential_functions_equal_the_library_within_rounding() {
        let inputs: Vec<f32> = steps(-80_000..80_001)
            .map(|step| step as f32 * 1e-3)
            .collect();
        for isa in Isa::available() {
            let exps = isa.run(Each(&inputs, Exp));
            let sigmoids = isa.run(Each(&inputs, Sigmoid));
            for (i, &x) in inputs.iter().enumerate() {
                let (x, exp) = (f64::from(x), f64::from(x).exp());
                assert!(
                    (f64::from(exps[i]) / exp - 1.0).abs() < 3e-7,
                    "{isa}: exp {x}"
                );
                let ratio = f64::from(sigmoids[i]) * (1.0 + (-x).exp());
                assert!((ratio - 1.0).abs() < 4e-7, "{isa}: sigmoid {x}");
            }
            let special = [f32::INFINITY, f32::NEG_INFINITY, 1e4, -1e4];
            let found = isa.run(Each(&special, Sigmoid));
            assert!(found[0] == 1.0 && found[2] == 1.0, "{isa}");
            let nothing = 0.0..1e-34;
            assert!(nothing.contains(&found[1]) && nothing.contains(&found[3]));
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
                let found = isa.run(Each(&inputs, activation));
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
}
