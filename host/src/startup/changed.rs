//! Components whose files have changed are swapped: at SIGHUP ([`hangup`]), and, in development, as soon as a file was
//! rebuilt ([`rebuilt`]).
//!
//! Both ask a [`Control`] as a user would, and log what came of it; what a swap is, is not known here. Each component is
//! followed by itself, so that the probation of one holds up no other.

mod hangup;
mod rebuilt;
mod settled;

use std::sync::Arc;

use plugin_api::identity::Role;
use tokio::sync::watch;

use crate::admin::{Control, ControlError};
use crate::plugin::Origin;
use crate::swap::{Order, Outcome};

/// From which file each component's running code came; those that are linked in are left out.
pub(super) type Origins = Arc<dyn Fn() -> Vec<(Role, Origin)> + Send + Sync>;

/// Swaps at each change of `hangups` and, with `watch`, whenever a file was rebuilt. Never returns.
///
/// # Cancel safety
///
/// Swaps that were begun go on.
pub(super) async fn follow(control: Arc<dyn Control>, origins: Origins, hangups: watch::Receiver<u64>, watch: bool) {
    let components = origins();
    if components.is_empty() {
        tracing::info!(watch, "every component is linked into this program: no file of one can change");
    }
    let of_each = components.into_iter().map(async |(role, origin)| {
        let of_rebuilt = async {
            if watch {
                tracing::info!(%role, path = %origin.found.display(), "watching for another build");
                rebuilt::follow(&role, &*control, &origins).await;
            }
        };
        tokio::join!(hangup::follow(&role, &*control, &origins, hangups.clone()), of_rebuilt);
    });
    futures_util::future::join_all(of_each).await;
}

/// From which file this component's code came.
fn origin_of(role: &Role, origins: &Origins) -> Option<Origin> {
    origins().into_iter().find(|(of, _)| of == role).map(|(_, origin)| origin)
}

/// Swaps, and logs what came of it.
///
/// # Errors
///
/// Where it was not begun; that is the caller's to log.
async fn swap(role: &Role, control: &dyn Control, order: Order, why: &'static str) -> Result<(), ControlError> {
    let plugin = order.plugin.clone();
    let mut swap = control.swap(role, order)?;
    let ended = swap.wait_for(|view| view.outcome.is_some()).await.map(|view| view.clone());
    match ended {
        Ok(view) if view.outcome == Some(Outcome::Committed) => {
            tracing::info!(%role, plugin, why, generation = view.to, reason = view.reason, "swapped");
        }
        // Whoever follows the file asks again.
        Ok(view) if view.passing => return Err(ControlError::NotNow(view.reason)),
        Ok(view) => {
            let outcome = match view.outcome {
                Some(Outcome::RolledBack) => "rolled back",
                Some(Outcome::Failed) => "failed",
                _ => "refused",
            };
            tracing::warn!(%role, plugin, why, outcome, reason = view.reason, "not swapped");
        }
        // Its sender has gone.
        Err(_) => tracing::warn!(%role, plugin, why, "a swap has ended without an outcome"),
    }
    Ok(())
}

/// File work, which may hang where the file system does, on a thread where it holds up nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It is never aborted: so it has panicked, and that is for the caller's task.
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

#[cfg(test)]
mod fake;
