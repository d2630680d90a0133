//! The dynamic loader, over a tree instead of a running system: what a library says of itself ([`elf`]), and where the
//! loader finds the others ([`Loader`]).

pub mod arch;
mod cache;
mod conf;
pub mod elf;
pub mod glibc;
mod libc;
mod program;
mod search;

pub use arch::Arch;
pub use elf::{Elf, ElfError};
pub use program::{Program, ProgramError};
pub use search::{Library, Loader, LoaderError, Paths, Search};
