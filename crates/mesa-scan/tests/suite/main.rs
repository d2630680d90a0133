//! The tests of mesa-scan, in one binary: linking is what takes long.

// Clippy allows these in test functions, but not in what they share.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used
)]

mod archives;
mod commands;
mod cost;
mod debian;
mod docs;
mod elf;
mod fixture;
mod hostile;
mod image;
mod layers;
mod loading;
mod nodes;
mod rules;
mod staging;
