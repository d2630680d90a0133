//! Works out which Mesa files of a node a virt-launcher image needs, and whether they can load there.
//!
//! The modules are layers; each uses only those below it.
//!
//! ```text
//! cli         flags, and what is said of them
//! commands    scan, check, stage, image: plain options in, what was found or done out
//! output      tables, JSON, settings, the policy
//! oci         delivery as a flat image
//! container   what a container with these mounts sees, and whether GL loads in it
//! gl          what GL is made of, and how it is laid out
//! loader      the dynamic loader: ELF files, where libraries are searched
//! tree        file trees: directories, images, what is mounted over them
//! ```
//!
//! A set is delivered as an image (`oci`) or as a directory of generations, which is the crate `staging`.
//!
//! docs/design.md says why. Nothing of a tree is ever executed, and nothing outside of it is read.

pub mod cli;
pub mod commands;
pub mod container;
pub mod gl;
pub mod loader;
pub mod oci;
pub mod output;
pub mod tree;
