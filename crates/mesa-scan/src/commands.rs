//! The commands: plain options in, what was found or done out.

pub mod check;
pub mod image;
pub mod scan;
mod sources;
pub mod stage;

pub use sources::{Root, SourceError, Sources, Which};

use indicatif::{ProgressBar, ProgressStyle};

/// How far work on so many bytes is.
fn progress(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let style = ProgressStyle::with_template("{msg:8} {bar:40} {bytes}/{total_bytes} {eta}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}
