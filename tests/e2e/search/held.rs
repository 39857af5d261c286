//! What the nodes themselves hold, and what QueryCoord says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::querycoord::v1::{GetDistributionRequest, GetDistributionResponse, SegmentDistribution, SegmentState};
use proto::querynode::v1::GetSegmentInfoRequest;
use tests::{Host, eventually, holds};

use super::reference::{Collection, Question};
use super::scene::Scene;

/// The segments that each node holds, by its server id.
pub type Held = BTreeMap<i64, BTreeSet<i64>>;

/// What a node holds, as it says itself.
pub async fn held_by(node: &Host) -> Result<BTreeSet<i64>, String> {
    let info = node.querynode().await.get_segment_info(GetSegmentInfoRequest::default()).await;
    let info = info.map_err(|status| format!("{status:?}"))?.into_inner();
    Ok(info.segments.into_iter().filter_map(|held| Some(held.segment?.segment_id)).collect())
}

impl Scene {
    /// What all nodes hold that run.
    pub async fn held(&self) -> Result<Held, String> {
        let mut held = Held::new();
        for node in self.nodes().iter().filter(|node| node.is_running()) {
            held.insert(node.server_id("querynode").await, held_by(node).await?);
        }
        Ok(held)
    }

    /// The distribution of all collections.
    pub async fn distribution(&self) -> Result<GetDistributionResponse, String> {
        distribution(&self.querycoord).await
    }

    /// Waits until each segment of these collections is on so many nodes, which say so themselves, and on no other; nothing
    /// is lacking, nothing is moved; and the question's answer is whole.
    #[track_caller]
    pub fn whole(&self, limit: Duration, wanted: &[(&Collection, usize)]) -> impl Future<Output = ()> {
        self.whole_at(&self.querycoord, limit, wanted)
    }

    /// The same, as another coordinator says.
    #[track_caller]
    pub fn whole_at(
        &self,
        coordinator: &Host,
        limit: Duration,
        wanted: &[(&Collection, usize)],
    ) -> impl Future<Output = ()> {
        eventually(limit, async move || {
            let told = distribution(coordinator).await?;
            let held = self.held().await?;
            judge(wanted, &told, &held)
        })
    }

    /// Searches until the answer is whole, which has to be within this time.
    #[track_caller]
    pub fn answers(&self, limit: Duration, question: &Question) -> impl Future<Output = ()> {
        eventually(limit, async move || {
            let answer = self.search(question).await.map_err(|status| format!("{status:?}"))?;
            let missing = question.check(&answer).unwrap_or_else(|wrong| panic!("{wrong}"));
            holds(missing.is_empty(), format!("{:?}", answer.missing))
        })
    }
}

async fn distribution(coordinator: &Host) -> Result<GetDistributionResponse, String> {
    let request = GetDistributionRequest::default();
    let told = coordinator.querycoord().await.get_distribution(request).await;
    Ok(told.map_err(|status| format!("{status:?}"))?.into_inner())
}

fn judge(wanted: &[(&Collection, usize)], told: &GetDistributionResponse, held: &Held) -> Result<(), String> {
    let all = || format!("told {told:#?}\nheld {held:?}");
    if !told.lacking.is_empty() || told.num_moves != 0 {
        return Err(format!("lacking or moving: {}", all()));
    }
    let mut expected = 0;
    for (collection, replicas) in wanted {
        for segment in &collection.segments {
            expected += replicas;
            let holders: BTreeSet<i64> =
                held.iter().filter(|(_, held)| held.contains(&segment.id)).map(|(node, _)| *node).collect();
            let named = told.nodes.iter().filter(|node| {
                let mut segments = node.segments.iter();
                segments.any(|told| {
                    let is_it = told.segment.as_ref().is_some_and(|told| told.segment_id == segment.id);
                    is_it && told.state() == SegmentState::Loaded
                })
            });
            let named: BTreeSet<i64> = named.map(|node| node.server_id).collect();
            if holders.len() != *replicas || named != holders {
                return Err(format!("segment {} is on {holders:?}, told are {named:?}: {}", segment.id, all()));
            }
        }
    }
    let (held, told) = (held.values().map(BTreeSet::len).sum::<usize>(), told.nodes.iter());
    // A load that failed is shown too, where the segment is not to be.
    let loaded = |told: &&SegmentDistribution| told.state() == SegmentState::Loaded;
    let told: usize = told.map(|node| node.segments.iter().filter(loaded).count()).sum();
    holds(held == expected && told == expected, format!("{expected} are to be held; {held} are, {told} are told"))
}
