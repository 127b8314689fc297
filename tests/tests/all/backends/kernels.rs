//! Which kernels WGPU takes.
//!
//! For every new shape CubeCL times all kernels that could compute it (autotune), and keeps the
//! answer below `target/autotune` of the package whose tests run. Software Vulkan spends seconds on
//! compiling each candidate: the suite would take more than five minutes of processor time. The
//! fixtures hold the answers for its shapes, always the plain kernel that works everywhere; with them
//! it takes twenty seconds. A shape without an answer is tuned as ever; `tests/reference/wgpu_kernels.py` brings the
//! fixtures up to date.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Once;

/// Puts the answers where CubeCL looks for them, unless there are some already.
pub(crate) fn answer_before_tuning() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (from, to) = (tests.join("fixtures/wgpu/autotune"), "target/autotune");
        copy_missing(&from, &tests.join(to));
    });
}

fn copy_missing(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_missing(&entry.path(), &target);
        } else if !target.exists() {
            // Complete at once: another test process may be looking.
            let file = tempfile::NamedTempFile::new_in(to).unwrap();
            fs::copy(entry.path(), file.path()).unwrap();
            file.persist(target).unwrap();
        }
    }
}
