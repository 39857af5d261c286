//! The plugin: it is called, or it calls a role.

use plugin_api::{BoxError, Channel, Component, Context, Dependency, Descriptor, Role, Services, async_trait};
use serde::Deserialize;
use std::time::Duration;
use tonic::{Request, Response, Status};

use crate::target::Target;
use crate::v1::caller_server::{Caller, CallerServer};
use crate::v1::target_server::TargetServer;
use crate::v1::{Measured, Volley};
use crate::volley;

/// Whoever is called is there within this time.
const LIMIT: Duration = Duration::from_secs(10);

/// Its configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchConfig {
    /// The role that it calls; where it is not given, it is called.
    calls: Option<Role>,
}

/// The component.
pub struct Bench {
    calls: Option<Role>,
}

impl Bench {
    /// As it is configured.
    ///
    /// # Errors
    ///
    /// None.
    pub fn new(config: BenchConfig) -> Result<Self, BoxError> {
        Ok(Self { calls: config.calls })
    }
}

#[async_trait]
impl Component for Bench {
    fn descriptor(&self) -> Descriptor {
        let called = self.calls.as_ref().map(|role| Dependency::nodes(role.as_str()).call_wait(LIMIT));
        let dependencies = called.into_iter().collect();
        Descriptor { dependencies, ..Descriptor::default() }
    }

    async fn start(&self, context: Context) -> Result<Services, BoxError> {
        let services = Services::new();
        Ok(match &self.calls {
            Some(role) => services.serve(CallerServer::new(Calls { channel: context.client(role), context })),
            None => services.serve(TargetServer::new(Target)),
        })
    }
}

/// Calls over the host's links.
struct Calls {
    channel: Channel,
    context: Context,
}

#[tonic::async_trait]
impl Caller for Calls {
    async fn call(&self, request: Request<Volley>) -> Result<Response<Measured>, Status> {
        let spawn = |caller| self.context.spawn("caller", caller);
        volley::fly(vec![self.channel.clone()], request.into_inner(), spawn).await.map(Response::new)
    }
}
