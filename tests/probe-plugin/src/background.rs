//! The background work of a probe: a heart that beats in the metadata, from `activate` to `deactivate` or `snapshot`.
//!
//! Each beat tells whose it is, so that a test sees that at no time two generations beat.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use plugin_api::Context;
use plugin_api::task::Task;

use crate::knobs::Method;
use crate::mischief::Mischief;

/// The key that it beats at: `<generation> <beat>`.
pub const KEY: &str = "beat";

/// Between two beats.
const PAUSE: Duration = Duration::from_millis(10);

/// The background work of one generation.
#[derive(Default)]
pub struct Background {
    task: Mutex<Option<Task<()>>>,
}

impl Background {
    /// It begins.
    pub fn begin(&self, context: &Context, mischief: Mischief) {
        let own = context.clone();
        let task = context.spawn("beat", async move { beat(&own, &mischief).await });
        self.replace(Some(task));
    }

    /// It ends.
    pub fn end(&self) {
        self.replace(None);
    }

    fn replace(&self, task: Option<Task<()>>) {
        let before = std::mem::replace(&mut *self.task.lock().unwrap_or_else(PoisonError::into_inner), task);
        if let Some(before) = before {
            before.abort();
        }
    }
}

async fn beat(context: &Context, mischief: &Mischief) {
    for number in 0_u64.. {
        // An error ends it, as it would end a background task that returns.
        if mischief.play(Method::Background).await.is_err() {
            return;
        }
        let beat = format!("{} {number}", context.identity().generation);
        // It cannot be written while the session is not certain: the next one will be.
        drop(context.metadata().put(KEY, beat).await);
        tokio::time::sleep(PAUSE).await;
    }
}
