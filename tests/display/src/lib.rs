//! What stands between a pod that the policy returned and a QEMU whose GL display comes up.
//!
//! [`pod`] reads the pod, [`realise`] makes its compute container out of a node's and an image's root as kubelet and runtime
//! would, [`qmp`] talks to the QEMU in it. A test tool, not a product: the tests are in `tests/suite`.

pub mod pod;
pub mod qmp;
pub mod realise;
