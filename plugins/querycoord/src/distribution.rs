//! Which node is to hold which segment, and what the nodes say about it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use proto::querycoord::v1::{NodeDistribution, SegmentDistribution, SegmentState};
use proto::records::SegmentRecord;
use tonic::Status;

use crate::cluster::Cluster;
use crate::limit::limited;
use crate::serving::CollectionOverview;

/// All nodes that can be called, and all that the plans name, in the order of their ids.
pub(crate) async fn distribution(
    cluster: &impl Cluster,
    collections: &[CollectionOverview],
    limit: Duration,
) -> Result<Vec<NodeDistribution>, Status> {
    let addresses = cluster.nodes()?;
    let mut wanted: BTreeMap<i64, Vec<&SegmentRecord>> = addresses.keys().map(|node| (*node, Vec::new())).collect();
    for each in collections.iter().flat_map(|collection| &collection.segments) {
        for copy in each.copies.iter().filter(|copy| copy.wanted) {
            wanted.entry(copy.node).or_default().push(&each.segment);
        }
    }
    let ask = |node: i64| {
        let callable = addresses.contains_key(&node);
        async move { if callable { Some(limited(limit, cluster.held(node)).await) } else { None } }
    };
    let answers = join_all(wanted.keys().map(|node| ask(*node))).await;
    let told = wanted.into_iter().zip(answers).map(|((server_id, mut segments), held)| {
        segments.sort_by_key(|segment| segment.id);
        let error = match &held {
            None => "it is not there, or cannot be called".to_owned(),
            Some(Err(status)) => status.message().to_owned(),
            Some(Ok(_)) => String::new(),
        };
        let callable = held.is_some();
        let held = held.map(|held| held.map(BTreeSet::from_iter).ok());
        let state = |segment: &SegmentRecord| match &held {
            None => SegmentState::Unreachable,
            Some(None) => SegmentState::Unknown,
            Some(Some(held)) if held.contains(&segment.id) => SegmentState::Loaded,
            Some(Some(_)) => SegmentState::Missing,
        };
        NodeDistribution {
            server_id,
            address: addresses.get(&server_id).cloned().unwrap_or_default(),
            callable,
            error,
            num_rows: segments.iter().map(|segment| segment.rows).sum(),
            segments: segments
                .into_iter()
                .map(|each| SegmentDistribution {
                    segment: Some(each.clone().into()),
                    state: state(each).into(),
                    error: String::new(),
                })
                .collect(),
            ..NodeDistribution::default()
        }
    });
    Ok(told.collect())
}
