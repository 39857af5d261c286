//! Both servers, and requests that must be answered alike.

use std::fmt::Debug;

use componenthost_etcd::EmbeddedEtcd;
use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbLeaseGrantRequest,
    PbLeaseGrantResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseTimeToLiveRequest,
    PbLeaseTimeToLiveResponse, PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbResponseHeader,
    PbTxnRequest, PbTxnResponse, PbWatchResponse,
};
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use crate::real::RealEtcd;

/// An error, as a client sees it.
pub type Refused = (Code, String);

/// Debian's etcd and the embedded one.
pub struct Pair {
    /// To the real one, and to ours.
    pub channels: [Channel; 2],
    real: RealEtcd,
    ours: EmbeddedEtcd,
}

/// A message whose header names who answers, which differs.
pub trait Answer: Message + Default + PartialEq + Debug + 'static {
    /// The header.
    fn header(&mut self) -> &mut Option<PbResponseHeader>;

    /// Takes out what differs, and checks that it was there.
    fn alike(mut self) -> Self {
        let header = self.header().as_mut().expect("each answer has a header");
        let who = [header.cluster_id, header.member_id, header.raft_term];
        assert!(who.iter().all(|number| *number != 0), "a header without who answers: {header:?}");
        *header = PbResponseHeader { revision: header.revision, ..PbResponseHeader::default() };
        self.sorted()
    }

    /// With what has no order in the real one put into an order.
    fn sorted(self) -> Self {
        self
    }
}

macro_rules! answers {
    ($($answer:ty),*) => {
        $(impl Answer for $answer {
            fn header(&mut self) -> &mut Option<PbResponseHeader> {
                &mut self.header
            }
        })*
    };
}

answers!(PbPutResponse, PbRangeResponse, PbDeleteResponse, PbTxnResponse, PbCompactionResponse);
answers!(PbLeaseGrantResponse, PbLeaseRevokeResponse, PbWatchResponse);

impl Answer for PbLeaseTimeToLiveResponse {
    fn header(&mut self) -> &mut Option<PbResponseHeader> {
        &mut self.header
    }

    fn sorted(mut self) -> Self {
        self.keys.sort();
        self
    }
}

/// Sends one request.
pub async fn unary<Q, A>(channel: &Channel, path: &'static str, request: Q) -> Result<A, Refused>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("the server is there");
    let codec = ProstCodec::<Q, A>::default();
    let answer = grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec).await;
    answer.map(|answer| answer.into_inner()).map_err(|status| (status.code(), status.message().to_owned()))
}

impl Pair {
    /// Starts both.
    pub async fn start() -> Self {
        let (real, ours) = tokio::join!(RealEtcd::start(), EmbeddedEtcd::start());
        let ours = ours.expect("a free port");
        let channel = |endpoint: String| {
            let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).expect("an address is an URI");
            endpoint.connect_lazy()
        };
        Self { channels: [channel(real.endpoint()), channel(ours.endpoint())], real, ours }
    }

    /// Where both are reached: the real one, and ours.
    pub fn endpoints(&self) -> [String; 2] {
        [self.real.endpoint(), self.ours.endpoint()]
    }

    /// Sends one request to both; the answer is the same.
    pub async fn both<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Refused>
    where
        Q: Message + Clone + Debug + 'static,
        A: Answer,
    {
        let [real, ours] = &self.channels;
        let real: Result<A, Refused> = unary(real, path, request.clone()).await.map(Answer::alike);
        if matches!(real, Err((Code::Unavailable, _))) {
            panic!("etcd does not answer {:.2000}\n{:.3000}", format!("{request:?}"), self.real.log());
        }
        let ours: Result<A, Refused> = unary(ours, path, request.clone()).await.map(Answer::alike);
        assert_eq!(ours, real, "left: ours, right: etcd's, to {path}: {:.600}", format!("{request:?}"));
        ours
    }

    pub async fn put(&self, request: PbPutRequest) -> Result<PbPutResponse, Refused> {
        self.both("/etcdserverpb.KV/Put", request).await
    }

    pub async fn range(&self, request: PbRangeRequest) -> Result<PbRangeResponse, Refused> {
        self.both("/etcdserverpb.KV/Range", request).await
    }

    pub async fn delete(&self, request: PbDeleteRequest) -> Result<PbDeleteResponse, Refused> {
        self.both("/etcdserverpb.KV/DeleteRange", request).await
    }

    pub async fn txn(&self, request: PbTxnRequest) -> Result<PbTxnResponse, Refused> {
        self.both("/etcdserverpb.KV/Txn", request).await
    }

    pub async fn compact(&self, revision: i64) -> Result<PbCompactionResponse, Refused> {
        self.both("/etcdserverpb.KV/Compact", PbCompactionRequest { revision, physical: true }).await
    }

    pub async fn grant(&self, id: i64, ttl: i64) -> Result<PbLeaseGrantResponse, Refused> {
        self.both("/etcdserverpb.Lease/LeaseGrant", PbLeaseGrantRequest { ttl, id }).await
    }

    pub async fn revoke(&self, id: i64) -> Result<PbLeaseRevokeResponse, Refused> {
        self.both("/etcdserverpb.Lease/LeaseRevoke", PbLeaseRevokeRequest { id }).await
    }

    pub async fn time_to_live(&self, id: i64) -> Result<PbLeaseTimeToLiveResponse, Refused> {
        self.both("/etcdserverpb.Lease/LeaseTimeToLive", PbLeaseTimeToLiveRequest { id, keys: true }).await
    }
}
