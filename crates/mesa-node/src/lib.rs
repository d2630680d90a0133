//! What runs beside a VM, a hook of `KubeVirt`'s that gives the libvirt domain its GL display; and on a node, for clusters
//! whose pods cannot mount an image ([`node`]).
//!
//! A call of the hook goes through the modules in one direction:
//!
//! ```text
//! virt-launcher ─ socket ─ service ─ domain ─ answer
//!                   │         │         ├─ document  what is in the XML, and where
//!                   │         │         └─ edit      what is to be written there
//!                   │         └─ log    one line for each call
//!                   └─ server           from start to SIGTERM
//! ```
//!
//! [`mod@domain`] has every rule, as a pure function. [`api`] has the messages of `KubeVirt`'s interfaces, [`service`] answers
//! them, [`server`] and [`socket`] listen. Only [`cli`] knows a flag's name.

pub mod api;
pub mod cli;
pub mod domain;
pub mod log;
pub mod node;
pub mod server;
pub mod service;
pub mod socket;
pub mod stop;
