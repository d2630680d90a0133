//! The policy through its public API, and the documents that go with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may panic"
)]

mod any_bytes;
#[path = "../common/mod.rs"]
mod common;
mod deploy;
mod docs;
mod images;
mod launcher_pods;
mod package;
mod properties;
mod settings;
