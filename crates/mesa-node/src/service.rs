//! What is answered to virt-launcher.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use prost::Message;
use prost::bytes::Bytes;
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

use crate::api::{
    self, HookPoint, InfoParams, InfoResult, MutateDomainRequest, MutateDomainResponse,
    OnDefineDomainParams, OnDefineDomainResult,
};
use crate::domain::{self, Outcome, Reason, Wanted};
use crate::log::{self, Level, Vm};

/// How large a call may be: a domain of 16 MB and its VMI. What a call takes is in memory several times.
const LARGEST_CALL: usize = 33 << 20;

/// The hook: it answers a call at a time, and keeps nothing between them.
#[derive(Debug, Clone)]
pub struct Hook {
    wanted: Arc<Wanted>,
}

impl Hook {
    /// A hook that gives domains what is wanted.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Hook {
            wanted: Arc::new(wanted),
        }
    }

    /// Answers a call by its path, in the place of the code that a compiler for the interfaces would write.
    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        match request.uri().path() {
            api::INFO => unary(request, |_: InfoParams| Ok(info())).await,
            api::ON_DEFINE_DOMAIN => unary(request, |call| self.on_define_domain(&call)).await,
            api::MUTATE_DOMAIN => unary(request, |call| self.mutate_domain(&call)).await,
            _ => Status::unimplemented("mesa-injector has no such call").into_http(),
        }
    }

    fn on_define_domain(
        &self,
        call: &OnDefineDomainParams,
    ) -> Result<OnDefineDomainResult, Status> {
        let domain_xml = self.domain("OnDefineDomain", &call.domain_xml, &call.vmi)?;
        Ok(OnDefineDomainResult { domain_xml })
    }

    fn mutate_domain(&self, call: &MutateDomainRequest) -> Result<MutateDomainResponse, Status> {
        if call.domain_type != "libvirt" {
            let vm = Vm::of(&call.vmi);
            let reason = "unchanged: the domain is not written for libvirt";
            log::call(Level::Warning, "MutateDomain", &vm, reason);
            let domain = call.domain.clone();
            return Ok(MutateDomainResponse { domain });
        }
        let domain = self.domain("MutateDomain", &call.domain, &call.vmi)?;
        Ok(MutateDomainResponse { domain })
    }

    /// The domain that is to be defined, after a line in the log.
    fn domain(&self, call: &str, xml: &Bytes, vmi: &Bytes) -> Result<Bytes, Status> {
        let vm = Vm::of(vmi);
        match domain::with_display(xml, &self.wanted) {
            Ok(outcome) => {
                log::call(level(&outcome), call, &vm, &outcome.to_string());
                Ok(match outcome {
                    Outcome::Changed(changed) => changed.xml.into(),
                    Outcome::Unchanged(_) => xml.clone(),
                })
            }
            Err(error) => {
                log::call(Level::Error, call, &vm, &format!("refused: {error}"));
                let text = format!("mesa-injector cannot give the VM a GL display: {error}");
                Err(Status::invalid_argument(text))
            }
        }
    }
}

/// A decision of somebody else may be right or not: that is for a person to see.
fn level(outcome: &Outcome) -> Level {
    match outcome {
        Outcome::Changed(changed) if changed.left_alone.is_empty() => Level::Info,
        Outcome::Unchanged(Reason::NotNeeded) => Level::Info,
        Outcome::Unchanged(Reason::Complete(left_alone)) if left_alone.is_empty() => Level::Info,
        _ => Level::Warning,
    }
}

fn info() -> InfoResult {
    log::say(Level::Info, "virt-launcher has found the hook");
    InfoResult {
        name: "mesa-injector".to_owned(),
        // Not Shutdown: a hook that is called there may not end before it.
        hook_points: vec![HookPoint {
            name: "OnDefineDomain".to_owned(),
            priority: 0,
        }],
        versions: vec!["v1alpha3".to_owned()],
    }
}

async fn unary<I, O, F>(request: http::Request<Body>, answer: F) -> http::Response<Body>
where
    I: Message + Default + 'static,
    O: Message + Default + 'static,
    F: FnMut(I) -> Result<O, Status>,
{
    Grpc::new(ProstCodec::<O, I>::default())
        .max_decoding_message_size(LARGEST_CALL)
        .unary(Unary(answer), request)
        .await
}

/// A function as tonic calls it.
struct Unary<F>(F);

impl<I, O, F> UnaryService<I> for Unary<F>
where
    F: FnMut(I) -> Result<O, Status>,
{
    type Response = O;
    type Future = Ready<Result<Response<O>, Status>>;

    fn call(&mut self, request: Request<I>) -> Self::Future {
        ready((self.0)(request.into_inner()).map(Response::new))
    }
}

impl Service<http::Request<Body>> for Hook {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.clone().answer(request);
        Box::pin(async move { Ok(answer.await) })
    }
}
