//! A cluster of real programs on this machine, gone without a trace when the process ends.
//!
//! [`hosts`] finds the programs and gives them a machine of their own: namespaces. [`cluster`] runs etcd, API server, policy
//! server, containerd and kubelet there. [`webhook`] does what Kubewarden's controller does with a policy, [`image`] makes an
//! image of a directory. A test tool, not a product: the tests are in `tests/suite`.

pub mod cluster;
pub mod hosts;
pub mod image;
pub mod pki;
pub mod webhook;
