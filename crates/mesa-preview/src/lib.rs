//! Shows what a Kubewarden policy does to a pod, without a cluster.
//!
//! A POD file becomes admission requests ([`input`]), a `ClusterAdmissionPolicy` or a settings file becomes the
//! policy's [`definition`], the [`webhook`] says whether the API server would ask at all, the [`server`] asks the policy in its [`engine`] and makes of the answer the
//! [`response`] that the API server would get, and that is printed as it is or as a [`report`] for people.
//!
//! What the server does is what Kubewarden's policy server (and `kwctl run`) does, down to the bytes of the
//! response: a contract test compares them.

pub mod cli;
pub mod definition;
pub mod engine;
pub mod input;
pub mod report;
pub mod request;
pub mod response;
pub mod server;
pub mod webhook;
