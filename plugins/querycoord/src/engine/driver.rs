//! The task that tells the rules what happens, and carries out what follows.
//!
//! All that it has under way is part of it: it ends with the task, at the latest when the component is deactivated. Where the
//! way to it is closed, as what is known is about to be handed over, it begins nothing more, and ends as soon as nothing is
//! being written or released.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use plugin_api::Transaction;
use proto::querynode::v1::LoadSegmentsRequest;
use proto::store::Store;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep_until;

use super::{Engine, notices};
use crate::cluster::Cluster;
use crate::core::{Action, Change, Input};
use crate::limit::limited;

/// So many answers are taken together at most: who asks for something does not wait for more.
const AT_ONCE: usize = 64;

/// What is being written or released may take so long when the task is to end. What comes later is found out by whoever goes
/// on: a write by its compare, a release by the node's own word.
const LAST: Duration = Duration::from_secs(1);

/// Until it is dropped, or nobody can ask for anything any more.
pub(super) async fn run<S: Store, C: Cluster>(engine: Arc<Engine<S, C>>, mut inputs: UnboundedReceiver<Input>) {
    let mut peers = engine.cluster.peers().fuse();
    let mut under_way = FuturesUnordered::<BoxFuture<'static, Input>>::new();
    let mut fenced = false;
    let mut fence = pin!(fence(&engine, true));
    loop {
        let timer = engine.core().timer().map(|at| engine.begun + at);
        let mut happened = tokio::select! {
            input = inputs.recv() => match input {
                Some(input) => vec![input],
                None => return end(&engine, under_way).await,
            },
            Some(change) = peers.next() => notices::inputs(change),
            Some(input) = under_way.next() => vec![input],
            () = &mut fence => {
                fenced = !fenced;
                fence.set(self::fence(&engine, !fenced));
                vec![Input::Fenced(fenced)]
            }
            () = sleep_until(timer.unwrap_or(engine.begun)), if timer.is_some() => vec![Input::Timer],
        };
        // What is there by now is taken together: what searches go by is made once for all of it.
        while happened.len() < AT_ONCE
            && let Some(Some(input)) = under_way.next().now_or_never()
        {
            happened.push(input);
        }
        let now = engine.begun.elapsed();
        let actions: Vec<_> = {
            let mut core = engine.core();
            happened.into_iter().flat_map(|input| core.step(now, input)).collect()
        };
        // Before anything is released: searches that begin later do not ask for it.
        engine.publish();
        for action in actions {
            under_way.extend(carry_out(&engine, action));
        }
    }
}

/// Nothing is begun any more, and nothing is left that changes what others find. Loads end here: they are begun again.
async fn end<S: Store, C: Cluster>(
    engine: &Arc<Engine<S, C>>,
    mut under_way: FuturesUnordered<BoxFuture<'static, Input>>,
) {
    engine.core().pause();
    let quiet = async {
        while !engine.core().is_quiet()
            && let Some(input) = under_way.next().await
        {
            let now = engine.begun.elapsed();
            let answers = engine.core().step(now, input);
            engine.publish();
            answers.into_iter().for_each(|answer| drop(carry_out(engine, answer)));
        }
    };
    if tokio::time::timeout(LAST, quiet).await.is_err() {
        tracing::warn!("something is still being written or released after {LAST:?}, and is not waited for");
    }
}

/// Returns when the metadata can be written, or cannot be.
fn fence<S: Store, C: Cluster>(engine: &Arc<Engine<S, C>>, fenced: bool) -> BoxFuture<'static, ()> {
    let cluster = Arc::clone(&engine.cluster);
    async move { cluster.fence_is(fenced).await }.boxed()
}

fn carry_out<S: Store, C: Cluster>(engine: &Arc<Engine<S, C>>, action: Action) -> Option<BoxFuture<'static, Input>> {
    let (store, cluster, limits) = (Arc::clone(&engine.store), Arc::clone(&engine.cluster), engine.limits);
    Some(match action {
        Action::Write(changes) => {
            async move { Input::Written(store.transact(transaction(changes)).await.map_err(Into::into)) }.boxed()
        }
        Action::Read(keys) => async move {
            let mut values = Vec::with_capacity(keys.len());
            for key in keys {
                match store.get(&key.to_string()).await {
                    Ok(entry) => values.push(entry.map(|entry| entry.value)),
                    Err(error) => return Input::Read(Err(error.into())),
                }
            }
            Input::Read(Ok(values))
        }
        .boxed(),
        Action::Ask { call, node } => {
            async move { Input::Told(call, limited(limits.call, cluster.held(node)).await) }.boxed()
        }
        Action::Load { call, node, collection, segment } => async move {
            let request = LoadSegmentsRequest {
                collection_id: collection.id,
                segments: vec![segment.into()],
                collection: Some(collection.into()),
            };
            Input::Loaded(call, limited(limits.load, cluster.load(node, request)).await)
        }
        .boxed(),
        Action::Release { call, node, segments } => {
            async move { Input::Released(call, limited(limits.call, cluster.release(node, segments)).await) }.boxed()
        }
        Action::Dismiss { call, node, reason } => {
            async move { Input::Dismissed(call, limited(limits.call, cluster.dismiss(node, reason)).await) }.boxed()
        }
        Action::Confirm { call, collection } => {
            async move { Input::Confirmed(call, limited(limits.call, cluster.has_collection(collection)).await) }
                .boxed()
        }
        Action::Answer(token, done) => {
            if let Some(caller) = engine.callers().waiting.remove(&token) {
                // It may have gone away.
                let _ = caller.send(*done);
            }
            return None;
        }
    })
}

fn transaction(changes: Vec<Change>) -> Transaction {
    changes.into_iter().fold(Transaction::new(), |transaction, Change { key, before, after }| {
        let key = key.to_string();
        let compared = match before {
            Some(value) => transaction.if_value(&key, value),
            None => transaction.if_absent(&key),
        };
        match after {
            Some(value) => compared.put(key, value),
            None => compared.delete(key),
        }
    })
}
