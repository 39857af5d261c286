//! What a user would take instead: channels of tonic's, and its balancer fed by a watch of etcd.

use std::time::Duration;

use componenthost::cluster::Record;
use etcd_client::{Client, EventType, GetOptions, KeyValue, WatchOptions, WatchStream};
use plugin_api::identity::Role;
use probe_plugin::v1::EchoRequest;
use tests::Cluster;
use tests::clock::monotonic;
use tests::probe::hold;
use tokio::sync::mpsc::Sender;
use tokio::task::{AbortHandle, JoinHandle};
use tonic::transport::channel::Change;
use tonic::transport::{Channel, Endpoint};

use super::stage::{PEER, Stage};
use crate::rows::caller::endpoint;

/// As the table in the documentation has it.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));

/// Between two calls of who tries until one is answered.
const PAUSE: Duration = Duration::from_millis(2);

/// One of them.
pub struct Plain {
    /// For people.
    pub name: &'static str,
    channel: Channel,
    feeding: Option<AbortHandle>,
}

/// How a call ended, and when.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// It was answered well.
    pub well: bool,
    /// By the clock of all processes.
    pub at: Duration,
}

impl Plain {
    /// All of them, each of which has called the peer.
    pub async fn all(stage: &Stage) -> Vec<Self> {
        let once = endpoint(&stage.address());
        let kept = once.clone().http2_keep_alive_interval(KEEPALIVE.0).keep_alive_timeout(KEEPALIVE.1);
        let all = vec![
            Self::of("tonic", &once).await,
            Self::of("keepalive", &kept.keep_alive_while_idle(true)).await,
            Self::balancer(&stage.cluster).await,
        ];
        for plain in &all {
            assert!(echo(plain.channel.clone()).await, "the peer answers {}", plain.name);
        }
        all
    }

    async fn of(name: &'static str, endpoint: &Endpoint) -> Self {
        Self { name, channel: endpoint.connect().await.expect("the peer listens"), feeding: None }
    }

    async fn balancer(cluster: &Cluster) -> Self {
        let (channel, changes) = Channel::balance_channel(8);
        let prefix = cluster.keys().active_session(&Role::new(PEER).expect("a role"));
        let feeding = tokio::spawn(feed(cluster.etcd().client().await, prefix, changes));
        Self { name: "balancer", channel, feeding: Some(feeding.abort_handle()) }
    }

    /// A call that the peer holds.
    pub fn running(&self) -> JoinHandle<Ended> {
        let mut probe = probe_plugin::client(self.channel.clone(), PEER);
        tokio::spawn(async move { Ended::now(probe.hold(hold("bench")).await.is_ok()) })
    }

    /// A call, and when it ends.
    pub fn call(&self) -> JoinHandle<Ended> {
        let channel = self.channel.clone();
        tokio::spawn(async move { Ended::now(echo(channel).await) })
    }

    /// Calls, one after the other, until one is answered.
    pub fn until_answered(&self) -> JoinHandle<Ended> {
        let channel = self.channel.clone();
        tokio::spawn(async move {
            while !echo(channel.clone()).await {
                tokio::time::sleep(PAUSE).await;
            }
            Ended::now(true)
        })
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        if let Some(feeding) = &self.feeding {
            feeding.abort();
        }
    }
}

impl Ended {
    /// It has ended now.
    pub fn now(well: bool) -> Self {
        Self { well, at: monotonic() }
    }
}

async fn echo(channel: Channel) -> bool {
    probe_plugin::client(channel, PEER).echo(EchoRequest::default()).await.is_ok()
}

/// What its user would write: what is there, and then what changes.
async fn feed(mut client: Client, prefix: String, changes: Sender<Change<Vec<u8>, Endpoint>>) {
    let list = client.get(prefix.as_str(), Some(GetOptions::new().with_prefix())).await.expect("etcd lists");
    let next = list.header().expect("each answer has a header").revision() + 1;
    for stored in list.kvs() {
        drop(changes.send(insert(stored)).await);
    }
    let options = WatchOptions::new().with_prefix().with_start_revision(next);
    let watch = client.watch(prefix, Some(options)).await.expect("etcd lets watch");
    follow(watch, changes).await;
}

async fn follow(mut watch: WatchStream, changes: Sender<Change<Vec<u8>, Endpoint>>) {
    while let Ok(Some(answer)) = watch.message().await {
        for event in answer.events() {
            let Some(stored) = event.kv() else { continue };
            let change = match event.event_type() {
                EventType::Put => insert(stored),
                EventType::Delete => Change::Remove(stored.key().to_vec()),
            };
            if changes.send(change).await.is_err() {
                return;
            }
        }
    }
}

fn insert(stored: &KeyValue) -> Change<Vec<u8>, Endpoint> {
    let record: Record = serde_json::from_slice(stored.value()).expect("a session's value is a record");
    Change::Insert(stored.key().to_vec(), endpoint(&record.address))
}
