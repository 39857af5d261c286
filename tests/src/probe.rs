//! Configurations of the probe, and requests to it, as tests need them most.

use std::path::Path;

use probe_plugin::v1::{
    CallKind, CallRequest, Chunk, Empty, Ending, FailRequest, HoldRequest, PanicRequest, ending::How,
};
use serde_json::{Value, json};
use tonic::Code;

use crate::client::Probe;
use crate::eventually::{eventually, holds};
use crate::host::LIMIT;

/// The configuration of a probe that is a node and calls nobody.
pub fn node() -> Value {
    json!({ "kind": "node" })
}

/// The configuration of a probe that is exclusive and calls nobody.
pub fn coordinator() -> Value {
    json!({ "kind": "coordinator" })
}

/// The configuration of a probe that calls the active coordinators of these roles.
pub fn calling(roles: &[&str]) -> Value {
    let dependencies: Vec<_> = roles.iter().map(|role| json!({ "role": role, "kind": "coordinator" })).collect();
    json!({ "kind": "coordinator", "dependencies": dependencies })
}

/// The configuration of a probe that calls the nodes of this role.
pub fn calling_nodes(role: &str) -> Value {
    json!({ "kind": "coordinator", "dependencies": [{ "role": role, "kind": "node" }] })
}

/// The configuration of a probe with a fault in a method of its life, for as long as the file is there.
pub fn faulty(method: &str, how: &str, while_file: &Path) -> Value {
    json!({ "kind": "coordinator", "faults": { method: { "how": how, "while": while_file } } })
}

/// A call of this kind to a role.
pub fn call(role: &str, kind: CallKind) -> CallRequest {
    CallRequest { role: role.to_owned(), kind: kind.into(), count: 3, size: 1000, ..CallRequest::default() }
}

/// A call that is held until it is released by this key.
pub fn hold(key: &str) -> HoldRequest {
    HoldRequest { key: key.to_owned(), limit_ms: 0 }
}

/// An ending with this status.
pub fn failing(code: Code, message: &str) -> Ending {
    let fail = FailRequest { code: code.into(), message: message.to_owned(), ..FailRequest::default() };
    Ending { how: Some(How::Fail(fail)) }
}

/// An ending with a panic.
pub fn panicking() -> Ending {
    Ending { how: Some(How::Panic(PanicRequest { message: "as asked".to_owned() })) }
}

/// A chunk of data.
pub fn chunk(data: &[u8]) -> Chunk {
    Chunk { data: data.to_vec(), ending: None }
}

/// A chunk that ends the stream in this way.
pub fn last_chunk(ending: Ending) -> Chunk {
    Chunk { data: Vec::new(), ending: Some(ending) }
}

/// Waits until the probe holds so many calls.
pub async fn held(probe: &Probe, running: u64) {
    eventually(LIMIT, || async {
        let count = probe.clone().held(Empty {}).await.map_err(|status| status.to_string())?.into_inner();
        holds(count.running == running, count).map_err(|count| format!("{count:?}"))
    })
    .await;
}

/// Waits until so many held calls of the probe were dropped before they were released.
pub async fn dropped(probe: &Probe, dropped: u64) {
    eventually(LIMIT, || async {
        let count = probe.clone().held(Empty {}).await.map_err(|status| status.to_string())?.into_inner();
        holds(count.dropped == dropped, count).map_err(|count| format!("{count:?}"))
    })
    .await;
}

/// Makes the probe call until the call goes through.
pub async fn reaches(probe: &Probe, request: &CallRequest) {
    eventually(LIMIT, || async {
        let seen = probe.clone().call(request.clone()).await.map_err(|status| status.to_string())?.into_inner();
        holds(seen.code == 0, seen).map_err(|seen| format!("{seen:?}"))
    })
    .await;
}
