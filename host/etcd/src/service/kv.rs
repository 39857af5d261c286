//! The service `KV`: range, put, delete, transactions, compaction.

use std::sync::Arc;

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvService, PbPutRequest,
    PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbTxnRequest, PbTxnResponse,
};
use futures_util::stream::Empty;
use tonic::{Request, Response, Status, async_trait};

use super::check;
use crate::engine::Engine;
use crate::machine::{is_read_only, range};

/// Keys and values.
pub struct KvService(pub Arc<Engine>);

#[async_trait]
impl PbKvService for KvService {
    type RangeStreamStream = Empty<Result<PbRangeStreamResponse, Status>>;

    async fn range(&self, request: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        let request = request.into_inner();
        check::message(&request)?;
        check::range(&request)?;
        let answer = {
            let state = self.0.read();
            range::range(state.machine.store(), request, state.visible.revision, state.visible.compacted)?
        };
        Ok(Response::new(PbRangeResponse { header: self.0.fill(answer.header), ..answer }))
    }

    /// A later version of etcd has it; clients of this one's API do not call it.
    async fn range_stream(&self, _: Request<PbRangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("unknown method RangeStream for service etcdserverpb.KV"))
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        let request = request.into_inner();
        check::message(&request)?;
        check::put(&request)?;
        check::size(&request)?;
        let answer = self.0.write(|machine| machine.put(request)).await?;
        Ok(Response::new(PbPutResponse { header: self.0.fill(answer.header), ..answer }))
    }

    async fn delete_range(&self, request: Request<PbDeleteRequest>) -> Result<Response<PbDeleteResponse>, Status> {
        let request = request.into_inner();
        check::message(&request)?;
        check::delete(&request)?;
        check::size(&request)?;
        let answer = self.0.write(|machine| Ok(machine.delete(request))).await?;
        Ok(Response::new(PbDeleteResponse { header: self.0.fill(answer.header), ..answer }))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        let request = request.into_inner();
        check::message(&request)?;
        check::txn(&request)?;
        let answer = if is_read_only(&request) {
            let state = self.0.read();
            state.machine.read_txn(request, state.visible.revision, state.visible.compacted)?
        } else {
            check::size(&request)?;
            self.0.write(|machine| machine.txn(request)).await?
        };
        Ok(Response::new(PbTxnResponse { header: self.0.fill(answer.header), ..answer }))
    }

    async fn compact(&self, request: Request<PbCompactionRequest>) -> Result<Response<PbCompactionResponse>, Status> {
        let request = request.into_inner();
        let compact = |effect| ((), Some(effect));
        self.0.write(|machine| machine.compact(&request).map(compact)).await?;
        Ok(Response::new(PbCompactionResponse { header: self.0.fill(None) }))
    }
}
