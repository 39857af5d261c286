//! `componenthost.v1.Host`: who answers here, and how the components stand.

use std::sync::Arc;
use std::time::Duration;

use plugin_api::state::StateCode;
use tonic::{Request, Response, Status};

use super::dispatch::Own;
use super::served::{Member, Served};
use crate::lifecycle::State;
use crate::wire::v1::host_server::Host;
use crate::wire::v1::{
    ComponentInfo, ComponentStates, GetComponentStatesRequest, GetIdentityRequest, GetIdentityResponse, KeyValuePair,
    RoleState,
};

/// The longest that an identity call is held, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The host's own service.
pub struct HostService {
    own: Arc<Own>,
    served: Served,
}

impl HostService {
    /// Answers for these components.
    pub fn new(own: Arc<Own>, served: Served) -> Self {
        Self { own, served }
    }

    /// Waits until the role, or each role, has left Initializing.
    async fn left_initializing(&self, role: &str) {
        let table = self.served.table();
        let waited_for = table.members.iter().filter(|(each, _)| role.is_empty() || each.as_str() == role);
        for (_, member) in waited_for {
            let mut status = member.status.clone();
            // It fails where the component's owner is gone, with the host.
            let _ = status.wait_for(|status| status.state.code() != StateCode::Initializing).await;
        }
    }
}

#[tonic::async_trait]
impl Host for HostService {
    async fn get_identity(
        &self,
        request: Request<GetIdentityRequest>,
    ) -> Result<Response<GetIdentityResponse>, Status> {
        let request = request.into_inner();
        let wait = Duration::from_millis(u64::try_from(request.wait_ms).unwrap_or(0)).min(LONGEST_WAIT);
        if !wait.is_zero() {
            // The answer is the same whether the wait has ended by itself or not.
            let _ = tokio::time::timeout(wait, self.left_initializing(&request.role)).await;
        }
        let table = self.served.table();
        let roles = table.members.iter().map(|(role, member)| {
            let status = member.status.borrow();
            RoleState {
                role: role.to_string(),
                state_code: status.state.code().number(),
                fenced: status.fenced.is_some(),
                generation: status.generation,
            }
        });
        Ok(Response::new(GetIdentityResponse {
            cluster: self.own.cluster.clone(),
            server_id: self.own.server_id.0,
            boot_id: self.own.boot_id.clone(),
            roles: roles.collect(),
        }))
    }

    async fn get_component_states(
        &self,
        _: Request<GetComponentStatesRequest>,
    ) -> Result<Response<ComponentStates>, Status> {
        let table = self.served.table();
        let subcomponent_states: Vec<ComponentInfo> =
            table.members.iter().map(|(role, member)| self.info(role.as_str(), member)).collect();
        let worst = table.members.values().map(|member| member.status.borrow().state.code()).max_by_key(badness);
        let state = ComponentInfo {
            node_id: self.own.server_id.0,
            role: "componenthost".to_owned(),
            state_code: worst.unwrap_or(StateCode::Healthy).number(),
            extra_info: Vec::new(),
        };
        Ok(Response::new(ComponentStates { state: Some(state), subcomponent_states }))
    }
}

impl HostService {
    fn info(&self, role: &str, member: &Member) -> ComponentInfo {
        let status = member.status.borrow();
        let mut extra_info = vec![pair("generation", status.generation), pair("restarts", status.restarts)];
        match &status.state {
            State::Initializing { step } => extra_info.push(pair("step", step.name())),
            State::Abnormal { cause, next_try } => {
                extra_info.push(pair("cause", cause));
                extra_info.push(pair("quarantined", next_try.is_none()));
            }
            State::Stopping { draining } => extra_info.push(pair("draining", draining)),
            State::StandBy { holder } => extra_info.push(pair("active", holder)),
            State::Healthy => {}
        }
        if status.fenced.is_some() {
            extra_info.push(pair("fenced", true));
        }
        ComponentInfo {
            node_id: self.own.server_id.0,
            role: role.to_owned(),
            state_code: status.state.code().number(),
            extra_info,
        }
    }
}

fn pair(key: &str, value: impl ToString) -> KeyValuePair {
    KeyValuePair { key: key.to_owned(), value: value.to_string() }
}

/// Which of two codes an operator has to look at first.
fn badness(code: &StateCode) -> u8 {
    match code {
        StateCode::Healthy => 0,
        StateCode::StandBy => 1,
        StateCode::Stopping => 2,
        StateCode::Initializing => 3,
        StateCode::Abnormal => 4,
    }
}
