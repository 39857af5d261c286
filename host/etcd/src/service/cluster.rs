//! The service `Cluster`: the list of its one member, which never changes.

use std::net::SocketAddr;
use std::sync::Arc;

use etcd_client::proto::{
    PbClusterService, PbMember, PbMemberAddRequest, PbMemberAddResponse, PbMemberListRequest, PbMemberListResponse,
    PbMemberPromoteRequest, PbMemberPromoteResponse, PbMemberRemoveRequest, PbMemberRemoveResponse,
    PbMemberUpdateRequest, PbMemberUpdateResponse,
};
use tonic::{Request, Response, Status, async_trait};

use crate::engine::Engine;

/// The name of the member, as etcd calls one that was given none.
const NAME: &str = "default";

/// Who is in the cluster.
pub struct ClusterService {
    /// Its member.
    pub engine: Arc<Engine>,
    /// Where clients reach it.
    pub address: SocketAddr,
}

fn alone<T>() -> Result<T, Status> {
    Err(Status::unimplemented("an embedded etcd has one member: run a real cluster for more than one machine"))
}

#[async_trait]
impl PbClusterService for ClusterService {
    async fn member_list(&self, _: Request<PbMemberListRequest>) -> Result<Response<PbMemberListResponse>, Status> {
        let url = format!("http://{}", self.address);
        let member = PbMember {
            id: self.engine.identity().member_id,
            name: NAME.to_owned(),
            // It has no peers; `etcdctl` shows the list all the same.
            peer_ur_ls: vec![url.clone()],
            client_ur_ls: vec![url],
            is_learner: false,
        };
        Ok(Response::new(PbMemberListResponse { header: self.engine.fill(None), members: vec![member] }))
    }

    async fn member_add(&self, _: Request<PbMemberAddRequest>) -> Result<Response<PbMemberAddResponse>, Status> {
        alone()
    }

    async fn member_remove(
        &self,
        _: Request<PbMemberRemoveRequest>,
    ) -> Result<Response<PbMemberRemoveResponse>, Status> {
        alone()
    }

    async fn member_update(
        &self,
        _: Request<PbMemberUpdateRequest>,
    ) -> Result<Response<PbMemberUpdateResponse>, Status> {
        alone()
    }

    async fn member_promote(
        &self,
        _: Request<PbMemberPromoteRequest>,
    ) -> Result<Response<PbMemberPromoteResponse>, Status> {
        alone()
    }
}
