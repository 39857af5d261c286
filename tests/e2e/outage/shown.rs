//! Reading what hosts show of sessions, peers and links.

use serde_json::Value;
use tests::Host;

/// What alpha shows of the nodes.
pub async fn dependency(alpha: &Host) -> Value {
    let view = alpha.connections().await;
    let all = view["dependencies"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|dependency| dependency["role"] == "beta").expect("alpha depends on beta")
}

/// One of a dependency's peers; null where it is not there.
pub fn peer(dependency: &Value, id: i64) -> Value {
    let mut peers = dependency["peers"].as_array().into_iter().flatten();
    peers.find(|peer| peer["server_id"] == id).cloned().unwrap_or_default()
}

/// What a dependency's listeners were told of a peer, in order.
pub fn events_of(dependency: &Value, id: i64) -> Vec<String> {
    let events = dependency["events"].as_array().into_iter().flatten();
    let own = events.filter(|event| event["server_id"] == id);
    own.map(|event| event["event"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Create revision and lease, in hexadecimal digits, of a session or a peer.
pub fn registration(view: &Value) -> Option<(i64, String)> {
    let registration = &view["registration"];
    let lease = registration["lease"].as_str().or(view["lease"].as_str())?;
    Some((registration["create_revision"].as_i64()?, lease.to_owned()))
}
