//! The commands: plain options in, what was found or done out.

pub mod check;
pub mod scan;
mod sources;
pub mod stage;

pub use sources::{Root, SourceError, Sources, Which};
