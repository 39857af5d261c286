//! Calls that run through an outage, and looks at the sessions meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use probe_plugin::v1::{CallKind, CallRequest, EchoRequest};
use tests::client::Probe;
use tests::probe::call;
use tests::{LIMIT, within};
use tokio::task::JoinHandle;

/// Between two calls, and two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Calls one after the other, and a look at each session again and again.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Seen>,
    looks: Vec<JoinHandle<bool>>,
}

/// What was seen of the traffic.
#[derive(Default)]
pub struct Seen {
    /// Calls that went through.
    pub count: u64,
    /// Those that did not.
    pub failed: Vec<String>,
    /// Some session was not held at some time.
    pub uncertain: bool,
}

impl Traffic {
    /// Calls the nodes of these ids, and the probe itself; looks at the sessions that these paths of these hosts show.
    pub fn begin(probe: Probe, ids: Vec<i64>, sessions: Vec<(String, String)>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let look = |(address, path)| tokio::spawn(Self::look(address, path, Arc::clone(&stop)));
        let looks = sessions.into_iter().map(look).collect();
        let task = tokio::spawn(Self::run(probe, ids, Arc::clone(&stop)));
        Self { stop, task, looks }
    }

    async fn run(mut probe: Probe, ids: Vec<i64>, stop: Arc<AtomicBool>) -> Seen {
        let mut seen = Seen::default();
        while !stop.load(Ordering::SeqCst) {
            for id in &ids {
                let request = CallRequest { server_id: Some(*id), ..call("beta", CallKind::Unary) };
                match probe.call(request).await.map(tonic::Response::into_inner) {
                    Ok(answer) if answer.code == 0 => seen.count += 1,
                    answer => seen.failed.push(format!("{answer:?}")),
                }
            }
            match probe.echo(EchoRequest::default()).await {
                Ok(_) => seen.count += 1,
                Err(status) => seen.failed.push(status.to_string()),
            }
            tokio::time::sleep(PAUSE).await;
        }
        seen
    }

    async fn look(address: String, path: String, stop: Arc<AtomicBool>) -> bool {
        let mut uncertain = false;
        while !stop.load(Ordering::SeqCst) {
            let view = tests::admin::get(&address, &path).await.expect("a host answers").json();
            uncertain |= view["session"]["state"] != "held" || view["session"]["time_left_ms"] == 0;
            tokio::time::sleep(PAUSE).await;
        }
        uncertain
    }

    /// Stops, and tells.
    pub async fn end(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        let mut seen = within(LIMIT, self.task).await.expect("no panic");
        for look in self.looks {
            seen.uncertain |= within(LIMIT, look).await.expect("no panic");
        }
        seen
    }
}
