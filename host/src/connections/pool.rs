//! The connections of one link: one at first, which is proved; then as many as are configured.
//!
//! Each call goes over the connection on which the fewest run. One that is lost, or going away, is replaced, and the link
//! stays ready meanwhile: it ends with its last connection. Not responsible for how a connection is made and proved
//! (`dial`), nor for what the end of a link means (`peer`).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;

use super::ConnectionsConfig;
use super::connection::{Connection, ConnectionEnd};
use super::link::{Ended, LinkBody, SendFailure};
use super::open::Open;
use crate::metrics::{Disconnect, OfRole};
use crate::tls::fault::TlsFault;

/// Makes one more connection, proved as the first was; or says why not.
pub(super) type Dial = Box<dyn Fn() -> BoxFuture<'static, Made> + Send + Sync>;

/// A connection with its end, or why there is none.
pub(super) type Made = Result<(Connection, ConnectionEnd), String>;

/// The number of the first connection.
const FIRST: u64 = 0;

/// What calls are sent on.
pub(super) struct Pool {
    members: Arc<Members>,
    /// A link that nobody has any more makes no connections.
    _retired: Arc<DropGuard>,
}

/// Its connections now. Calls read it, and the end of a connection writes it.
struct Members {
    list: ArcSwap<Vec<Arc<Member>>>,
    retired: CancellationToken,
}

/// One connection. Every call that runs on it holds it, so that they can be counted.
pub(super) struct Member {
    number: u64,
    connection: Connection,
}

/// Tells how a [`Pool`] comes to its end, and keeps its connections as many as they should be.
pub(super) struct PoolEnd {
    /// Weak, because connections end when nobody can send on them any more.
    members: Weak<Members>,
    retired: CancellationToken,
    /// Gone when nobody has the link any more; a call that still waits for its answer does not count.
    held: Weak<DropGuard>,
    /// Where they are counted, and those that are open.
    measured: Option<Arc<OfRole>>,
    open: BTreeMap<u64, Open>,
    first: ConnectionEnd,
    first_over: bool,
    others: JoinSet<(u64, Ended)>,
    growth: Option<Growth>,
    last_number: u64,
    over: Option<Ended>,
}

struct Growth {
    size: usize,
    dial: Dial,
    measured: Option<Arc<OfRole>>,
    config: Arc<ConnectionsConfig>,
    /// Dials that failed, and connections that were lost soon, one after another.
    failures: u32,
    /// When the last one was made.
    made: Instant,
    next: Option<BoxFuture<'static, Made>>,
}

impl Pool {
    /// With its first connection.
    pub fn new(first: (Connection, ConnectionEnd)) -> (Self, PoolEnd) {
        let (connection, end) = first;
        let retired = CancellationToken::new();
        let list = ArcSwap::from_pointee(vec![Arc::new(Member { number: FIRST, connection })]);
        let members = Arc::new(Members { list, retired: retired.clone() });
        let mut pool_end = PoolEnd {
            members: Arc::downgrade(&members),
            retired: retired.clone(),
            held: Weak::new(),
            measured: None,
            open: BTreeMap::new(),
            first: end,
            first_over: false,
            others: JoinSet::new(),
            growth: None,
            last_number: FIRST,
            over: None,
        };
        let held = Arc::new(retired.drop_guard());
        pool_end.held = Arc::downgrade(&held);
        (Self { members, _retired: held }, pool_end)
    }

    /// Sends a request and waits for the head of its answer. A connection that takes no more calls is passed over.
    ///
    /// # Errors
    ///
    /// As [`SendFailure`] has it; `NotSent` where no connection takes it.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it resets this call alone.
    pub fn send(
        &self,
        mut request: Request<Body>,
    ) -> impl Future<Output = Result<Response<LinkBody>, SendFailure>> + Send + use<> {
        let members = Arc::clone(&self.members);
        async move {
            loop {
                let Some(member) = members.least_running() else { return Err(SendFailure::NotSent) };
                match member.connection.send(request).await {
                    Ok(answer) => return Ok(answer.map(|body| LinkBody::Http2 { body, _on: member })),
                    Err((_, Some(unsent))) => {
                        members.remove(member.number);
                        request = *unsent;
                    }
                    Err((failure, None)) => return Err(failure),
                }
            }
        }
    }

    /// No more connections are made; those that are there stay.
    pub fn retire(&self) {
        self.members.retired.cancel();
    }

    /// How many connections take calls now.
    pub fn size(&self) -> usize {
        self.members.list.load().len()
    }

    /// The first connection, while it takes calls.
    pub fn first(&self) -> Option<Connection> {
        self.members.list.load().first().map(|member| member.connection.clone())
    }
}

impl Members {
    fn least_running(&self) -> Option<Arc<Member>> {
        let list = self.list.load();
        // The list holds each once.
        list.iter().min_by_key(|member| Arc::strong_count(member)).map(Arc::clone)
    }

    fn add(&self, member: &Arc<Member>) {
        self.list.rcu(|list| list.iter().chain([member]).map(Arc::clone).collect::<Vec<_>>());
    }

    fn remove(&self, number: u64) {
        self.list.rcu(|list| list.iter().filter(|member| member.number != number).map(Arc::clone).collect::<Vec<_>>());
    }
}

impl PoolEnd {
    /// Counts its connections in a role's metrics from now on, and the dials for more.
    pub fn count(&mut self, measured: &Arc<OfRole>) {
        self.measured = Some(Arc::clone(measured));
        self.open.insert(FIRST, Open::new(measured));
    }

    /// Lets the pool grow to so many connections, and be filled up again.
    pub fn grow(&mut self, size: usize, dial: Dial, config: Arc<ConnectionsConfig>) {
        let made = Instant::now();
        let measured = self.measured.clone();
        self.growth = (size > 1).then_some(Growth { size, dial, measured, config, failures: 0, made, next: None });
    }

    /// The fault of TLS by which the first connection has ended, where it is certain.
    pub fn fault(&self) -> Option<TlsFault> {
        self.first.fault()
    }

    /// The first connection's.
    pub fn into_first(self) -> ConnectionEnd {
        self.first
    }

    /// Ready when the last connection takes no more calls. To be polled: it drives the pool.
    ///
    /// # Cancel safety
    ///
    /// It can be asked again.
    pub async fn ended(&mut self) -> Ended {
        loop {
            if let Some(over) = &self.over {
                return over.clone();
            }
            let size = usize::from(!self.first_over) + self.others.len();
            tokio::select! {
                ended = self.first.ended(), if !self.first_over => {
                    self.first_over = true;
                    self.take_out(FIRST, ended);
                }
                Some(ended) = self.others.join_next() => {
                    let (number, ended) = ended.unwrap_or_else(|error| (u64::MAX, Ended::Lost(error.to_string(), Disconnect::Unknown)));
                    self.take_out(number, ended);
                }
                made = another(&mut self.growth, size, &self.retired) => self.adopt(made),
            }
        }
    }

    fn take_out(&mut self, number: u64, ended: Ended) {
        if let Some(members) = self.members.upgrade() {
            members.remove(number);
        }
        if let Some(mut open) = self.open.remove(&number) {
            open.ended(&ended, self.held.strong_count() > 0);
        }
        if self.first_over && self.others.is_empty() {
            self.over = Some(ended);
        } else if let Some(growth) = &mut self.growth {
            tracing::debug!(?ended, "a link has one connection less");
            growth.lost();
        }
    }

    fn adopt(&mut self, made: (Connection, ConnectionEnd)) {
        let (connection, mut end) = made;
        let Some(members) = self.members.upgrade() else { return };
        self.last_number += 1;
        let number = self.last_number;
        members.add(&Arc::new(Member { number, connection }));
        self.open.extend(self.measured.as_ref().map(|measured| (number, Open::new(measured))));
        self.others.spawn(async move { (number, end.ended().await) });
    }
}

/// Ready with one more connection, where there are fewer than there should be.
///
/// # Cancel safety
///
/// A dial that runs goes on when it is asked again.
async fn another(growth: &mut Option<Growth>, size: usize, retired: &CancellationToken) -> (Connection, ConnectionEnd) {
    let Some(growth) = growth.as_mut().filter(|growth| size < growth.size) else { return std::future::pending().await };
    loop {
        if growth.next.is_none() && !retired.is_cancelled() {
            growth.next = Some(growth.begin());
        }
        let Some(next) = &mut growth.next else { return std::future::pending().await };
        let made = tokio::select! {
            biased;
            () = retired.cancelled() => None,
            made = next => Some(made),
        };
        growth.next = None;
        match made {
            Some(Ok(made)) => {
                growth.made = Instant::now();
                return made;
            }
            Some(Err(error)) => {
                tracing::debug!(error, "a link has no further connection yet");
                growth.failures = growth.failures.saturating_add(1);
                if let Some(measured) = &growth.measured {
                    measured.links.failed();
                }
            }
            None => {}
        }
    }
}

impl Growth {
    fn begin(&self) -> BoxFuture<'static, Made> {
        let pause = match self.failures {
            0 => Duration::ZERO,
            failures => self.config.backoff(failures - 1, fastrand::f64() * 2.0 - 1.0),
        };
        let dial = (self.dial)();
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            dial.await
        })
    }

    /// One that is lost soon after it was made is not made again at once, and then later and later.
    fn lost(&mut self) {
        let soon = self.made.elapsed() < self.config.backoff_max;
        self.failures = if soon { self.failures.saturating_add(1) } else { 1 };
    }
}
