//! How long a scan of a real node takes: `cargo bench -p mesa-scan --bench scan`.
//!
//! The roots are unpacked from Debian's packages, as for the tests.

use std::hint::black_box;

use criterion::Criterion;
use mesa_scan::commands::{Root, Sources, scan::scan};
use mesa_scan::gl::Layout;

// The tests use more of it.
#[allow(dead_code, clippy::panic, clippy::unwrap_used)]
#[path = "../tests/suite/debian.rs"]
mod debian;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for suite in ["bookworm", "trixie"] {
        let (Some(node), Some(image)) = (debian::node(suite), debian::launcher(suite)) else {
            return;
        };
        criterion.bench_function(&format!("scan {suite} on {suite}"), |bencher| {
            bencher.iter(|| {
                let sources = Sources::open(&Root::at(&node), Some(&Root::at(&image)), None)?;
                scan(black_box(&sources), Layout::Files, "/base")
                    .map(|scan| scan.files.total_size())
            });
        });
    }
    criterion.final_summary();
}
