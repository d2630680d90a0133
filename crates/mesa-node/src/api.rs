//! The messages of `KubeVirt`'s interfaces, as far as they are spoken here.
//!
//! Written by hand from `pkg/hooks/info/api_info.proto`, `pkg/hooks/v1alpha3/api_v1alpha3.proto` and
//! `pkg/hooks/plugins/v1alpha1/api.proto` of `KubeVirt` 1.9.0: so few messages are not worth a compiler for them.

use prost::Message;
use prost::bytes::Bytes;

/// What virt-launcher asks every hook, before anything else.
pub const INFO: &str = "/kubevirt.hooks.info.Info/Info";
/// What virt-launcher asks a hook whenever it defines a domain.
pub const ON_DEFINE_DOMAIN: &str = "/kubevirt.hooks.v1alpha3.Callbacks/OnDefineDomain";
/// The same for a Plugin's sidecar (`KubeVirt` 1.9 and newer).
pub const MUTATE_DOMAIN: &str = "/kubevirt.hooks.plugins.v1alpha1.DomainHookService/MutateDomain";

/// Asks who the hook is.
#[derive(Clone, PartialEq, Message)]
pub struct InfoParams {}

/// Who the hook is.
#[derive(Clone, PartialEq, Message)]
pub struct InfoResult {
    /// The hook's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// When it is to be called.
    #[prost(message, repeated, tag = "3")]
    pub hook_points: Vec<HookPoint>,
    /// The versions of the interface that it speaks.
    #[prost(string, repeated, tag = "4")]
    pub versions: Vec<String>,
}

/// When a hook is to be called.
#[derive(Clone, PartialEq, Message)]
pub struct HookPoint {
    /// The call's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Of several hooks the one with the highest comes first.
    #[prost(int32, tag = "2")]
    pub priority: i32,
}

/// A domain that is about to be defined.
#[derive(Clone, PartialEq, Message)]
pub struct OnDefineDomainParams {
    /// libvirt's XML.
    #[prost(bytes = "bytes", tag = "1")]
    pub domain_xml: Bytes,
    /// The VMI, as JSON.
    #[prost(bytes = "bytes", tag = "2")]
    pub vmi: Bytes,
}

/// The domain that is to be defined instead.
#[derive(Clone, PartialEq, Message)]
pub struct OnDefineDomainResult {
    /// libvirt's XML.
    #[prost(bytes = "bytes", tag = "1")]
    pub domain_xml: Bytes,
}

/// A domain that is about to be defined, for a Plugin.
#[derive(Clone, PartialEq, Message)]
pub struct MutateDomainRequest {
    /// What the domain is written for: `libvirt`.
    #[prost(string, tag = "1")]
    pub domain_type: String,
    /// The domain.
    #[prost(bytes = "bytes", tag = "2")]
    pub domain: Bytes,
    /// The VMI, as JSON.
    #[prost(bytes = "bytes", tag = "3")]
    pub vmi: Bytes,
    /// Why it is asked.
    #[prost(message, optional, tag = "4")]
    pub sidecar_context: Option<SidecarContext>,
}

/// Why a Plugin is asked.
#[derive(Clone, PartialEq, Message)]
pub struct SidecarContext {
    /// The operation that it is asked in.
    #[prost(string, tag = "1")]
    pub invocation_context: String,
}

/// The domain that is to be defined instead, from a Plugin.
#[derive(Clone, PartialEq, Message)]
pub struct MutateDomainResponse {
    /// The domain.
    #[prost(bytes = "bytes", tag = "1")]
    pub domain: Bytes,
}
