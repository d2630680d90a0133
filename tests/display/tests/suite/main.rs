//! From the policy's settings to QEMU's display, with nothing mocked in between.

// Clippy allows these in test functions, but not in what they share.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used
)]

mod chain;
#[path = "../../../../crates/mesa-node/tests/suite/client.rs"]
#[expect(dead_code, reason = "virt-launcher calls more than is called here")]
mod client;
mod controls;
mod documentation;
mod hook;
mod machine;
mod realising;
mod registry;
mod secure;
#[expect(dead_code, reason = "tests/mdev asks more of it")]
mod sidecar;
#[expect(dead_code, reason = "tests/mdev does more with it")]
mod stand;
mod stock;
