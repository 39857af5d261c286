//! How long after etcd's return a session is held again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use componenthost::session::{OnDeleted, Session, SessionSettings, SessionStatus, StateFile};
use plugin_api::descriptor::Kind;
use tempfile::TempDir;
use tests::etcd::Etcd;

use super::sessions::{role, server_id};
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "back",
    about: "from etcd's return after an outage past the TTL until the session is held again",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// The shortest that is allowed.
const TTL: Duration = Duration::from_secs(2);

/// Whatever is waited for comes within this time.
const LIMIT: Duration = Duration::from_secs(60);

async fn measure(effort: Effort) -> Vec<Row> {
    let rounds = effort.pick(2, 8);
    let counts = format!("{rounds} outages past a TTL of 2 s");
    let (mut silent, mut killed) = (Vec::new(), Vec::new());
    let etcd = Etcd::start().await;
    let session = Kept::open(&etcd).await;
    for _ in 0..rounds {
        etcd.stop().await;
        session.until_lost().await;
        etcd.cont();
        silent.push(session.back(Instant::now()).await);
        etcd.kill();
        session.until_lost().await;
        // It returns when etcd answers again.
        etcd.restart().await;
        killed.push(session.back(Instant::now()).await);
    }
    vec![
        Row::alone("back: etcd was silent", Unit::Seconds, &silent, Target::AtMost(1.0), counts.clone()),
        Row::alone("back: etcd was killed", Unit::Seconds, &killed, Target::AtMost(1.0), counts),
    ]
}

struct Kept {
    session: Session,
    _directory: TempDir,
}

impl Kept {
    async fn open(etcd: &Etcd) -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let state_file = StateFile::open(directory.path(), "bench", &[role()]).expect("a state file can be made");
        let settings = SessionSettings {
            role: role(),
            server_id: server_id(1),
            kind: Kind::Node,
            address: "127.0.0.1:53100".to_owned(),
            bound: SocketAddr::from(([127, 0, 0, 1], 53100)),
            version: "1.2.3".to_owned().into(),
            labels: [].into(),
            host_name: "here".to_owned(),
            ttl: TTL,
            standby: false,
            on_deleted: OnDeleted::Register,
        };
        let session = Session::open(etcd.registry().await, settings, Arc::new(state_file));
        let kept = Self { session, _directory: directory };
        kept.back(Instant::now()).await;
        kept
    }

    async fn until_lost(&self) {
        // A little longer than it takes the host to doubt: etcd's own clock for the lease has run out too.
        self.until(|status| matches!(status, SessionStatus::Lost { .. })).await;
        tokio::time::sleep(TTL / 4).await;
    }

    async fn back(&self, since: Instant) -> f64 {
        self.until(|status| matches!(status, SessionStatus::Held(_))).await;
        since.elapsed().as_secs_f64()
    }

    async fn until(&self, wanted: impl Fn(&SessionStatus) -> bool) {
        let mut status = self.session.status();
        let there = status.wait_for(wanted);
        tokio::time::timeout(LIMIT, there).await.expect("it comes to that").expect("the keeper runs");
    }
}
