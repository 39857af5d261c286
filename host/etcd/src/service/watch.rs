//! The service `Watch`: many watches on one stream, each from its own revision on.
//!
//! A stream reads what it has to tell from the store's log when its client takes it: a slow client lags behind, costs nobody
//! anything, and is told when what it has missed was compacted. There is no task and no buffer of events for it.

mod fragment;
mod watcher;
mod watchers;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService};
use futures_util::stream::unfold;
use futures_util::{FutureExt, Stream};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

use self::fragment::fragments;
use self::watcher::{Filters, MAX_BYTES, Watcher, size};
use self::watchers::Watchers;
use crate::engine::Engine;
use crate::refusal::Refusal;
use crate::store;

/// How often a watch that has nothing to tell says so, where its client wants that: etcd's own interval.
const PROGRESS_EVERY: Duration = Duration::from_secs(600);

/// The id of an answer that is about all watches of a stream.
const ALL_WATCHES: i64 = -1;

/// Changes as they come.
pub struct WatchService {
    /// What is watched.
    pub engine: Arc<Engine>,
    /// Ends all streams.
    pub stop: CancellationToken,
}

#[async_trait]
impl PbWatchService for WatchService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<PbWatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<PbWatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let mut progress = interval_at(Instant::now() + PROGRESS_EVERY, PROGRESS_EVERY);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stream = WatchStream {
            revisions: self.engine.revisions(),
            engine: Arc::clone(&self.engine),
            stop: self.stop.clone(),
            requests: request.into_inner(),
            watchers: Watchers::default(),
            answers: VecDeque::new(),
            progress,
        };
        Ok(Response::new(Box::pin(unfold(stream, WatchStream::next))))
    }
}

/// One stream of a client.
struct WatchStream {
    engine: Arc<Engine>,
    stop: CancellationToken,
    requests: Streaming<PbWatchRequest>,
    revisions: Receiver<i64>,
    watchers: Watchers,
    /// What the client takes next.
    answers: VecDeque<PbWatchResponse>,
    progress: Interval,
}

impl WatchStream {
    /// The next answer; none where the client has ended its requests, as etcd ends the stream then.
    async fn next(mut self) -> Option<(Result<PbWatchResponse, Status>, Self)> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Some((Ok(answer), self));
            }
            // Requests come first, or a stream that always has something to tell could not be cancelled.
            match self.requests.message().now_or_never() {
                Some(Ok(Some(request))) => {
                    self.take(request);
                    continue;
                }
                Some(_) => return None,
                None => {}
            }
            if self.tell() {
                continue;
            }
            tokio::select! {
                () = self.stop.cancelled() => return Some((Err(Refusal::Stopped.into()), self)),
                request = self.requests.message() => match request.ok().flatten() {
                    Some(request) => self.take(request),
                    None => return None,
                },
                // The sender is in the engine, which this stream keeps.
                _ = self.revisions.changed() => {}
                _ = self.progress.tick() => self.say_progress(),
            }
        }
    }

    /// Puts what has happened into `answers`; says whether there was anything.
    fn tell(&mut self) -> bool {
        // First the mark, then the look: what comes between is looked at twice, and told once.
        self.revisions.mark_unchanged();
        let state = self.engine.read();
        let identity = self.engine.identity();
        let mut bytes = 0;
        self.watchers.in_turn(|watcher| {
            let told = watcher.tell(state.machine.store(), state.visible, identity);
            bytes += told.iter().flat_map(|answer| &answer.events).map(size).sum::<usize>();
            self.answers.extend(told.into_iter().flat_map(|answer| fragments(answer, watcher.fragment)));
            bytes < MAX_BYTES
        });
        !self.answers.is_empty()
    }

    fn take(&mut self, request: PbWatchRequest) {
        let revision = self.engine.visible().revision;
        let header = Some(self.engine.identity().header(revision));
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(create)) => {
                let key = if create.key.is_empty() { vec![0] } else { create.key };
                let watcher = Watcher {
                    id: create.watch_id,
                    interval: store::Interval::new(key, create.range_end),
                    next: if create.start_revision == 0 { revision + 1 } else { create.start_revision },
                    filters: Filters::of(&create.filters),
                    prev_kv: create.prev_kv,
                    fragment: create.fragment,
                    progress: create.progress_notify,
                    quiet: true,
                    live: false,
                    ended: false,
                };
                let created = PbWatchResponse { header, created: true, ..PbWatchResponse::default() };
                self.answers.push_back(match self.watchers.add(watcher) {
                    Ok(watch_id) => PbWatchResponse { watch_id, ..created },
                    Err(refused) => {
                        let cancel_reason = refused.to_string();
                        PbWatchResponse { watch_id: -1, canceled: true, cancel_reason, ..created }
                    }
                });
            }
            Some(PbWatchRequestUnion::CancelRequest(cancel)) => {
                let known = self.watchers.remove(cancel.watch_id);
                let canceled = PbWatchResponse { header, canceled: true, ..PbWatchResponse::default() };
                // etcd is silent about a watch that it does not know.
                self.answers.extend(known.then_some(PbWatchResponse { watch_id: cancel.watch_id, ..canceled }));
            }
            Some(PbWatchRequestUnion::ProgressRequest(_)) => {
                // All that happened up to the revision that it names goes before.
                self.tell();
                let header = Some(self.engine.identity().header(self.watchers.told_through(revision)));
                let answer = PbWatchResponse { header, watch_id: ALL_WATCHES, ..PbWatchResponse::default() };
                self.answers.push_back(answer);
            }
            // etcd does not answer what says nothing.
            None => {}
        }
    }

    /// Watches that have told nothing since the last time say up to which revision they have told all.
    fn say_progress(&mut self) {
        let revision = self.engine.visible().revision;
        let header = Some(self.engine.identity().header(revision));
        for watcher in self.watchers.iter_mut().filter(|watcher| watcher.progress && !watcher.ended) {
            if watcher.quiet && watcher.next > revision {
                let watch_id = watcher.id;
                self.answers.push_back(PbWatchResponse { header, watch_id, ..PbWatchResponse::default() });
            }
            watcher.quiet = true;
        }
    }
}
