//! Works out which Mesa files of a node a virt-launcher image needs, and whether they can load there.
//!
//! A node's root and an image are [`tree`]s. In each, [`ldso`] finds libraries as the dynamic loader does, reading of
//! them what [`elf`] reads. From the [`entries`] of GL on, a [`closure`] is what gets loaded; the [`set`] is the
//! node's closure without what the image has. A [`layout`] says how the set is mounted, and the [`verdict`] whether GL
//! loads in a container that has these mounts, with a [`reason`] for each thing that keeps it from it. The commands are
//! [`scan`](mod@scan), [`stage`](mod@stage) and [`check`](mod@check); [`output`] writes what scripts and people read.
//!
//! Nothing of a tree is ever executed, and nothing outside of it is read.
//!
//! The exit status of every command is 0 where GL will load, 1 where it will not (the reasons are said), and 2 where the
//! usage is wrong or something cannot be read or written.

pub mod arch;
pub mod check;
pub mod cli;
pub mod closure;
pub mod cover;
pub mod elf;
pub mod entries;
pub mod glibc;
pub mod layout;
pub mod ldso;
pub mod output;
pub mod qemu;
pub mod reason;
pub mod scan;
pub mod set;
pub mod stage;
pub mod tree;
pub mod verdict;

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
