//! Tells a component of its peers, one event at a time, from its activation on.

use futures_util::StreamExt as _;
use plugin_api::peers::PeerEvent;
use tokio_util::task::AbortOnDropHandle;

use super::{Alive, Member};
use crate::plugin::Generation;
use crate::startup::Parts;

/// First the table of each dependency, then each change. It ends with what is returned.
pub fn tell(member: &Member, parts: &Parts, generation: &Generation, alive: &Alive) -> AbortOnDropHandle<()> {
    let dependencies = &generation.descriptor().dependencies;
    let streams = dependencies.iter().filter_map(|dependency| {
        let events = parts.connections.watch_clients(&member.role, &dependency.role);
        // It was declared in step 2 or 3; only a host that stops has removed it.
        events.ok().map(futures_util::StreamExt::boxed)
    });
    let mut events = futures_util::stream::select_all(streams);
    let (generation, failures, role) = (generation.clone(), alive.failures.sender(), member.role.clone());
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let event: PeerEvent = event;
            if let Err(error) = generation.component().on_peer(&event).await {
                tracing::warn!(%role, %error, "on_peer failed");
                // Nobody listens any more where the component is on its way out.
                let _ = failures.send(error);
                return;
            }
        }
    }))
}
