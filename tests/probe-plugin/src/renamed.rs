//! The probe's service under the name of its role, since a service's name is unique in a host.

use std::task::{self, Poll};

use bytes::Bytes;
use plugin_api::error::BoxError;
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic::body::Body;
use tower::Service;

use crate::v1::probe_client::ProbeClient;

/// The encoded descriptors of `probe.proto`.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe.bin"));

/// The name that the generated code has for the service.
const GENERATED: &str = "probe.v1.Probe";

/// The name under which the probe of this role is served.
pub fn service_name(role: &str) -> String {
    format!("componenthost.{role}.v1.Probe")
}

/// A client of the probe in this role.
pub fn client<S, B>(channel: S, role: &str) -> ProbeClient<Renamed<S>>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    // As much as a test sends at once; 4 MiB is tonic's default.
    let limit = 64 << 20;
    let renamed = Renamed { channel, service: service_name(role) };
    ProbeClient::new(renamed).max_decoding_message_size(limit).max_encoding_message_size(limit)
}

/// The descriptors with the service under its role's name, for reflection.
pub fn descriptors(role: &str) -> Vec<u8> {
    let mut set = FileDescriptorSet::decode(DESCRIPTORS).expect("the build script has encoded it");
    let services = set.file.iter_mut().flat_map(|file| std::mem::take(&mut file.service)).collect();
    let dependency = set.file.iter().filter_map(|file| file.name.clone()).collect();
    let (package, _) = GENERATED.rsplit_once('.').expect("a name with a package");
    set.file.push(FileDescriptorProto {
        name: Some(format!("probe_{role}.proto")),
        package: Some(format!("componenthost.{role}.{}", package.rsplit('.').next().unwrap_or_default())),
        dependency,
        service: services,
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    });
    set.encode_to_vec()
}

/// A channel that calls the probe's service by its role's name.
#[derive(Clone, Debug)]
pub struct Renamed<S> {
    channel: S,
    service: String,
}

impl<S, B> Service<http::Request<B>> for Renamed<S>
where
    S: Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let path = request.uri().path().replacen(GENERATED, &self.service, 1);
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(path.parse().expect("two valid names and a method are a path"));
        *request.uri_mut() = http::Uri::from_parts(parts).expect("only the path is another");
        self.channel.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reflection_knows_the_service_by_its_role() {
        let set = FileDescriptorSet::decode(descriptors("alpha").as_slice()).expect("a descriptor set");
        let file = set.file.iter().find(|file| !file.service.is_empty()).expect("one file has the service");
        assert_eq!(format!("{}.{}", file.package(), file.service[0].name()), service_name("alpha"));
        assert_eq!(file.service[0].method[0].input_type(), ".probe.v1.EchoRequest");
    }
}
