//! What a host shows of its connections, compared at any moment with what etcd said and what the test did.
//!
//! [`Truth::beside`] asks a host for `/api/v1/connections` again and again, on a thread of its own, while a scenario runs.
//! Each answer has to be the table as etcd had it at the revision that the answer names, and that revision may not be older
//! than what a bare [`Watcher`] had received [`BEHIND`] before. The comparison is in `check`; time in which this machine gave
//! the host no processor, which `withheld` reads from the kernel, does not count.

mod check;
mod withheld;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use plugin_api::identity::Role;
use serde_json::Value;

use self::check::Checker;
use self::withheld::Withheld;
use crate::admin;
use crate::clock::monotonic;
use crate::cluster::Cluster;
use crate::host::Host;
use crate::watcher::{Log, Watcher};

/// What is shown may be behind the watcher by so much.
pub const BEHIND: Duration = Duration::from_millis(100);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A look is judged so much later: the host may have received an event before the watcher did.
const JUDGED_AFTER: Duration = Duration::from_millis(250);

/// How long a host may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// After its watches could begin again, what is shown may be behind for so long.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(5);

/// How many looks there are in any scenario, or it has not been looked at.
const LEAST_LOOKS: usize = 5;

/// An answer.
struct Look {
    /// When it was asked for, and when it was there.
    asked: Duration,
    answered: Duration,
    document: Value,
}

/// What the test did.
#[derive(Clone, Default)]
struct Acts {
    /// Processes that have ended: role, id, and when that was so for certain.
    ended: Vec<(Role, i64, Duration)>,
    /// When the host could not hear etcd: from when, and since when it could again, though it may not have noticed at once.
    cut_off: Vec<(Duration, Option<Duration>)>,
}

#[derive(Default)]
struct Shared {
    acts: Mutex<Acts>,
    end: Mutex<bool>,
    findings: Mutex<Findings>,
}

/// What came of it.
#[derive(Default)]
struct Findings {
    looks: usize,
    lies: Vec<String>,
}

/// A checker that runs beside a scenario.
#[must_use = "only `finish` says what it has found"]
pub struct Truth {
    watcher: Watcher,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Truth {
    /// Compares what this host shows with what etcd says, from now on.
    pub async fn beside(host: &Host, cluster: &Cluster) -> Self {
        let watcher = Watcher::of(cluster).await;
        let shared = Arc::new(Shared::default());
        let looking = Looking {
            address: host.admin_address().await,
            log: watcher.shared(),
            shared: Arc::clone(&shared),
            checker: Checker::new(cluster.keys(), host.config().ttl()),
            withheld: Withheld::of(host.pid()),
        };
        let thread = std::thread::Builder::new().name("truth".to_owned()).spawn(move || looking.run());
        Self { watcher, shared, thread: Some(thread.expect("a thread can be started")) }
    }

    /// The watcher that it compares with.
    pub fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// This process has just ended, by the test's own hand: no link to it is ready any more.
    pub fn ended(&self, role: &str, server_id: i64) {
        let role = Role::new(role).expect("a role");
        lock(&self.shared.acts).ended.push((role, server_id, monotonic()));
    }

    /// The host cannot hear etcd from now on: what it shows may be old, and has to say how old it is.
    pub fn cut_off(&self) {
        lock(&self.shared.acts).cut_off.push((monotonic(), None));
    }

    /// The host can hear etcd again, and has to have caught up soon.
    pub fn healed(&self) {
        let mut acts = lock(&self.shared.acts);
        let (_, healed) = acts.cut_off.last_mut().expect("it was cut off");
        *healed = Some(monotonic());
    }

    /// Ends it.
    ///
    /// # Panics
    ///
    /// Where anything that was shown was untrue: what, when, and both documents.
    pub fn finish(mut self) {
        *lock(&self.shared.end) = true;
        let thread = self.thread.take().expect("it runs until here");
        thread.join().expect("the checker does not panic");
        let findings = lock(&self.shared.findings);
        assert!(findings.lies.is_empty(), "untrue in /api/v1/connections:\n{}", findings.lies.join("\n\n"));
        assert!(findings.looks >= LEAST_LOOKS, "{} looks are none", findings.looks);
    }
}

impl Drop for Truth {
    fn drop(&mut self) {
        *lock(&self.shared.end) = true;
        if let Some(thread) = self.thread.take() {
            // A panic in it was printed where it happened.
            drop(thread.join());
        }
    }
}

/// What its thread owns.
struct Looking {
    address: String,
    log: Arc<Mutex<Log>>,
    shared: Arc<Shared>,
    checker: Checker,
    withheld: Withheld,
}

impl Looking {
    fn run(mut self) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        runtime.block_on(async {
            let mut waiting = std::collections::VecDeque::new();
            loop {
                let ends = *lock(&self.shared.end);
                if !ends {
                    waiting.extend(self.look().await);
                }
                while waiting.front().is_some_and(|look| self.can_judge(look)) {
                    let look = waiting.pop_front().expect("there is one");
                    self.judge(&look);
                }
                // Nobody can judge by a watcher that has nobody to ask.
                if ends && (waiting.is_empty() || lock(&self.log).watching_since.is_none()) {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    async fn look(&mut self) -> Option<Look> {
        let asked = monotonic();
        let answer = tokio::time::timeout(ANSWER_LIMIT, admin::get(&self.address, "/api/v1/connections")).await;
        let answered = monotonic();
        self.withheld.note(answered);
        // A host that is not there says nothing untrue.
        let answer = answer.ok()?.ok().filter(|answer| answer.status == 200)?;
        Some(Look { asked, answered, document: answer.json() })
    }

    fn can_judge(&self, look: &Look) -> bool {
        let since = lock(&self.log).watching_since;
        since.is_some_and(|since| monotonic() > look.answered.max(since) + JUDGED_AFTER)
    }

    fn judge(&mut self, look: &Look) {
        let (log, acts) = (lock(&self.log), lock(&self.shared.acts).clone());
        let lies = self.checker.judge(look, &log, &acts, &self.withheld);
        drop(log);
        let mut findings = lock(&self.shared.findings);
        findings.looks += 1;
        // The first ones tell most.
        if findings.lies.len() < 3 {
            findings.lies.extend(lies);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
