//! The tests of mesa-node, in one binary: linking is what takes long.

// Clippy allows these in test functions, but not in what they share.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used
)]

mod client;
mod common;
mod domains;
mod hostile;
mod log;
mod node;
mod program;
mod properties;
mod rules;
mod schema;
