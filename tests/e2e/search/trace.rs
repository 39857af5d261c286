//! One search is one trace, over all hosts that it reaches.

use std::collections::HashMap;

use proto::rootcoord::v1::MetricType;
use serde_json::json;
use tests::log::LogLine;
use tests::{LIMIT, eventually};

use super::reference::parts;
use super::scene::{NAME, Scene, Settings, dice};

/// A call that a host has served, as its log tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Served {
    role: String,
    span_id: String,
    parent: Option<String>,
    status: String,
}

impl Served {
    fn of(line: &LogLine, trace_id: &str) -> Option<Self> {
        let text = |name| line.text(name);
        (line.message() == "served" && text("trace_id").as_deref() == Some(trace_id)).then(|| Self {
            role: text("role").unwrap_or_default(),
            span_id: text("span_id").unwrap_or_default(),
            parent: text("parent_span_id"),
            status: text("status").unwrap_or_default(),
        })
    }
}

impl Scene {
    /// What all hosts have served of a trace, once both nodes have.
    async fn served(&self, trace_id: &str) -> Vec<Served> {
        eventually(LIMIT, async || {
            let nodes = self.nodes();
            let hosts = [&self.rootcoord, &self.querycoord].into_iter().chain(nodes.iter().map(AsRef::as_ref));
            let lines = hosts.flat_map(tests::Host::log);
            let served: Vec<_> = lines.filter_map(|line| Served::of(&line, trace_id)).collect();
            let of = |role| served.iter().filter(|served| served.role == role).count();
            if of("querynode") == 2 && of("querycoord") == 1 { Ok(served) } else { Err(served) }
        })
        .await
    }
}

#[tokio::test]
async fn a_search_is_one_trace_whose_parents_chain() {
    let logged = ("telemetry.log", json!("info,componenthost::calls=debug"));
    let scene = Scene::with(Settings { all: vec![logged], ..Settings::nodes(2) }).await;
    let mut dice = dice();
    let collection = scene.create(NAME, MetricType::L2, parts(&mut dice, [100, 100], 8)).await;
    scene.load(NAME, 1).await.expect("a loaded collection");
    let question = collection.any_question(&mut dice, 1, 1);
    let request = || question.request(LIMIT);
    let (trace_id, ours) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let mut traced = request();
    let parent = format!("00-{trace_id}-{ours}-01");
    traced.metadata_mut().insert("traceparent", parent.parse().expect("a value"));
    scene.querycoord.querycoord().await.search(traced).await.expect("found");

    let served = scene.served(trace_id).await;
    let roles: HashMap<&str, &str> =
        served.iter().map(|served| (served.span_id.as_str(), served.role.as_str())).collect();
    assert_eq!(roles.len(), served.len(), "each call has a span of its own: {served:?}");
    for call in &served {
        let parent = call.parent.as_deref().expect("a parent");
        match call.role.as_str() {
            "querycoord" => assert_eq!(parent, ours),
            _ => assert_eq!(roles.get(parent), Some(&"querycoord"), "{call:?} in {served:?}"),
        }
        assert_eq!(call.status, "Ok");
    }

    // Where nobody has begun a trace, the first host does.
    scene.querycoord.querycoord().await.search(request()).await.expect("found");
    let begun = scene.querycoord.logged(|line| {
        line.message() == "served"
            && line.text("method").is_some_and(|method| method.ends_with("/Search"))
            && line.text("parent_span_id").is_none()
    });
    let begun = begun.await.text("trace_id").expect("a trace");
    let served = scene.served(&begun).await;
    assert_eq!(served.iter().filter(|served| served.parent.is_none()).count(), 1, "{served:?}");
}
