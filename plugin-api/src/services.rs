//! The gRPC services that a component serves: ordinary tonic servers.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::ServiceExt as _;

use crate::error::BoxError;

/// The services of one component, as [`crate::Component::start`] returns them.
#[derive(Default)]
pub struct Services {
    pub(crate) routes: Routes,
    pub(crate) names: Vec<String>,
    pub(crate) descriptor_sets: Vec<Vec<u8>>,
}

impl Services {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more service, such as a tonic-generated `…Server`.
    ///
    /// A service's name may appear once in a host: two components that serve the same name are refused at the start.
    #[must_use]
    pub fn serve<S, B>(mut self, service: S) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.routes = self.routes.add_service(service);
        self.names.push(S::NAME.to_owned());
        self
    }

    /// The same with one more service under another name than its generated one, as `package.Service`.
    ///
    /// For a component whose role, and so the name of whose service, is decided by its configuration.
    #[must_use]
    pub fn serve_as<S, B>(mut self, name: &str, service: S) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<B>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let renamed = service.map_request(|request: Request<_>| {
            let mut request = request.map(Body::new);
            let method = request.uri().path().rsplit('/').next().unwrap_or_default();
            // A path of the two parts of a path is one.
            *request.uri_mut() = format!("/{}/{method}", S::NAME).parse().unwrap_or_default();
            request
        });
        self.routes = self.routes.into_axum_router().route_service(&format!("/{name}/{{*rest}}"), renamed).into();
        self.names.push(name.to_owned());
        self
    }

    /// The same with the encoded `FileDescriptorSet` of its messages, so that reflection, and with it
    /// `componenthost call`, knows them.
    #[must_use]
    pub fn describe(mut self, file_descriptor_set: &[u8]) -> Self {
        self.descriptor_sets.push(file_descriptor_set.to_vec());
        self
    }
}
