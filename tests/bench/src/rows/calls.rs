//! What a unary call costs over a host's client, compared with a plain channel.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use componenthost::connections::LocalHost;
use componenthost::wire::v1::host_server::HostServer;
use http_body::Body as HttpBody;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::StdError;
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::caller::{Caller, asks_who, proved_channel, table_of};
use super::sessions::server_id;
use crate::interval::median;
use crate::peers::{CLUSTER, Identity, Peers, ROLE};
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "calls",
    about: "a unary call over a link, to one over a tonic channel: its time, and at 64 callers the time for each; in-host too",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// The many callers.
const CALLERS: usize = 64;

/// The many nodes.
const NODES: usize = 1000;

async fn measure(effort: Effort) -> Vec<Row> {
    let peers = Peers::start(NODES);
    let one = Caller::of(table_of(&peers.addresses[..1]).subscribe(), None);
    let many = Caller::of(table_of(&peers.addresses).subscribe(), None);
    let here = Caller::of(table_of(&["in this very process".to_owned()]).subscribe(), Some(this_host()));
    for caller in [&one, &many, &here] {
        caller.all_ready().await;
    }
    let channel = proved_channel(&peers.addresses[0]).await;
    let (rounds, calls) = (effort.pick(10, 40), effort.pick(500, 2000));
    let mut figures = [const { Vec::new() }; 6];
    for round in 0..=rounds {
        let plain = one_by_one(channel.clone(), calls).await;
        let ours = one_by_one(one.client(), calls).await;
        let of_many = one_by_one(many.client(), calls).await;
        let in_host = one_by_one(here.client(), calls).await;
        let plain_together = together(channel.clone(), calls).await;
        let ours_together = together(one.client(), calls).await;
        let many_together = together(many.client(), calls).await;
        let here_together = together(here.client(), calls).await;
        let pairs = [
            (ours, plain),
            (ours_together, plain_together),
            (of_many, ours),
            (many_together, ours_together),
            (in_host, plain),
            (here_together, plain_together),
        ];
        if round > 0 {
            figures.iter_mut().zip(pairs).for_each(|(figures, pair)| figures.push(pair));
        }
    }
    for caller in [&one, &many, &here] {
        caller.stop().await;
    }
    let counts = format!("{rounds} pairs of {calls} calls, one pair of warm-up");
    let names = [
        "calls: one after another",
        "calls: 64 callers, time for each",
        "calls: of 1,000 nodes, to of one",
        "calls: the same at 64 callers",
        "calls: in one host, to loopback",
        "calls: the same, 64 callers",
    ];
    let row = |(name, pairs): (&str, Vec<_>)| Row::compared(name, Unit::Seconds, &pairs, Target::None, counts.clone());
    names.into_iter().zip(figures).map(row).collect()
}

/// A host that answers by itself as the peers do.
fn this_host() -> LocalHost {
    let identity = Identity { server_id: 1, role: ROLE.to_owned(), cluster: CLUSTER.to_owned() };
    let routes = Routes::new(HostServer::new(identity)).prepare();
    let calls = Arc::new(move |request| -> futures_util::future::BoxFuture<'static, _> {
        let answer = routes.clone().oneshot(request);
        Box::pin(async move { answer.await.expect("routes do not fail") })
    });
    LocalHost { server_id: server_id(1), calls }
}

/// The median of so many calls, one after another.
async fn one_by_one<T>(service: T, calls: usize) -> f64
where
    T: GrpcService<Body> + Clone + Send + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let calling = async move {
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let begin = Instant::now();
            assert!(asks_who(service.clone(), 0).await, "the peer answers");
            times.push(begin.elapsed().as_secs_f64());
        }
        median(&times)
    };
    // On a worker, as components run.
    tokio::spawn(calling).await.expect("no panic")
}

/// Seconds for each call where many callers share them.
async fn together<T>(service: T, calls: usize) -> f64
where
    T: GrpcService<Body> + Clone + Send + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    let each = calls.div_ceil(CALLERS) * 4;
    let begin = Instant::now();
    let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(answered(service.clone(), each))).collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
    begin.elapsed().as_secs_f64() / (each * CALLERS) as f64
}

async fn answered<T>(service: T, calls: usize)
where
    T: GrpcService<Body> + Clone + Send + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    for _ in 0..calls {
        assert!(asks_who(service.clone(), 0).await, "the peer answers");
    }
}
