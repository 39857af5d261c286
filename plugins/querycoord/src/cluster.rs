//! Whom QueryCoord calls: RootCoord and the QueryNodes, behind a trait, so that its rules can be tested without them.

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use plugin_api::{Channel, Context, PeerChange, PeerStream, Role, ServerId, async_trait};
use proto::querynode::v1::query_node_client::QueryNodeClient;
use proto::querynode::v1::{
    DismissRequest, GetSegmentInfoRequest, LoadSegmentsRequest, ReleaseSegmentsRequest, SearchRequest, SearchResult,
};
use proto::rootcoord::v1::root_coord_client::RootCoordClient;
use proto::rootcoord::v1::{CollectionInfo, DescribeCollectionRequest, SegmentInfo, ShowSegmentsRequest};
use tonic::Status;

use crate::service::Catalogue;

/// RootCoord and the QueryNodes, as QueryCoord needs them. Nodes are named by their server ids.
#[async_trait]
pub(crate) trait Cluster: Send + Sync + 'static {
    /// RootCoord's collection of that name.
    async fn collection(&self, name: &str) -> Result<CollectionInfo, Status>;

    /// Has RootCoord the collection of that id? `NOT_FOUND` where it has not, or not any more.
    async fn has_collection(&self, collection_id: i64) -> Result<(), Status>;

    /// RootCoord's segments of a collection.
    async fn segments(&self, collection_id: i64) -> Result<Vec<SegmentInfo>, Status>;

    /// Lets a node load segments.
    async fn load(&self, node: i64, request: LoadSegmentsRequest) -> Result<(), Status>;

    /// Lets a node release segments.
    async fn release(&self, node: i64, segment_ids: Vec<i64>) -> Result<(), Status>;

    /// The ids of the segments that a node holds.
    async fn held(&self, node: i64) -> Result<Vec<i64>, Status>;

    /// Tells a node that is stopping that it need not wait any longer.
    async fn dismiss(&self, node: i64, reason: String) -> Result<(), Status>;

    /// What there is to know of nodes: first all of them, then each change.
    fn peers(&self) -> BoxStream<'static, PeerChange>;

    /// Returns when the metadata can be written (`false`), or cannot be.
    async fn fence_is(&self, fenced: bool);

    /// Lets a node search.
    async fn search(&self, node: i64, request: SearchRequest) -> Result<Vec<SearchResult>, Status>;
}

/// The real ones, over the host's links.
pub(crate) struct Links {
    context: Context,
    root_coord: Channel,
    query_node: Role,
}

impl Links {
    /// Links to these roles.
    pub(crate) fn new(context: Context, root_coord: &Role, query_node: Role) -> Self {
        Self { root_coord: context.client(root_coord), query_node, context }
    }

    fn root_coord(&self) -> RootCoordClient<Channel> {
        RootCoordClient::new(self.root_coord.clone()).max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
    }

    async fn describe(&self, request: DescribeCollectionRequest) -> Result<CollectionInfo, Status> {
        let answer = self.root_coord().describe_collection(request).await?.into_inner();
        answer.collection.ok_or_else(|| Status::internal("RootCoord's answer describes no collection"))
    }

    fn node(&self, node: i64) -> QueryNodeClient<Channel> {
        QueryNodeClient::new(self.context.client_of(&self.query_node, ServerId(node)))
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
    }
}

#[async_trait]
impl Cluster for Links {
    async fn collection(&self, name: &str) -> Result<CollectionInfo, Status> {
        self.describe(DescribeCollectionRequest { collection_name: name.to_owned(), collection_id: 0 }).await
    }

    async fn has_collection(&self, collection_id: i64) -> Result<(), Status> {
        self.by_id(collection_id).await.map(|_| ())
    }

    async fn segments(&self, collection_id: i64) -> Result<Vec<SegmentInfo>, Status> {
        Ok(self.root_coord().show_segments(ShowSegmentsRequest { collection_id }).await?.into_inner().segments)
    }

    async fn load(&self, node: i64, request: LoadSegmentsRequest) -> Result<(), Status> {
        self.node(node).load_segments(request).await.map(|_| ())
    }

    async fn release(&self, node: i64, segment_ids: Vec<i64>) -> Result<(), Status> {
        self.node(node).release_segments(ReleaseSegmentsRequest { segment_ids }).await.map(|_| ())
    }

    async fn held(&self, node: i64) -> Result<Vec<i64>, Status> {
        let answer = self.node(node).get_segment_info(GetSegmentInfoRequest::default()).await?.into_inner();
        Ok(answer.segments.into_iter().filter_map(|loaded| Some(loaded.segment?.segment_id)).collect())
    }

    async fn dismiss(&self, node: i64, reason: String) -> Result<(), Status> {
        self.node(node).dismiss(DismissRequest { reason }).await.map(|_| ())
    }

    fn peers(&self) -> BoxStream<'static, PeerChange> {
        let (context, role) = (self.context.clone(), self.query_node.clone());
        futures_util::stream::unfold(None, move |stream| next_change(context.clone(), role.clone(), stream)).boxed()
    }

    async fn fence_is(&self, fenced: bool) {
        let fence = self.context.fence();
        if fenced { fence.fenced().await } else { fence.lifted().await }
    }

    async fn search(&self, node: i64, request: SearchRequest) -> Result<Vec<SearchResult>, Status> {
        Ok(self.node(node).search(request).await?.into_inner().results)
    }
}

#[async_trait]
impl Catalogue for Links {
    async fn by_name(&self, name: &str) -> Result<CollectionInfo, Status> {
        self.collection(name).await
    }

    async fn by_id(&self, id: i64) -> Result<CollectionInfo, Status> {
        self.describe(DescribeCollectionRequest { collection_name: String::new(), collection_id: id }).await
    }
}

/// A table that is older than all of etcd's revisions is none: another is asked for when something has been read.
async fn next_change(
    context: Context,
    role: Role,
    stream: Option<PeerStream>,
) -> Option<(PeerChange, Option<PeerStream>)> {
    let mut stream = match stream {
        Some(stream) => stream,
        None => context.watch_clients(&role).ok()?,
    };
    loop {
        let event = stream.next().await?;
        match event.change {
            PeerChange::Table(_) if event.revision == 0 => {
                stream.next().await?;
                stream = context.watch_clients(&role).ok()?;
            }
            change => return Some((change, Some(stream))),
        }
    }
}
