//! Half the sides of a plane, rounded up: means over 2 x 2 pixels, with zeros in front of an odd side.

use super::Scale;

/// The plane at the next scale.
pub(super) fn halve(from: &[f32], scale: Scale, to: &mut [f32]) {
    let Scale { height, width, .. } = scale;
    let (above, before) = (height % 2, width % 2);
    for (row, out) in to.chunks_exact_mut(width.div_ceil(2)).enumerate() {
        out.fill(0.0);
        for line in (2 * row).saturating_sub(above)..2 * row + 2 - above {
            let (single, pairs) = from[line * width..][..width].split_at(before);
            let (first, others) = out.split_at_mut(before);
            for (out, value) in first.iter_mut().zip(single) {
                *out += 0.25 * value;
            }
            for (out, pair) in others.iter_mut().zip(pairs.chunks_exact(2)) {
                *out += 0.25 * (pair[0] + pair[1]);
            }
        }
    }
}

/// Adds the gradient of [`halve`] to that of the plane.
pub(super) fn add_gradient(of_half: &[f32], scale: Scale, to: &mut [f32]) {
    let Scale { height, width, .. } = scale;
    let (above, before) = (height % 2, width % 2);
    let narrow = width.div_ceil(2);
    for (line, out) in to.chunks_exact_mut(width).enumerate() {
        let from = &of_half[(line + above) / 2 * narrow..][..narrow];
        let (single, pairs) = out.split_at_mut(before);
        let (first, others) = from.split_at(before);
        for (out, value) in single.iter_mut().zip(first) {
            *out += 0.25 * value;
        }
        for (out, value) in pairs.chunks_exact_mut(2).zip(others) {
            out[0] += 0.25 * value;
            out[1] += 0.25 * value;
        }
    }
}
