//! virt-launcher's part: a client of the hook's interfaces.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use mesa_node::api::{
    INFO, InfoParams, InfoResult, MUTATE_DOMAIN, MutateDomainRequest, MutateDomainResponse,
    ON_DEFINE_DOMAIN, OnDefineDomainParams, OnDefineDomainResult,
};
use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// What virt-launcher says of the VM.
pub(crate) const VMI: &str =
    r#"{"metadata": {"namespace": "default", "name": "demo", "uid": "0-1"}}"#;

#[derive(Clone)]
pub(crate) struct Client(Grpc<Channel>);

impl Client {
    pub(crate) async fn connect(socket: &Path) -> Self {
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint
            .connect_with_connector(Connector(socket.to_owned()))
            .await;
        let large = 64 << 20;
        Client(Grpc::new(channel.unwrap()).max_decoding_message_size(large))
    }

    pub(crate) async fn info(&self) -> InfoResult {
        self.call(INFO, InfoParams {}).await.unwrap()
    }

    pub(crate) async fn on_define_domain(&self, domain: &str, vmi: &str) -> Result<String, Status> {
        let params = OnDefineDomainParams {
            domain_xml: domain.to_owned().into(),
            vmi: vmi.to_owned().into(),
        };
        let result: OnDefineDomainResult = self.call(ON_DEFINE_DOMAIN, params).await?;
        Ok(String::from_utf8(result.domain_xml.into()).unwrap())
    }

    pub(crate) async fn mutate_domain(&self, kind: &str, domain: &str) -> Result<String, Status> {
        let request = MutateDomainRequest {
            domain_type: kind.to_owned(),
            domain: domain.to_owned().into(),
            vmi: VMI.into(),
            sidecar_context: None,
        };
        let response: MutateDomainResponse = self.call(MUTATE_DOMAIN, request).await?;
        Ok(String::from_utf8(response.domain.into()).unwrap())
    }

    pub(crate) async fn call<I, O>(&self, path: &'static str, message: I) -> Result<O, Status>
    where
        I: Message + 'static,
        O: Message + Default + 'static,
    {
        let mut client = self.0.clone();
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        let codec = ProstCodec::<I, O>::default();
        Ok(client
            .unary(Request::new(message), path, codec)
            .await?
            .into_inner())
    }
}

struct Connector(PathBuf);

impl Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(UnixStream::connect(path).await?)) })
    }
}
