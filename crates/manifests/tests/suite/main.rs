//! Reading and writing documents, and what is printed of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;
mod kubectl;
mod policies;
mod reading;
mod text;
mod writing;
