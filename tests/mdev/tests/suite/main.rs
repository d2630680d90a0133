//! The failure that this project was made for, with a real mediated device, and what is left of it with what the policy
//! injects.

// Clippy allows these in test functions, but not in what they share.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used
)]

mod cases;
#[path = "../../../../crates/mesa-node/tests/suite/client.rs"]
#[expect(dead_code, reason = "virt-launcher calls more than is called here")]
mod client;
mod domain;
mod kernel;
#[path = "../../../display/tests/suite/machine.rs"]
#[expect(dead_code, reason = "tests/display needs more roots")]
mod machine;
#[path = "../../../display/tests/suite/sidecar.rs"]
mod sidecar;
#[path = "../../../display/tests/suite/stand.rs"]
#[expect(dead_code, reason = "tests/display does more with it")]
mod stand;
mod vm;
