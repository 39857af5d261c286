//! The service `Lease`: grant, revoke, keepalive, time to live, list.

use std::pin::Pin;
use std::sync::Arc;

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest,
    PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseService, PbLeaseStatus,
    PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use futures_util::{Stream, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::engine::Engine;
use crate::machine::Machine;

/// The time to live of a lease that there is not.
const NO_LEASE: i64 = -1;

/// Leases.
pub struct LeaseService {
    /// Who has them.
    pub engine: Arc<Engine>,
    /// Ends all streams.
    pub stop: CancellationToken,
}

#[async_trait]
impl PbLeaseService for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        let request = request.into_inner();
        let granted = self.engine.write(|machine| {
            let (id, ttl, effect) = machine.grant(request.id, request.ttl, Instant::now())?;
            Ok(((id, ttl), Some(effect)))
        });
        let (id, ttl) = granted.await?;
        let header = self.engine.fill(None);
        Ok(Response::new(PbLeaseGrantResponse { header, id, ttl, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let id = request.into_inner().id;
        self.engine.write(|machine| machine.revoke(id).map(|effect| ((), Some(effect)))).await?;
        Ok(Response::new(PbLeaseRevokeResponse { header: self.engine.fill(None) }))
    }

    type LeaseKeepAliveStream = Pin<Box<dyn Stream<Item = Result<PbLeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let engine = Arc::clone(&self.engine);
        let stop = self.stop.clone();
        let answers = request.into_inner().then(move |request| {
            let engine = Arc::clone(&engine);
            async move {
                let id = request?.id;
                // First the header: its revision may not be later than the renewal.
                let header = engine.fill(None);
                let ttl = engine.renew(id).await?.unwrap_or(0);
                Ok(PbLeaseKeepAliveResponse { header, id, ttl })
            }
        });
        Ok(Response::new(Box::pin(answers.take_until(stop.cancelled_owned()))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        let PbLeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let mut answer = PbLeaseTimeToLiveResponse { id, ttl: NO_LEASE, ..PbLeaseTimeToLiveResponse::default() };
        // What is not durable yet may not be told.
        let lease = self.engine.write(|machine| Ok((machine.lessor().get(id).cloned(), None))).await?;
        if let Some(lease) = lease {
            let left = lease.deadline.saturating_duration_since(Instant::now()).as_secs();
            answer.ttl = i64::try_from(left).unwrap_or(i64::MAX);
            answer.granted_ttl = lease.ttl;
            if keys {
                answer.keys = lease.keys.into_iter().collect();
            }
        }
        answer.header = self.engine.fill(None);
        Ok(Response::new(answer))
    }

    async fn lease_leases(&self, _: Request<PbLeaseLeasesRequest>) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        let list = |machine: &mut Machine| machine.lessor().ids().map(|id| PbLeaseStatus { id }).collect();
        let leases = self.engine.write(|machine| Ok((list(machine), None))).await?;
        Ok(Response::new(PbLeaseLeasesResponse { header: self.engine.fill(None), leases }))
    }
}
