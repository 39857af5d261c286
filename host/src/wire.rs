//! What goes over the wire between hosts: the host's own service, and the metadata of each call.
//!
//! Leaf module: `connections` writes this metadata and asks the service, `serve` reads and answers. What a refusal looks
//! like is in [`plugin_api::refusal`].

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
pub use plugin_api::call::set_timeout;
use plugin_api::identity::{Role, ServerId};
use plugin_api::state::StateCode;

/// The messages, the client and the server of `componenthost.v1.Host`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("componenthost.v1");

    /// The encoded `FileDescriptorSet` of these messages, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/host_descriptors.bin"));
}

/// The names of a call's metadata.
pub mod metadata {
    use http::HeaderName;

    /// The cluster that is meant. Milvus' name.
    pub const CLUSTER: HeaderName = HeaderName::from_static("cluster");
    /// The server id that is meant, a decimal. Milvus' name.
    pub const SERVER_ID: HeaderName = HeaderName::from_static("serverid");
    /// The role that is meant.
    pub const ROLE: HeaderName = HeaderName::from_static("componenthost-role");
    /// For how long the call waits until its peer is ready, in milliseconds. Read by the caller's own host; never sent.
    pub const WAIT_MS: HeaderName = HeaderName::from_static("componenthost-wait-ms");
    /// How long the call may last; gRPC's name.
    pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
}

/// Whom a call means. Each part that is there must match the host that gets it; foreign clients send none.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Addressee {
    /// The cluster.
    pub cluster: Option<String>,
    /// The host process.
    pub server_id: Option<ServerId>,
    /// The role.
    pub role: Option<Role>,
}

/// A piece of a call's metadata that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the metadata '{name}' holds {value:?}, which is no {expected}")]
pub struct BadMetadata {
    name: HeaderName,
    value: HeaderValue,
    expected: &'static str,
}

impl Addressee {
    /// What the metadata of a call says.
    ///
    /// # Errors
    ///
    /// Where a part is there and cannot be read: such a call means nobody here.
    pub fn read(headers: &HeaderMap) -> Result<Self, BadMetadata> {
        Ok(Self {
            cluster: read(headers, &metadata::CLUSTER, "cluster's name", |text| Some(text.to_owned()))?,
            server_id: read(headers, &metadata::SERVER_ID, "server id", |text| text.parse().ok())?,
            role: read(headers, &metadata::ROLE, "role", |text| text.parse().ok())?,
        })
    }

    /// As metadata, made once for many calls.
    pub fn metadata(&self) -> AddresseeMetadata {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).ok();
        AddresseeMetadata([
            (metadata::CLUSTER, self.cluster.as_deref().and_then(value)),
            (metadata::SERVER_ID, self.server_id.map(|id| HeaderValue::from(id.0))),
            (metadata::ROLE, self.role.as_ref().and_then(|role| value(role.as_str()))),
        ])
    }
}

/// An [`Addressee`] as metadata.
#[derive(Clone, Debug)]
pub struct AddresseeMetadata([(HeaderName, Option<HeaderValue>); 3]);

impl AddresseeMetadata {
    /// Writes the parts that are there, in place of whatever the metadata said before.
    pub fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            match value {
                Some(value) => drop(headers.insert(name, value.clone())),
                None => drop(headers.remove(name)),
            }
        }
    }
}

/// For how long a call says that it waits until its peer is ready.
///
/// # Errors
///
/// Where the metadata is there and is no number of milliseconds.
pub fn wait(headers: &HeaderMap) -> Result<Option<Duration>, BadMetadata> {
    read(headers, &metadata::WAIT_MS, "number of milliseconds", |text| text.parse().ok().map(Duration::from_millis))
}

/// How long a call may last, where it says so.
///
/// # Errors
///
/// Where the metadata is there and is not what gRPC's specification asks for: at most eight digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, BadMetadata> {
    read(headers, &metadata::TIMEOUT, "duration of gRPC's", plugin_api::call::parse_timeout)
}

fn read<T>(
    headers: &HeaderMap,
    name: &HeaderName,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, BadMetadata> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    std::str::from_utf8(value.as_bytes()).ok().and_then(parse).map(Some).ok_or_else(|| BadMetadata {
        name: name.clone(),
        value: value.clone(),
        expected,
    })
}

impl From<StateCode> for v1::StateCode {
    fn from(code: StateCode) -> Self {
        match code {
            StateCode::Initializing => Self::Initializing,
            StateCode::Healthy => Self::Healthy,
            StateCode::Abnormal => Self::Abnormal,
            StateCode::StandBy => Self::StandBy,
            StateCode::Stopping => Self::Stopping,
        }
    }
}

impl From<v1::StateCode> for StateCode {
    fn from(code: v1::StateCode) -> Self {
        match code {
            v1::StateCode::Initializing => Self::Initializing,
            v1::StateCode::Healthy => Self::Healthy,
            v1::StateCode::Abnormal => Self::Abnormal,
            v1::StateCode::StandBy => Self::StandBy,
            v1::StateCode::Stopping => Self::Stopping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn an_addressee_survives_the_wire() {
        let meant = Addressee {
            cluster: Some("cluster-é".to_owned()),
            server_id: Some(ServerId(7)),
            role: Some(Role::new("querynode").expect("a role")),
        };
        let mut sent = headers(&[("serverid", "3"), ("cluster", "another")]);
        meant.metadata().write(&mut sent);
        assert_eq!(Addressee::read(&sent), Ok(meant));
    }

    #[test]
    fn a_foreign_client_means_anybody() {
        assert_eq!(Addressee::read(&HeaderMap::new()), Ok(Addressee::default()));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (name, value) in [("serverid", "x1"), ("componenthost-role", "Query-Node")] {
            let error = Addressee::read(&headers(&[(name, value)])).expect_err(value);
            assert!(error.to_string().contains(name) && error.to_string().contains(value), "{error}");
        }
        assert!(wait(&headers(&[("componenthost-wait-ms", "-1")])).is_err());
    }

    #[test]
    fn a_wait_survives_the_wire() {
        let mut sent = HeaderMap::new();
        assert_eq!(wait(&sent), Ok(None));
        sent.insert(metadata::WAIT_MS, HeaderValue::from(250));
        assert_eq!(wait(&sent), Ok(Some(Duration::from_millis(250))));
    }

    #[test]
    fn timeouts_are_read_as_the_specification_has_them() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(timeout(&headers(&[("grpc-timeout", text)])), Ok(Some(expected)));
        }
        for bad in ["", "S", "123456789S", "1x", "+1S", "1é"] {
            let value = HeaderValue::from_bytes(bad.as_bytes()).expect("a header's value");
            let headers = HeaderMap::from_iter([(metadata::TIMEOUT, value)]);
            assert!(timeout(&headers).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_timeout_survives_the_wire() {
        for (timeout, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_millis(50), "50000000n"),
            (Duration::from_millis(1500), "1500000u"),
            (Duration::from_secs(60 * 60 * 24), "86400000m"),
            (Duration::from_secs(60 * 60 * 24 * 365), "31536000S"),
            (Duration::MAX, "99999999H"),
        ] {
            let mut sent = HeaderMap::new();
            set_timeout(&mut sent, timeout);
            assert_eq!(sent.get(metadata::TIMEOUT).map(HeaderValue::as_bytes), Some(text.as_bytes()));
            assert!(timeout == Duration::MAX || super::timeout(&sent) == Ok(Some(timeout)), "{text}");
        }
    }

    #[test]
    fn state_codes_have_the_same_numbers_and_names_on_both_sides() {
        for code in StateCode::ALL {
            let sent = v1::StateCode::from(code);
            assert_eq!((sent as i32, sent.as_str_name()), (code.number(), code.as_str()));
            assert_eq!(StateCode::from(sent), code);
        }
    }
}
