//! What a host says that cannot change its components while they run.

use async_trait::async_trait;
use plugin_api::identity::Role;
use tokio::sync::watch;

use crate::admin::{Control, ControlError, Restarted};
use crate::plugin::swap::{Order, SwapView};

/// Changes nothing, and says so.
pub(super) struct NotYet;

fn refused() -> ControlError {
    ControlError::NotNow("this build of the host cannot change its components while they run".to_owned())
}

#[async_trait]
impl Control for NotYet {
    fn swap(&self, _: &Role, _: Order) -> Result<watch::Receiver<SwapView>, ControlError> {
        Err(refused())
    }

    async fn restart(&self, _: &Role) -> Result<Restarted, ControlError> {
        Err(refused())
    }
}
