//! The service `Maintenance`, as far as health checks and `etcdctl` need it: status, alarms, defragmentation.

use std::sync::Arc;

use etcd_client::proto::{
    PbAlarmMember, PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse, PbDowngradeRequest,
    PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest, PbHashResponse, PbMaintenanceService,
    PbMoveLeaderRequest, PbMoveLeaderResponse, PbSnapshotRequest, PbSnapshotResponse, PbStatusRequest,
    PbStatusResponse,
};
use futures_util::stream::Empty;
use tonic::{Request, Response, Status, async_trait};

use crate::engine::Engine;

/// The release whose answers it gives. Clients choose by it what they may ask for.
const VERSION: &str = "3.4.23";

/// The alarm of that name.
const NO_SPACE: i32 = etcd_client::AlarmType::Nospace as i32;

/// What a server says of itself.
pub struct MaintenanceService(pub Arc<Engine>);

fn not_here<T>(method: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("an embedded etcd has no {method}: run a real one where that is needed")))
}

impl MaintenanceService {
    fn is_full(&self) -> bool {
        self.0.read().machine.is_full()
    }
}

#[async_trait]
impl PbMaintenanceService for MaintenanceService {
    /// The only one is that there is no space, for as long as that is so.
    async fn alarm(&self, _: Request<PbAlarmRequest>) -> Result<Response<PbAlarmResponse>, Status> {
        let no_space = PbAlarmMember { member_id: self.0.identity().member_id, alarm: NO_SPACE };
        let alarms = self.is_full().then_some(no_space).into_iter().collect();
        Ok(Response::new(PbAlarmResponse { header: self.0.fill(None), alarms }))
    }

    async fn status(&self, _: Request<PbStatusRequest>) -> Result<Response<PbStatusResponse>, Status> {
        let identity = self.0.identity();
        let size = i64::try_from(self.0.kept_bytes()).unwrap_or(i64::MAX);
        let revision = self.0.visible().revision.unsigned_abs();
        let no_space = format!("memberID:{} alarm:NOSPACE ", identity.member_id);
        let errors = self.is_full().then_some(no_space).into_iter().collect();
        Ok(Response::new(PbStatusResponse {
            header: self.0.fill(None),
            version: VERSION.to_owned(),
            db_size: size,
            db_size_in_use: size,
            leader: identity.member_id,
            // There is no raft: what it would count are revisions.
            raft_index: revision,
            raft_applied_index: revision,
            raft_term: identity.raft_term,
            errors,
            ..PbStatusResponse::default()
        }))
    }

    async fn defragment(&self, _: Request<PbDefragmentRequest>) -> Result<Response<PbDefragmentResponse>, Status> {
        Ok(Response::new(PbDefragmentResponse { header: None }))
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Result<Response<PbHashResponse>, Status> {
        not_here("hash")
    }

    async fn hash_kv(&self, _: Request<PbHashKvRequest>) -> Result<Response<PbHashKvResponse>, Status> {
        not_here("hash of keys")
    }

    type SnapshotStream = Empty<Result<PbSnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<PbSnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        not_here("snapshot")
    }

    async fn move_leader(&self, _: Request<PbMoveLeaderRequest>) -> Result<Response<PbMoveLeaderResponse>, Status> {
        not_here("other member")
    }

    async fn downgrade(&self, _: Request<PbDowngradeRequest>) -> Result<Response<PbDowngradeResponse>, Status> {
        not_here("downgrade")
    }
}
