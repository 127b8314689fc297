//! What several of the tests share.

pub mod reference_fill;
