//! RootCoord and nodes in memory: they hold what they are told to, answer with it, and fail where a test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use plugin_api::peers::Registration;
use plugin_api::{Peer, PeerChange, PeerLink, PeerSession, Reason, Role, ServerId};
use proto::querynode::v1::{LoadSegmentsRequest, SearchHit, SearchRequest, SearchResult};
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::{Status, async_trait};

use crate::cluster::Cluster;
use crate::service::Catalogue;

/// RootCoord and nodes. A segment's one vector has its id for an id and for a score.
#[derive(Default)]
pub(super) struct Nodes(Mutex<Content>);

#[derive(Default)]
pub(super) struct Content {
    /// RootCoord's collections; `None` while RootCoord cannot be asked.
    pub(super) collections: Option<BTreeMap<String, (i64, Vec<SegmentInfo>)>>,
    pub(super) held: BTreeMap<i64, BTreeSet<i64>>,
    /// Nodes that refuse each call, and segments that no node can load, with this.
    pub(super) failing: BTreeMap<i64, Status>,
    pub(super) bad: BTreeMap<i64, Status>,
    /// Nodes that never answer a load.
    pub(super) loading_for_ever: BTreeSet<i64>,
    /// Nobody is told anything of nodes.
    pub(super) silent: bool,
    /// How many loads there were.
    pub(super) loads: usize,
    /// Collections are dropped as soon as their segments have been read.
    pub(super) dropped_when_read: bool,
    /// How often RootCoord was asked whether it has a collection still.
    pub(super) confirmations: usize,
    pub(super) dismissed: Vec<(i64, String)>,
    watching: Vec<UnboundedSender<PeerChange>>,
}

impl Nodes {
    /// Changes it; whoever follows is told of nodes that come and go.
    pub(super) fn change(&self, change: impl FnOnce(&mut Content)) {
        let mut content = self.0.lock().unwrap();
        let before: BTreeSet<_> = content.held.keys().copied().collect();
        change(&mut content);
        let after: BTreeSet<_> = content.held.keys().copied().collect();
        for id in before.difference(&after) {
            let peer = Peer { session: PeerSession::Gone, ..peer(*id) };
            let (reason, error) = (Reason::SessionGone, String::new());
            content.tell(&PeerChange::Offline { peer, reason, error });
        }
        for id in after.difference(&before) {
            content.tell(&PeerChange::Online(peer(*id)));
        }
    }

    /// A node says that it will stop.
    pub(super) fn stop(&self, id: i64) {
        let peer = Peer { session: PeerSession::Stopping, ..peer(id) };
        self.0.lock().unwrap().tell(&PeerChange::Stopping(peer));
    }

    pub(super) fn held(&self) -> BTreeMap<i64, Vec<i64>> {
        let content = self.0.lock().unwrap();
        content.held.iter().map(|(node, held)| (*node, held.iter().copied().collect())).collect()
    }

    pub(super) fn loads(&self) -> usize {
        self.0.lock().unwrap().loads
    }

    pub(super) fn confirmations(&self) -> usize {
        self.0.lock().unwrap().confirmations
    }

    pub(super) fn dismissed(&self) -> Vec<(i64, String)> {
        self.0.lock().unwrap().dismissed.clone()
    }

    fn node<T>(&self, node: i64, answer: impl FnOnce(&mut BTreeSet<i64>) -> T) -> Result<T, Status> {
        let mut content = self.0.lock().unwrap();
        match (content.failing.get(&node).cloned(), content.held.get_mut(&node)) {
            (Some(status), _) => Err(status),
            (None, Some(held)) => Ok(answer(held)),
            (None, None) => Err(Status::unavailable("SESSION_GONE")),
        }
    }
}

impl Content {
    fn tell(&self, change: &PeerChange) {
        for watching in &self.watching {
            // One that follows no more.
            let _ = watching.send(change.clone());
        }
    }
}

fn peer(id: i64) -> Peer {
    Peer {
        role: Role::new("querynode").unwrap(),
        server_id: ServerId(id),
        address: format!("127.0.0.1:{id}"),
        version: String::new(),
        labels: BTreeMap::new(),
        standby: false,
        suspect: false,
        session: PeerSession::Live,
        link: PeerLink::Ready,
        registration: Registration { create_revision: id, lease_id: id },
    }
}

#[async_trait]
impl Cluster for Nodes {
    async fn collection(&self, name: &str) -> Result<CollectionInfo, Status> {
        let content = self.0.lock().unwrap();
        let collections = content.collections.as_ref().ok_or_else(|| Status::unavailable("FENCED"))?;
        let (id, _) =
            collections.get(name).ok_or_else(|| Status::not_found(format!("there is no collection '{name}'")))?;
        Ok(CollectionInfo {
            collection_id: *id,
            collection_name: name.to_owned(),
            dimension: 1,
            metric_type: MetricType::L2.into(),
            created_timestamp: 1,
        })
    }

    async fn has_collection(&self, collection_id: i64) -> Result<(), Status> {
        let mut content = self.0.lock().unwrap();
        content.confirmations += 1;
        let collections = content.collections.as_ref().ok_or_else(|| Status::unavailable("FENCED"))?;
        let there = collections.values().any(|(id, _)| *id == collection_id);
        there.then_some(()).ok_or_else(|| Status::not_found(format!("there is no collection with id {collection_id}")))
    }

    async fn segments(&self, collection_id: i64) -> Result<Vec<SegmentInfo>, Status> {
        let mut content = self.0.lock().unwrap();
        let collections = content.collections.iter().flatten();
        let of =
            collections.filter(|(_, (id, _))| *id == collection_id).flat_map(|(_, (_, all))| all.clone()).collect();
        if content.dropped_when_read {
            content.collections = Some(BTreeMap::new());
        }
        Ok(of)
    }

    async fn load(&self, node: i64, request: LoadSegmentsRequest) -> Result<(), Status> {
        let ids: Vec<_> = request.segments.iter().map(|segment| segment.segment_id).collect();
        let (hangs, bad) = {
            let mut content = self.0.lock().unwrap();
            content.loads += 1;
            (content.loading_for_ever.contains(&node), ids.iter().find_map(|id| content.bad.get(id).cloned()))
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        match bad {
            Some(status) => Err(status),
            None => self.node(node, |held| held.extend(ids)),
        }
    }

    async fn release(&self, node: i64, segment_ids: Vec<i64>) -> Result<(), Status> {
        self.node(node, |held| held.retain(|id| !segment_ids.contains(id)))
    }

    async fn held(&self, node: i64) -> Result<Vec<i64>, Status> {
        self.node(node, |held| held.iter().copied().collect())
    }

    async fn dismiss(&self, node: i64, reason: String) -> Result<(), Status> {
        self.0.lock().unwrap().dismissed.push((node, reason));
        Ok(())
    }

    fn peers(&self) -> BoxStream<'static, PeerChange> {
        let (sender, receiver) = unbounded_channel();
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !content.silent {
            sender.send(PeerChange::Table(content.held.keys().map(|id| peer(*id)).collect())).unwrap();
        }
        content.watching.push(sender);
        let next = |mut changes: UnboundedReceiver<PeerChange>| async move { Some((changes.recv().await?, changes)) };
        unfold(receiver, next).boxed()
    }

    async fn fence_is(&self, fenced: bool) {
        if fenced {
            std::future::pending::<()>().await;
        }
    }

    async fn search(&self, node: i64, request: SearchRequest) -> Result<Vec<SearchResult>, Status> {
        let queries = request.packed_vectors.len() / 4;
        let missing = |held: &BTreeSet<i64>| request.segment_ids.iter().find(|id| !held.contains(id)).copied();
        if let Some(id) = self.node(node, |held| missing(held))? {
            return Err(Status::not_found(format!("segment {id} is not loaded on this node")));
        }
        let hits: Vec<_> = request.segment_ids.iter().map(|id| SearchHit { id: *id, score: *id as f64 }).collect();
        Ok(vec![SearchResult { hits }; queries])
    }
}

#[async_trait]
impl Catalogue for Nodes {
    async fn by_name(&self, name: &str) -> Result<CollectionInfo, Status> {
        self.collection(name).await
    }

    async fn by_id(&self, id: i64) -> Result<CollectionInfo, Status> {
        Err(Status::not_found(format!("there is no collection with id {id}")))
    }
}
