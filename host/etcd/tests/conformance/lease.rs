//! Leases.

use std::time::Duration;

use etcd_client::proto::{
    PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesRequest, PbLeaseLeasesResponse,
};
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

use crate::ops::{delete, everything, get, leased, put};
use crate::pair::{Pair, unary};
use crate::streams::watch;

const FAR: i64 = 1_000_000_000;

#[tokio::test]
async fn grants_are_given_and_refused_alike() {
    let pair = Pair::start().await;
    for (id, ttl) in
        [(1, 60), (1, 60), (2, 0), (3, -7), (4, 1), (5, 2), (6, 3), (-8, 60), (9, 9_000_000_000), (10, 9_000_000_001)]
    {
        let _ = pair.grant(id, ttl).await;
    }
    for id in [9, 11, -8] {
        let _ = pair.revoke(id).await;
        let _ = pair.revoke(id).await;
        pair.time_to_live(id).await.expect("an answer");
    }
}

#[tokio::test]
async fn ids_are_chosen_where_none_is_given_and_leases_are_listed() {
    let pair = Pair::start().await;
    for (id, ttl) in [(1, FAR + 60), (2, FAR + 30), (3, FAR + 90)] {
        pair.grant(id, ttl).await.expect("a new id");
    }
    for channel in &pair.channels {
        let answer: PbLeaseLeasesResponse =
            unary(channel, "/etcdserverpb.Lease/LeaseLeases", PbLeaseLeasesRequest {}).await.expect("a list");
        let ids: Vec<_> = answer.leases.iter().map(|lease| lease.id).collect();
        assert_eq!((ids, answer.header.map(|header| header.revision)), (vec![2, 1, 3], Some(1)));
        let request = etcd_client::proto::PbLeaseGrantRequest { ttl: 60, id: 0 };
        let answer: etcd_client::proto::PbLeaseGrantResponse =
            unary(channel, "/etcdserverpb.Lease/LeaseGrant", request).await.expect("a lease");
        assert!(answer.id > 0 && answer.ttl == 60, "{answer:?}");
    }
}

#[tokio::test]
async fn keys_go_with_their_lease_in_one_revision() {
    let pair = Pair::start().await;
    let mut stream = watch(&pair, "\0", "\0", 1).await;
    pair.grant(1, 60).await.expect("a new id");
    pair.grant(2, 60).await.expect("a new id");
    for request in [leased("c", 1), leased("a", 1), leased("b", 1), leased("d", 2), leased("b", 2), put("a", "")] {
        pair.put(request).await.expect("a put");
        pair.time_to_live(1).await.expect("a lease");
        pair.time_to_live(2).await.expect("a lease");
    }
    pair.delete(delete("d")).await.expect("a deletion");
    pair.put(leased("e", 1)).await.expect("a put");
    pair.revoke(1).await.expect("a lease");
    pair.revoke(2).await.expect("a lease");
    pair.range(everything()).await.expect("a read");
    stream.events(11).await;
}

#[tokio::test]
async fn keepalives_are_answered_alike_and_hold_a_lease() {
    let pair = Pair::start().await;
    pair.grant(1, 2).await.expect("a new id");
    pair.put(leased("a", 1)).await.expect("a put");
    let mut answers = Vec::new();
    for channel in &pair.channels {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.expect("the server is there");
        let (sender, requests) = tokio::sync::mpsc::channel(8);
        for id in [1, 99, 1] {
            sender.send(PbLeaseKeepAliveRequest { id }).await.expect("there is room");
        }
        let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
        let codec = ProstCodec::<PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse>::default();
        let requests = Request::new(tokio_stream::wrappers::ReceiverStream::new(requests));
        let mut stream = grpc.streaming(requests, path, codec).await.expect("a stream").into_inner();
        let mut of_one = Vec::new();
        for _ in 0..3 {
            let answer = stream.next().await.expect("an answer").expect("no error");
            of_one.push((answer.id, answer.ttl, answer.header.map(|header| header.revision)));
        }
        // Its requests end, and so does the stream.
        drop(sender);
        assert!(timeout(Duration::from_secs(5), stream.next()).await.expect("it ends").is_none());
        answers.push(of_one);
    }
    assert_eq!(answers[1], answers[0]);
    assert_eq!(answers[1], [(1, 2, Some(2)), (99, 0, Some(2)), (1, 2, Some(2))]);
}

#[tokio::test]
async fn a_lease_ends_at_its_time_and_not_before() {
    let pair = Pair::start().await;
    let mut stream = watch(&pair, "a", "", 1).await;
    let granted = Instant::now();
    pair.grant(1, 2).await.expect("a new id");
    pair.put(leased("a", 1)).await.expect("a put");
    let ours = &pair.channels[1];
    // The put is seen at once, the deletion when the lease ends. That ours ends at its very second is shown where the clock can
    // be held (`engine`); here a busy machine may be late, and the real one looks only twice a second.
    let at = stream.events_of_ours(2).await;
    let late = at.duration_since(granted);
    assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&late), "{late:?}");
    let answer: etcd_client::proto::PbRangeResponse =
        unary(ours, "/etcdserverpb.KV/Range", get("a")).await.expect("a read");
    assert_eq!(answer.count, 0);
    stream.events(2).await;
    pair.time_to_live(1).await.expect("an answer");
    pair.range(everything()).await.expect("a read");
}
