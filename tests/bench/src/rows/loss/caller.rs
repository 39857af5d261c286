//! Who calls the peer by the host's own links: a built host with the built probe, which is asked to call and tells how it went.

use std::time::Duration;

use probe_plugin::v1::{CallKind, CallRequest, CallResponse};
use tests::client::Probe;
use tests::clock::monotonic;
use tests::probe::{call, calling_nodes, reaches};
use tests::{Host, LIMIT, within};
use tokio::task::JoinHandle;

use super::plain::Ended;
use super::stage::{PEER, Stage};

/// Its role.
const CALLER: &str = "alpha";

/// So many call at the same time.
const CALLERS: usize = 4;

/// So long a call waits for a peer: longer than any is away.
const WAIT_MS: u64 = 60_000;

/// The caller.
pub struct Caller {
    _host: Host,
    probe: Probe,
}

/// Calls that were made one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    /// How many.
    pub calls: usize,
    /// How many failed.
    pub failed: usize,
}

impl Made {
    /// And these.
    pub fn and(self, other: Self) -> Self {
        Self { calls: self.calls + other.calls, failed: self.failed + other.failed }
    }
}

impl Caller {
    /// It has called the peer.
    pub async fn start(stage: &Stage) -> Self {
        let host = stage.cluster.probe(CALLER, calling_nodes(PEER)).await;
        let probe = host.healthy().await.probe(CALLER).await;
        reaches(&probe, &unary()).await;
        Self { _host: host, probe }
    }

    /// A call that the peer holds.
    pub fn running(&self) -> JoinHandle<Ended> {
        self.spawn(CallRequest { key: "bench".to_owned(), ..call(PEER, CallKind::Hold) })
    }

    /// A call that waits for a peer.
    pub fn waiting(&self) -> JoinHandle<Ended> {
        self.spawn(CallRequest { wait_ms: Some(WAIT_MS), timeout_ms: Some(WAIT_MS), ..unary() })
    }

    /// Seconds that a call takes to be refused, as its caller in the plugin sees it.
    ///
    /// # Panics
    ///
    /// Where it is answered.
    pub async fn refused(&self) -> f64 {
        let seen = asked(self.probe.clone(), unary()).await;
        assert!(seen.code != 0, "the peer is gone and answers: {seen:?}");
        Duration::from_micros(seen.elapsed_us).as_secs_f64()
    }

    /// Calls for so long, without any wait.
    pub async fn calls_for(&self, time: Duration) -> Made {
        let end = monotonic() + time;
        let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(calls_until(self.probe.clone(), end))).collect();
        let mut all = Made::default();
        for caller in callers {
            all = all.and(caller.await.expect("no panic"));
        }
        all
    }

    fn spawn(&self, request: CallRequest) -> JoinHandle<Ended> {
        let probe = self.probe.clone();
        tokio::spawn(async move { Ended::now(asked(probe, request).await.code == 0) })
    }
}

async fn calls_until(probe: Probe, end: Duration) -> Made {
    let mut made = Made::default();
    while monotonic() < end {
        made.calls += 1;
        made.failed += usize::from(asked(probe.clone(), unary()).await.code != 0);
    }
    made
}

fn unary() -> CallRequest {
    CallRequest { size: 10, ..call(PEER, CallKind::Unary) }
}

async fn asked(mut probe: Probe, request: CallRequest) -> CallResponse {
    within(LIMIT, probe.call(request)).await.expect("the caller's probe answers").into_inner()
}
