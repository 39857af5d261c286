//! The connection to a member, with our token in each request.
//!
//! `etcd_client` takes a token when it connects, and again only for one of the two answers that ask for it; the streams that
//! are made here would have none.

use std::task::{Context, Poll};

use http::{HeaderName, Request, Response};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::etcd::credentials::Token;

const HEADER: HeaderName = HeaderName::from_static("token");

/// Carries none: etcd refuses to give a token to who shows one that it has forgotten.
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// A connection whose requests carry the token of the moment at which they are sent.
#[derive(Clone)]
pub(super) struct TokenChannel {
    inner: Channel,
    token: Token,
}

impl TokenChannel {
    pub(super) fn new(inner: Channel, token: Token) -> Self {
        Self { inner, token }
    }

    pub(super) fn into_client(self) -> etcd_client::Channel {
        etcd_client::Channel::Custom(BoxCloneSyncService::new(self.map_err(Into::into)))
    }
}

impl Service<Request<Body>> for TokenChannel {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let token = self.token.load_full().filter(|_| request.uri().path() != AUTHENTICATE);
        if let Some(token) = token {
            request.headers_mut().insert(HEADER, (*token).clone());
        }
        Service::call(&mut self.inner, request)
    }
}
