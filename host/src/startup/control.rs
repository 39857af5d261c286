//! What the admin socket may change of this host: each is handed to the owner of the component.

use std::sync::Arc;

use async_trait::async_trait;
use plugin_api::identity::Role;
use plugin_api::state::StateCode;
use tokio::sync::{oneshot, watch};

use super::Parts;
use crate::admin::{Control, ControlError, Restarted};
use crate::supervise::commands::Command;
use crate::supervise::{Member, swap};
use crate::swap::{Order, SwapView};

/// The components of a host, to be changed.
pub struct HostControl {
    members: Vec<Arc<Member>>,
    parts: Arc<Parts>,
}

impl HostControl {
    /// Of these.
    pub fn new(members: &[Arc<Member>], parts: Arc<Parts>) -> Self {
        Self { members: members.to_vec(), parts }
    }

    fn member(&self, role: &Role) -> Result<&Arc<Member>, ControlError> {
        self.members.iter().find(|member| member.role == *role).ok_or_else(|| {
            let roles = self.members.iter().map(|member| member.role.to_string()).collect();
            ControlError::NoSuchRole { role: role.clone(), roles }
        })
    }
}

#[async_trait]
impl Control for HostControl {
    fn swap(&self, role: &Role, order: Order) -> Result<watch::Receiver<SwapView>, ControlError> {
        Ok(swap::begin(self.member(role)?, &self.parts, order))
    }

    async fn restart(&self, role: &Role) -> Result<Restarted, ControlError> {
        let member = self.member(role)?;
        let stops = || ControlError::NotNow("the host stops".to_owned());
        let mut status = member.lifecycle.watch();
        let before = status.borrow_and_update().restarts;
        let (answer, ended) = oneshot::channel();
        if !member.ask(Command::Restart(answer)) {
            return Err(stops());
        }
        // An owner that ends without an answer ends with the host.
        let limit = self.parts.config.swap.wait_limit;
        let Ok(ended) = tokio::time::timeout(limit, ended).await else {
            let (code, limit) = (member.lifecycle.status().state.code(), humantime::format_duration(limit));
            let text = format!("{role} is {code}, and was not ready to be restarted within {limit} (swap.wait_limit)");
            return Err(ControlError::NotNow(text));
        };
        ended.map_err(|_| stops())?;
        let settled = status.wait_for(|status| {
            let code = status.state.code();
            code == StateCode::Stopping || (status.restarts > before && code != StateCode::Initializing)
        });
        let settled = settled.await.map_err(|_| stops())?.clone();
        let (code, last) = (settled.state.code(), settled.steps.last());
        if code == StateCode::Stopping {
            return Err(stops());
        }
        Ok(Restarted {
            state_code: code.to_string(),
            detail: last.map(|step| step.detail.clone()).unwrap_or_default(),
            started: matches!(code, StateCode::Healthy | StateCode::StandBy),
        })
    }
}
