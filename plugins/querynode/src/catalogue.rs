//! What RootCoord knows of collections and segments, for loads that do not say it themselves.

use plugin_api::{Channel, async_trait};
use proto::rootcoord::v1::root_coord_client::RootCoordClient;
use proto::rootcoord::v1::{CollectionInfo, DescribeCollectionRequest, SegmentInfo, ShowSegmentsRequest};
use tonic::Status;

/// The questions that a QueryNode has for RootCoord.
#[async_trait]
pub(crate) trait Catalogue: Send + Sync + 'static {
    /// The collection of that id.
    async fn collection(&self, collection_id: i64) -> Result<CollectionInfo, Status>;

    /// Its segments.
    async fn segments(&self, collection_id: i64) -> Result<Vec<SegmentInfo>, Status>;
}

/// RootCoord itself, over the host's link.
pub(crate) struct RootCoord(pub(crate) Channel);

#[async_trait]
impl Catalogue for RootCoord {
    async fn collection(&self, collection_id: i64) -> Result<CollectionInfo, Status> {
        let request = DescribeCollectionRequest { collection_id, ..DescribeCollectionRequest::default() };
        let answer = RootCoordClient::new(self.0.clone()).describe_collection(request).await?.into_inner();
        answer.collection.ok_or_else(|| Status::internal("RootCoord's answer describes no collection"))
    }

    async fn segments(&self, collection_id: i64) -> Result<Vec<SegmentInfo>, Status> {
        let mut client = RootCoordClient::new(self.0.clone()).max_decoding_message_size(proto::MAX_MESSAGE_BYTES);
        Ok(client.show_segments(ShowSegmentsRequest { collection_id }).await?.into_inner().segments)
    }
}
