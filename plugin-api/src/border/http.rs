//! Requests and responses across the border: parts, headers in one flat buffer, and a body that is polled across.

use abi_stable::StableAbi;
use abi_stable::std_types::{RString, RVec};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use tokio::runtime::Handle;
use tonic::body::Body;

use super::body::FfiBody;

/// A gRPC request. Its method and HTTP version are always the same, so they do not cross.
#[repr(C)]
#[derive(StableAbi)]
pub struct FfiRequest {
    path: RString,
    headers: RVec<u8>,
    body: FfiBody,
}

/// A gRPC response.
#[repr(C)]
#[derive(StableAbi)]
pub struct FfiResponse {
    status: u16,
    headers: RVec<u8>,
    body: FfiBody,
}

impl FfiRequest {
    /// Hands a request over; the body uses this runtime of the sending side.
    pub fn new(runtime: &Handle, request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Self { path: path.into(), headers: encode_headers(&parts.headers), body: FfiBody::new(runtime, body) }
    }

    /// Takes a request over.
    pub fn into_http(self) -> Request<Body> {
        let mut request = Request::new(self.body.into_body());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        // What was a path on the other side parses here too; should it not, routing answers UNIMPLEMENTED for `/`.
        *request.uri_mut() = Uri::try_from(self.path.as_str()).unwrap_or_default();
        *request.headers_mut() = decode_headers(&self.headers);
        request
    }
}

impl FfiResponse {
    /// Hands a response over; the body uses this runtime of the sending side.
    pub fn new(runtime: &Handle, response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            status: parts.status.as_u16(),
            headers: encode_headers(&parts.headers),
            body: FfiBody::new(runtime, body),
        }
    }

    /// Takes a response over.
    pub fn into_http(self) -> Response<Body> {
        let mut response = Response::new(self.body.into_body());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.version_mut() = Version::HTTP_2;
        *response.headers_mut() = decode_headers(&self.headers);
        response
    }
}

/// For each header: length of the name (u16), length of the value (u32), name, value; little-endian.
pub(super) fn encode_headers(headers: &HeaderMap) -> RVec<u8> {
    let size = headers.iter().map(|(name, value)| HEADER_PREFIX + name.as_str().len() + value.len()).sum();
    let mut buffer = Vec::with_capacity(size);
    for (name, value) in headers {
        let name = name.as_str().as_bytes();
        // `http` allows names up to 65,535 bytes, and no value comes near 4 GiB.
        let (Ok(name_length), Ok(value_length)) = (u16::try_from(name.len()), u32::try_from(value.len())) else {
            continue;
        };
        buffer.extend_from_slice(&name_length.to_le_bytes());
        buffer.extend_from_slice(&value_length.to_le_bytes());
        buffer.extend_from_slice(name);
        buffer.extend_from_slice(value.as_bytes());
    }
    buffer.into()
}

const HEADER_PREFIX: usize = 2 + 4;

/// The headers in such a buffer; what is cut short or no header is left out.
pub(super) fn decode_headers(buffer: &[u8]) -> HeaderMap {
    // As much as is needed: room for more is a large block of memory, which allocators are slow to give.
    let mut headers = HeaderMap::with_capacity(headers_in(buffer).count());
    for (name, value) in headers_in(buffer) {
        if let (Some(name), Some(value)) = (decode_name(name), decode_value(value)) {
            headers.append(name, value);
        }
    }
    headers
}

fn headers_in(mut rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (name, value, after) = split_header(rest)?;
        rest = after;
        Some((name, value))
    })
}

/// A name. Those that nearly every call has need no memory of their own.
fn decode_name(name: &[u8]) -> Option<HeaderName> {
    Some(match name {
        b"grpc-status" => HeaderName::from_static("grpc-status"),
        b"grpc-timeout" => HeaderName::from_static("grpc-timeout"),
        b"traceparent" => HeaderName::from_static("traceparent"),
        b"cluster" => HeaderName::from_static("cluster"),
        b"componenthost-role" => HeaderName::from_static("componenthost-role"),
        b"serverid" => HeaderName::from_static("serverid"),
        // http knows `content-type`, `te`, `user-agent` and the like.
        _ => return HeaderName::from_bytes(name).ok(),
    })
}

/// A value, likewise.
fn decode_value(value: &[u8]) -> Option<HeaderValue> {
    Some(match value {
        b"application/grpc" => HeaderValue::from_static("application/grpc"),
        b"trailers" => HeaderValue::from_static("trailers"),
        // The status of what went well.
        b"0" => HeaderValue::from_static("0"),
        _ => return HeaderValue::from_bytes(value).ok(),
    })
}

fn split_header(buffer: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name_length, rest) = buffer.split_first_chunk::<2>()?;
    let (value_length, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*name_length)))?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
    Some((name, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_crossing() {
        let mut headers = HeaderMap::new();
        headers.append("a", HeaderValue::from_static(""));
        headers.append("a", HeaderValue::from_static("twice"));
        headers.append("bin-bin", HeaderValue::from_bytes(&[0x80, 0xff, b' ']).expect("opaque bytes are allowed"));
        headers.append("grpc-status", HeaderValue::from_static("0"));
        headers.append("te", HeaderValue::from_static("trailers"));
        headers.append("traceparent", HeaderValue::from_static("00-0-0-01"));
        headers.append("long", HeaderValue::from_bytes(&vec![b'x'; 70_000]).expect("a long value"));
        assert_eq!(decode_headers(&encode_headers(&headers)), headers);
    }

    #[test]
    fn a_cut_buffer_gives_what_is_whole() {
        let mut headers = HeaderMap::new();
        headers.append("first", HeaderValue::from_static("1"));
        headers.append("second", HeaderValue::from_static("2"));
        let whole = encode_headers(&headers);
        for length in 0..whole.len() {
            assert!(decode_headers(&whole[..length]).len() <= 1);
        }
    }
}
