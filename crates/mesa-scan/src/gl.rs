//! GL: where it begins ([`entry_points`]), all that it loads ([`closure`]), what of it must be brought ([`files`]) and how
//! ([`layout`]), the files themselves ([`originals`]), QEMU's own part of a display ([`qemu`]), and libglvnd's vendors
//! ([`vendor`]).

pub mod closure;
pub mod entry_points;
pub mod files;
pub mod layout;
mod mesa_version;
pub mod originals;
pub mod qemu;
mod read_ahead;
pub mod vendor;

pub use closure::{Absent, Closure};
pub use entry_points::EntryPoints;
pub use files::{GlFiles, Item, Role};
pub use layout::{FLAT_VOLUME, Layout, LayoutError, Mount, Placed, Plan, directory_of};
pub use originals::{Addition, Original, Originals};
pub use qemu::Qemu;
pub use read_ahead::GlReadAhead;
