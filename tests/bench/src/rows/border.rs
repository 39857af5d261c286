//! What the border alone costs: a call to a component without a host, compared with one to its routes.
//!
//! Time is measured with the plugin's own file. Allocations are counted with the linked crate, whose code is the same: the
//! allocator of a shared library is its own.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bench_plugin::target;
use bench_plugin::v1::Payload;
use bench_plugin::v1::target_client::TargetClient;
use bench_plugin::v1::target_server::TargetServer;
use bench_plugin::volley::Way;
use http::{Request, Response};
use tests::border::Bordered;
use tonic::body::Body;
use tonic::service::Routes;

use super::sides::{CALLED, in_turn};
use crate::allocator::made;
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "border",
    about: "a call without a body across the border alone, to a static call: its time and its allocations",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

async fn measure(effort: Effort) -> Vec<Row> {
    let (rounds, calls) = (effort.pick(20, 100), 5000);
    let loaded = Bordered::loaded("bench_plugin", CALLED, "");
    loaded.start().await;
    let linked = Bordered::linked(&bench_plugin::PLUGIN, CALLED, "");
    linked.start().await;
    let (mut times, mut allocations) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let pair = in_turn(round, time(loaded.channel(), calls), time(Static::new(), calls)).await;
        if round > 0 {
            times.push(pair);
        }
    }
    for round in 0..=rounds {
        let pair = in_turn(round, allocated(linked.channel(), calls), allocated(Static::new(), calls)).await;
        if round > 0 {
            allocations.push(pair);
        }
    }
    let counts = format!("{rounds} pairs of {calls} calls, one of warm-up");
    let counted = format!("{counts}; the linked crate");
    let (two_us, ten) = (Target::LaterByAtMost(0.000_002), Target::LaterByAtMost(10.0));
    vec![
        Row::later("border: time", Unit::Seconds, &times, two_us, counts),
        Row::later("border: allocations", Unit::Allocations, &allocations, ten, counted),
    ]
}

/// Seconds of a call.
async fn time<T: Way>(way: T, calls: u32) -> f64 {
    let begin = Instant::now();
    call(way, calls).await;
    begin.elapsed().as_secs_f64() / f64::from(calls)
}

/// Allocations of a call.
async fn allocated<T: Way>(way: T, calls: u32) -> f64 {
    let before = made();
    call(way, calls).await;
    (made() - before) as f64 / f64::from(calls)
}

async fn call<T: Way>(way: T, calls: u32) {
    let mut client = TargetClient::new(way);
    for _ in 0..calls {
        client.echo(Payload::default()).await.expect("an answer");
    }
}

/// The same service without a border. As the other side's, its future is boxed once for the client.
#[derive(Clone)]
struct Static(Routes);

impl Static {
    fn new() -> Self {
        Self(Routes::new(TargetServer::new(target::Target)).prepare())
    }
}

impl tower::Service<Request<Body>> for Static {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut routes = self.0.clone();
        Box::pin(async move { routes.call(request).await })
    }
}
