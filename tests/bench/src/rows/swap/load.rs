//! Callers of a probe that go on until they are told to end, each in a task of its own.

use std::time::{Duration, Instant};

use probe_plugin::v1::{EchoRequest, Empty};
use tests::Host;
use tests::client::Probe;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// So many call a method that is not gated, and so many one that is.
pub const CALLERS: usize = 4;

/// Between two calls of a caller: the processor is not to be what is measured.
pub const PAUSE: Duration = Duration::from_millis(2);

/// Callers at work.
pub struct Load {
    stop: CancellationToken,
    callers: JoinSet<Calls>,
}

/// Seconds that the slowest calls took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slowest {
    /// Of a method that is not gated.
    pub free: f64,
    /// Of one that is.
    pub gated: f64,
}

/// What became of all calls.
#[derive(Debug, Default)]
pub struct Ended {
    /// How many there were.
    pub calls: usize,
    /// How many were answered with an error, or wrongly.
    pub failed: usize,
    /// The slowest.
    pub slowest: Slowest,
}

/// What became of one caller's.
struct Calls {
    gated: bool,
    made: usize,
    failed: usize,
    slowest: Duration,
}

impl Load {
    /// All callers have been answered once when it returns.
    pub async fn begin(host: &Host) -> Self {
        let (stop, mut callers) = (CancellationToken::new(), JoinSet::new());
        for gated in [false, true] {
            for _ in 0..CALLERS {
                // A connection of its own, as callers have that do not know of one another.
                let probe = host.probe("alpha").await;
                call(&probe, gated).await.expect("it serves");
                callers.spawn(calls(probe, gated, stop.clone()));
            }
        }
        Self { stop, callers }
    }

    /// What became of the calls, when the last one has been answered.
    pub async fn end(mut self) -> Ended {
        self.stop.cancel();
        let mut ended = Ended::default();
        while let Some(calls) = self.callers.join_next().await {
            let calls = calls.expect("no panic");
            ended.calls += calls.made;
            ended.failed += calls.failed;
            let slowest = if calls.gated { &mut ended.slowest.gated } else { &mut ended.slowest.free };
            *slowest = slowest.max(calls.slowest.as_secs_f64());
        }
        ended
    }
}

async fn calls(probe: Probe, gated: bool, stop: CancellationToken) -> Calls {
    let mut calls = Calls { gated, made: 0, failed: 0, slowest: Duration::ZERO };
    let mut last = 0;
    while !stop.is_cancelled() {
        let begin = Instant::now();
        let answer = call(&probe, gated).await;
        calls.slowest = calls.slowest.max(begin.elapsed());
        calls.made += 1;
        // One caller's numbers go up.
        let is_right = answer.is_ok_and(|number| !gated || std::mem::replace(&mut last, number) < number);
        calls.failed += usize::from(!is_right);
        tokio::time::sleep(PAUSE).await;
    }
    calls
}

/// The number that a gated one has given out.
async fn call(probe: &Probe, gated: bool) -> Result<u64, tonic::Status> {
    let mut probe = probe.clone();
    if gated {
        return Ok(probe.count(Empty {}).await?.into_inner().number);
    }
    probe.echo(EchoRequest::default()).await.map(|_| 0)
}
