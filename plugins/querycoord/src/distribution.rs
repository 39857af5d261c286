//! What people are told of the collections that are loaded, and of the nodes: what the engine knows, and what the nodes say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use proto::querycoord::v1::{
    GetDistributionResponse, LackingSegment, LoadedCollection, NodeDistribution, SegmentDistribution, SegmentState,
};
use proto::records::SegmentRecord;
use tonic::Status;

use crate::limit::limited;
use crate::search::Nodes;
use crate::serving::{CollectionOverview, Copy, NodeOverview, Overview, Standing};

/// A node may take so long to say what it holds: one that hangs shall not keep people from what the others say.
const LONGEST: Duration = Duration::from_secs(1);

/// What a node says that it holds, or why it could not be asked.
type Said = Result<BTreeSet<i64>, String>;

/// All nodes that there are, and all that are to hold something, in the order of their ids.
pub(crate) async fn distribution(nodes: &impl Nodes, overview: Overview, limit: Duration) -> GetDistributionResponse {
    let Overview { nodes: known, collections, moves } = overview;
    let known: BTreeMap<_, _> = known.into_iter().map(|node| (node.id, node)).collect();
    let mut copies: BTreeMap<i64, Vec<(&SegmentRecord, &Copy)>> = known.keys().map(|id| (*id, Vec::new())).collect();
    for segment in collections.iter().flat_map(|collection| &collection.segments) {
        for copy in &segment.copies {
            copies.entry(copy.node).or_default().push((&segment.segment, copy));
        }
    }
    let asked = copies.keys().map(|id| ask(nodes, *id, known.get(id), limit.min(LONGEST)));
    let said = join_all(asked).await;
    let told = copies.into_iter().zip(said).map(|((id, copies), said)| describe(id, known.get(&id), copies, said));
    let mut lacking: Vec<_> = collections.iter().flat_map(lacking).collect();
    lacking.sort_by_key(|each| each.segment.as_ref().map(|segment| segment.segment_id));
    GetDistributionResponse { nodes: told.collect(), lacking, num_moves: moves }
}

/// The collections that are loaded, in the order of their ids.
pub(crate) fn loaded_collections(overview: &Overview) -> Vec<LoadedCollection> {
    let callable: BTreeSet<_> = overview.nodes.iter().filter(|node| is_callable(node)).map(|node| node.id).collect();
    let describe = |each: &CollectionOverview| {
        let (mut reachable, mut whole) = (0, 0);
        for segment in &each.segments {
            let held = || segment.copies.iter().filter(|copy| copy.held);
            reachable += u32::from(held().any(|copy| callable.contains(&copy.node)));
            whole += u32::from(held().count() >= each.replica_number as usize);
        }
        LoadedCollection {
            collection: Some(each.collection.clone().into()),
            num_segments: each.segments.len() as u32,
            num_reachable_segments: reachable,
            num_rows: each.segments.iter().map(|segment| segment.segment.rows).sum(),
            replica_number: each.replica_number,
            num_whole_segments: whole,
        }
    };
    overview.collections.iter().map(describe).collect()
}

async fn ask(nodes: &impl Nodes, id: i64, node: Option<&NodeOverview>, limit: Duration) -> Said {
    let unasked = match node.map(|node| node.standing) {
        None => "it is not there",
        Some(Standing::Unreachable) => "it cannot be called: its link is broken, or is being made",
        Some(Standing::GivenUp) => "it cannot be called: no link to it could be made for long",
        Some(Standing::Callable | Standing::Stopping) => {
            let held = limited(limit, nodes.held(id)).await;
            let reason = |status: Status| format!("{:?}: {}", status.code(), status.message());
            return held.map(BTreeSet::from_iter).map_err(reason);
        }
    };
    Err(unasked.to_owned())
}

/// A stopping node is called until it refuses.
fn is_callable(node: &NodeOverview) -> bool {
    matches!(node.standing, Standing::Callable | Standing::Stopping)
}

fn describe(
    server_id: i64,
    node: Option<&NodeOverview>,
    mut copies: Vec<(&SegmentRecord, &Copy)>,
    said: Said,
) -> NodeDistribution {
    let callable = node.is_some_and(is_callable);
    let state = |segment: &SegmentRecord, copy: &Copy| match &said {
        Ok(held) if held.contains(&segment.id) => SegmentState::Loaded,
        _ if copy.loading => SegmentState::Loading,
        _ if !callable => SegmentState::Unreachable,
        _ if !copy.error.is_empty() => SegmentState::Failed,
        Ok(_) => SegmentState::Missing,
        Err(_) => SegmentState::Unknown,
    };
    // One that is not to be there any more and is not there is nothing to tell of.
    let is_told = |segment: &SegmentRecord, copy: &Copy| copy.wanted || state(segment, copy) != SegmentState::Missing;
    copies.retain(|(segment, copy)| is_told(segment, copy));
    copies.sort_by_key(|(segment, _)| segment.id);
    let of_segment = |(segment, copy): &(&SegmentRecord, &Copy)| SegmentDistribution {
        segment: Some((*segment).clone().into()),
        state: state(segment, copy).into(),
        error: copy.error.clone(),
    };
    let next_load = node.and_then(|node| node.next_load).unwrap_or_default();
    NodeDistribution {
        server_id,
        address: node.map(|node| node.address.clone()).unwrap_or_default(),
        callable,
        num_rows: copies.iter().map(|(segment, _)| segment.rows).sum(),
        segments: copies.iter().map(of_segment).collect(),
        error: said.as_ref().err().cloned().unwrap_or_default(),
        stopping: node.is_some_and(|node| node.standing == Standing::Stopping),
        failed_loads: node.map_or(0, |node| node.failed_loads),
        last_load_error: node.map(|node| node.last_load_error.clone()).unwrap_or_default(),
        next_load_ms: u64::try_from(next_load.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX),
    }
}

fn lacking(collection: &CollectionOverview) -> impl Iterator<Item = LackingSegment> {
    collection.segments.iter().filter_map(|each| {
        let (num_lacking, reason) = each.lacking.clone()?;
        Some(LackingSegment { segment: Some(each.segment.clone().into()), num_lacking, reason })
    })
}
