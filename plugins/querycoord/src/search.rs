//! A search: sent to all nodes that hold a segment of the collection, at the same time, and merged.
//!
//! An answer of which a segment is missing is partial and says so, with the reason. Where none could be searched there is
//! no answer.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use proto::batch::Packed;
use proto::order;
use proto::querycoord::v1::{MissingSegment, SearchResponse};
use proto::querynode::v1::{SearchRequest, SearchResult};
use proto::rootcoord::v1::MetricType;
use tonic::{Code, Status};

use crate::cluster::Cluster;
use crate::limit::limited;
use crate::serving::Serving;

/// Searches by this plan. The second answer is the nodes that turned out not to hold what the plan has on them.
pub(crate) async fn search(
    cluster: &impl Cluster,
    plan: &Serving,
    batch: &Packed,
    topk: u32,
    limit: Duration,
) -> (Result<SearchResponse, Status>, Vec<(i64, Vec<i64>)>) {
    let mut by_node = BTreeMap::<_, Vec<_>>::new();
    for served in &plan.segments {
        // The first of them can be called, if any can.
        by_node.entry(served.nodes.first().copied()).or_default().push(&served.segment);
    }
    let homeless = by_node.remove(&None).unwrap_or_default();
    let by_node: BTreeMap<_, _> = by_node.into_iter().filter_map(|(node, all)| Some((node?, all))).collect();
    let calls = by_node.iter().map(|(node, segments)| {
        let request = SearchRequest {
            collection_id: plan.collection.id,
            segment_ids: segments.iter().map(|segment| segment.id).collect(),
            topk,
            vectors: Vec::new(),
            packed_vectors: batch.bytes(),
        };
        limited(limit, cluster.search(*node, request))
    });
    let mut found = vec![Vec::new(); batch.len()];
    let (mut missing, mut unsettled) = (Vec::new(), Vec::new());
    missing.extend(homeless.iter().map(|segment| MissingSegment {
        segment_id: segment.id,
        server_ids: Vec::new(),
        reason: "no node holds it".to_owned(),
    }));
    for ((node, segments), answer) in by_node.iter().zip(join_all(calls).await) {
        let error = match answer {
            Ok(results) if results.len() == batch.len() => {
                for (found, result) in found.iter_mut().zip(results) {
                    found.extend(result.hits);
                }
                continue;
            }
            Ok(results) => Status::internal(format!("it answered {} of {} queries", results.len(), batch.len())),
            Err(status) => status,
        };
        if error.code() == Code::NotFound {
            unsettled.push((*node, segments.iter().map(|segment| segment.id).collect()));
        }
        let reason = format!("querynode-{node}: {:?}: {}", error.code(), error.message());
        let absent = |id| MissingSegment { segment_id: id, server_ids: vec![*node], reason: reason.clone() };
        missing.extend(segments.iter().map(|segment| absent(segment.id)));
    }
    missing.sort_by_key(|segment| segment.segment_id);
    if !missing.is_empty() && missing.len() == plan.segments.len() {
        return (Err(none_searched(plan, &missing)), unsettled);
    }
    let metric = MetricType::from_str_name(&plan.collection.metric).unwrap_or_default();
    let results = found.into_iter().map(|mut hits| {
        hits.sort_by(|left, right| order::nearer(metric, left, right));
        hits.truncate(topk as usize);
        SearchResult { hits }
    });
    let results = results.collect();
    let partial = !missing.is_empty();
    (Ok(SearchResponse { collection_id: plan.collection.id, results, partial, missing }), unsettled)
}

fn none_searched(plan: &Serving, missing: &[MissingSegment]) -> Status {
    let mut reasons: Vec<_> = missing.iter().map(|segment| segment.reason.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let name = &plan.collection.name;
    Status::unavailable(format!("no segment of collection '{name}' could be searched: {}", reasons.join("; ")))
}
