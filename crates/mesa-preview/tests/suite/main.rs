//! The command, run as a program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may panic"
)]

mod common;
mod definition;
mod docs;
mod examples;
mod module;
mod output;
mod policy;
mod response;
