//! Numbers that look random and are the same everywhere.

/// Number `counter` of stream `seed`, uniform in [0, 1): the generator of `tests/reference/metrics.py`.
pub fn uniform(seed: u64, counter: u64) -> f32 {
    let mut z = (seed << 32)
        .wrapping_add(counter)
        .wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
}

/// `count` numbers of stream `seed`, uniform between `-bound` and `bound`.
pub fn centred(seed: u64, count: usize, bound: f32) -> Vec<f32> {
    let value = |counter| (uniform(seed, counter) * 2.0 - 1.0) * bound;
    (0..count as u64).map(value).collect()
}
