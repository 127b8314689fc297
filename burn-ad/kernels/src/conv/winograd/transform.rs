//! Winograd's transforms of a row or column of a tile, on registers of channels.
//!
//! `A` is the side of a transformed tile: 4 for F(2x2, 3x3), 6 for F(4x4, 3x3); the latter's points are
//! 0, 1, -1, 2, -2 and infinity (Lavin and Gray 2016). Arrays have room for the largest side; what
//! others do not use stays 0.
//!
//! 5 and 9 are the sides for stride 2. Two outputs see five inputs: those at even places are two windows of
//! two taps, a stride of 1, which F(2, 2) computes by three multiplications; those at odd places meet one
//! tap alone. Four outputs see nine inputs; F(4, 2), with the points 0, 1, -1, 2 and infinity, takes five
//! multiplications for those at even places.

use pulp::Simd;

use crate::simd_math::{mul_add, negate_mul_add};

/// Most values of a transformed row, and of the outputs it gives.
pub(super) const SIDE: usize = 9;
pub(super) const OUT: usize = 4;

/// Outputs of a transformed row.
pub(in crate::conv) const fn outputs(side: usize) -> usize {
    if side < 6 { 2 } else { OUT }
}

/// Inputs from one output to the next.
pub(super) const fn stride(side: usize) -> usize {
    match side {
        5 | 9 => 2,
        _ => 1,
    }
}

/// Values of a transformed row of a kernel: for stride 2, its last places meet the same one.
pub(in crate::conv) const fn kernels(side: usize) -> usize {
    match side {
        5 => 4,
        9 => 6,
        _ => side,
    }
}

pub(super) type Row<S> = [<S as Simd>::f32s; SIDE];

/// Values, and 0 up to the room there is.
#[inline(always)]
fn padded<S: Simd, const N: usize, const ROOM: usize>(
    simd: S,
    values: [S::f32s; N],
) -> [S::f32s; ROOM] {
    let mut padded = [simd.splat_f32s(0.0); ROOM];
    padded[..N].copy_from_slice(&values);
    padded
}

/// `B^T d`: inputs of a tile.
#[inline(always)]
pub(super) fn input<S: Simd, const A: usize>(simd: S, d: Row<S>) -> Row<S> {
    let c = |value: f32| simd.splat_f32s(value);
    if A == 6 {
        let a = negate_mul_add(simd, c(4.0), d[2], d[4]);
        let b = negate_mul_add(simd, c(4.0), d[1], d[3]);
        let e = simd.sub_f32s(d[4], d[2]);
        let difference = simd.sub_f32s(d[3], d[1]);
        let f = simd.add_f32s(difference, difference);
        let first = negate_mul_add(simd, c(5.0), d[2], d[4]);
        let last = negate_mul_add(simd, c(5.0), d[3], d[5]);
        padded::<S, _, _>(
            simd,
            [
                mul_add(simd, c(4.0), d[0], first),
                simd.add_f32s(a, b),
                simd.sub_f32s(a, b),
                simd.add_f32s(e, f),
                simd.sub_f32s(e, f),
                mul_add(simd, c(4.0), d[1], last),
            ],
        )
    } else if A == 9 {
        let difference = simd.sub_f32s(d[6], d[2]);
        let near = simd.sub_f32s(d[0], d[4]);
        let far = simd.sub_f32s(d[8], d[4]);
        let middle = simd.sub_f32s(d[4], d[6]);
        let third = negate_mul_add(simd, c(3.0), d[4], d[6]);
        [
            mul_add(simd, c(2.0), near, difference),
            mul_add(simd, c(2.0), d[2], middle),
            mul_add(simd, c(2.0), d[2], third),
            difference,
            negate_mul_add(simd, c(2.0), difference, far),
            d[1],
            d[3],
            d[5],
            d[7],
        ]
    } else if A == 5 {
        padded::<S, _, _>(
            simd,
            [
                simd.sub_f32s(d[0], d[2]),
                d[2],
                simd.sub_f32s(d[2], d[4]),
                d[1],
                d[3],
            ],
        )
    } else {
        padded::<S, _, _>(
            simd,
            [
                simd.sub_f32s(d[0], d[2]),
                simd.add_f32s(d[1], d[2]),
                simd.sub_f32s(d[2], d[1]),
                simd.sub_f32s(d[1], d[3]),
            ],
        )
    }
}

/// `A^T m`: outputs of a tile.
#[inline(always)]
pub(super) fn output<S: Simd, const A: usize>(simd: S, m: Row<S>) -> [S::f32s; OUT] {
    let c = |value: f32| simd.splat_f32s(value);
    let (sum, difference) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    if A == 6 {
        let (sum_2, difference_2) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
        [
            simd.add_f32s(m[0], simd.add_f32s(sum, sum_2)),
            mul_add(simd, c(2.0), difference_2, difference),
            mul_add(simd, c(4.0), sum_2, sum),
            simd.add_f32s(m[5], mul_add(simd, c(8.0), difference_2, difference)),
        ]
    } else if A == 9 {
        let first = simd.add_f32s(simd.add_f32s(m[0], m[3]), simd.add_f32s(sum, m[5]));
        let last = simd.add_f32s(simd.add_f32s(m[4], difference), m[8]);
        [
            first,
            simd.add_f32s(mul_add(simd, c(2.0), m[3], difference), m[6]),
            simd.add_f32s(mul_add(simd, c(4.0), m[3], sum), m[7]),
            mul_add(simd, c(8.0), m[3], last),
        ]
    } else if A == 5 {
        padded::<S, _, _>(
            simd,
            [
                simd.add_f32s(simd.add_f32s(m[0], m[1]), m[3]),
                simd.add_f32s(difference, m[4]),
            ],
        )
    } else {
        padded::<S, _, _>(
            simd,
            [simd.add_f32s(m[0], sum), simd.sub_f32s(difference, m[3])],
        )
    }
}

/// `G g`: a row or column of a kernel.
#[inline(always)]
pub(super) fn kernel<S: Simd, const A: usize>(simd: S, g: [S::f32s; 3]) -> Row<S> {
    let c = |value: f32| simd.splat_f32s(value);
    let sum = simd.add_f32s(g[0], g[2]);
    if A == 6 {
        let far = mul_add(simd, c(4.0), g[2], g[0]);
        let twice = simd.add_f32s(g[1], g[1]);
        let (sixth, small) = (c(-1.0 / 6.0), c(1.0 / 24.0));
        padded::<S, _, _>(
            simd,
            [
                simd.mul_f32s(c(0.25), g[0]),
                simd.mul_f32s(sixth, simd.add_f32s(sum, g[1])),
                simd.mul_f32s(sixth, simd.sub_f32s(sum, g[1])),
                simd.mul_f32s(small, simd.add_f32s(far, twice)),
                simd.mul_f32s(small, simd.sub_f32s(far, twice)),
                g[2],
            ],
        )
    } else if A == 9 {
        let (half, sixth) = (c(0.5), c(1.0 / 6.0));
        padded::<S, _, _>(
            simd,
            [
                simd.mul_f32s(half, g[0]),
                simd.mul_f32s(half, sum),
                simd.mul_f32s(sixth, simd.sub_f32s(g[2], g[0])),
                simd.mul_f32s(sixth, mul_add(simd, c(2.0), g[2], g[0])),
                g[2],
                g[1],
            ],
        )
    } else if A == 5 {
        padded::<S, _, _>(simd, [g[0], sum, g[2], g[1]])
    } else {
        let half = c(0.5);
        padded::<S, _, _>(
            simd,
            [
                g[0],
                simd.mul_f32s(half, simd.add_f32s(sum, g[1])),
                simd.mul_f32s(half, simd.sub_f32s(sum, g[1])),
                g[2],
            ],
        )
    }
}

/// `A y`: the transpose of [`output`], for gradients.
#[inline(always)]
pub(super) fn output_back<S: Simd, const A: usize>(simd: S, y: [S::f32s; OUT]) -> Row<S> {
    let c = |value: f32| simd.splat_f32s(value);
    if A == 6 {
        let (even, odd) = (simd.add_f32s(y[0], y[2]), simd.add_f32s(y[1], y[3]));
        let even_2 = mul_add(simd, c(4.0), y[2], y[0]);
        let odd_2 = mul_add(simd, c(8.0), y[3], simd.add_f32s(y[1], y[1]));
        padded::<S, _, _>(
            simd,
            [
                y[0],
                simd.add_f32s(even, odd),
                simd.sub_f32s(even, odd),
                simd.add_f32s(even_2, odd_2),
                simd.sub_f32s(even_2, odd_2),
                y[3],
            ],
        )
    } else {
        padded::<S, _, _>(
            simd,
            [
                y[0],
                simd.add_f32s(y[0], y[1]),
                simd.sub_f32s(y[0], y[1]),
                simd.sub_f32s(c(0.0), y[1]),
            ],
        )
    }
}

/// `G^T m`: the transpose of [`kernel`], for gradients.
#[inline(always)]
pub(super) fn kernel_back<S: Simd, const A: usize>(simd: S, m: Row<S>) -> [S::f32s; 3] {
    let c = |value: f32| simd.splat_f32s(value);
    let (sum, difference) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[2], m[1]));
    if A == 6 {
        let (sum_2, difference_2) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
        let sixth = c(1.0 / 6.0);
        let first = mul_add(simd, c(1.0 / 24.0), sum_2, simd.mul_f32s(c(0.25), m[0]));
        [
            negate_mul_add(simd, sixth, sum, first),
            mul_add(
                simd,
                sixth,
                difference,
                simd.mul_f32s(c(1.0 / 12.0), difference_2),
            ),
            mul_add(simd, sixth, simd.sub_f32s(sum_2, sum), m[5]),
        ]
    } else {
        let half = c(0.5);
        [
            mul_add(simd, half, sum, m[0]),
            simd.mul_f32s(half, simd.sub_f32s(m[1], m[2])),
            mul_add(simd, half, sum, m[3]),
        ]
    }
}
