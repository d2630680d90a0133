//! What stands between a pod that the policy returned and a picture that QEMU paints with OpenGL.
//!
//! [`pod`] reads the pod, [`realise`] makes its compute container out of a node's and an image's root as kubelet and runtime
//! would. [`qmp`] talks to the QEMU in it, [`qtest`] reaches its machine, [`virtio_gpu`] has the machine's GPU paint, [`vnc`]
//! looks at the screen. A test tool, not a product: the tests are in `tests/suite`.

pub mod pod;
pub mod qmp;
pub mod qtest;
pub mod realise;
pub mod virtio_gpu;
pub mod vnc;
