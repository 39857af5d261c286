//! Whom QueryCoord calls: RootCoord and the QueryNodes, behind a trait, so that its rules can be tested without them.

use std::collections::BTreeMap;

use plugin_api::{Channel, Context, Role, ServerId, async_trait};
use proto::querynode::v1::query_node_client::QueryNodeClient;
use proto::querynode::v1::{
    GetSegmentInfoRequest, LoadSegmentsRequest, ReleaseSegmentsRequest, SearchRequest, SearchResult,
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

    /// RootCoord's segments of a collection.
    async fn segments(&self, collection_id: i64) -> Result<Vec<SegmentInfo>, Status>;

    /// The nodes that can be called now, with their addresses.
    fn nodes(&self) -> Result<BTreeMap<i64, String>, Status>;

    /// Lets a node load segments.
    async fn load(&self, node: i64, request: LoadSegmentsRequest) -> Result<(), Status>;

    /// Lets a node release segments.
    async fn release(&self, node: i64, segment_ids: Vec<i64>) -> Result<(), Status>;

    /// The ids of the segments that a node holds.
    async fn held(&self, node: i64) -> Result<Vec<i64>, Status>;

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

    async fn segments(&self, collection_id: i64) -> Result<Vec<SegmentInfo>, Status> {
        Ok(self.root_coord().show_segments(ShowSegmentsRequest { collection_id }).await?.into_inner().segments)
    }

    fn nodes(&self) -> Result<BTreeMap<i64, String>, Status> {
        let clients = self.context.clients(&self.query_node)?;
        Ok(clients.into_iter().map(|client| (client.peer.server_id.0, client.peer.address)).collect())
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
