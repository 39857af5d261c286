//! `componenthost.v1.Host`: who answers here, and how the components stand.

use std::sync::Arc;
use std::time::Duration;

use plugin_api::identity::Role;
use plugin_api::state::StateCode;
use tonic::{Request, Response, Status};

use super::dispatch::Own;
use super::served::{Member, Served};
use crate::lifecycle::{self, State};
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

    /// Waits until the role, or each role, serves or will not: it is on its way out, or has come to stand by. One that has
    /// stood by from the beginning is waited for until it is active.
    async fn serves(&self, role: &str) {
        let roles: Vec<Role> = self.served.table().members.keys().cloned().collect();
        for waited_for in roles.iter().filter(|each| role.is_empty() || each.as_str() == role) {
            // Looked up anew each time: a table that is kept would hold the generation that served then.
            let member = || self.served.table().members.get(waited_for).cloned();
            settled(member).await;
        }
    }
}

/// How long a session that is not held for certain may be so before its component's fence shows it, or it is held again.
const UNCERTAIN: Duration = Duration::from_millis(50);

async fn settled(member: impl Fn() -> Option<Member>) {
    let Some(mut status) = member().map(|member| member.status) else { return };
    let stood_by = status.borrow().state.code() == StateCode::StandBy;
    loop {
        let certain = member().is_none_or(|member| (member.certain)());
        let (code, fenced) = {
            let status = status.borrow_and_update();
            (status.state.code(), status.fenced.is_some())
        };
        let over = match code {
            StateCode::Initializing | StateCode::Abnormal => false,
            StateCode::StandBy => !stood_by,
            StateCode::Healthy => !fenced && certain,
            StateCode::Stopping => true,
        };
        // Changes are told by the watch, but for the clock's: a lease's deadline passes without a word.
        let patience = if certain { LONGEST_WAIT } else { UNCERTAIN };
        let changed = async { if over { Err(()) } else { status.changed().await.map_err(drop) } };
        // It fails where the component's owner is gone, with the host.
        if let Ok(Err(())) = tokio::time::timeout(patience, changed).await {
            return;
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
            let _ = tokio::time::timeout(wait, self.serves(&request.role)).await;
        }
        let table = self.served.table();
        let roles = table.members.iter().map(|(role, member)| {
            let status = member.status.borrow();
            RoleState {
                role: role.to_string(),
                state_code: status.state.code().number(),
                fenced: is_fenced(member, &status),
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

/// As each call of it is judged.
fn is_fenced(member: &Member, status: &lifecycle::Status) -> bool {
    let serves = matches!(status.state.code(), StateCode::Healthy | StateCode::Stopping);
    status.fenced.is_some() || (serves && !(member.certain)())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Lifecycle;
    use crate::serve::Hold;

    /// Is the answer to who waits for it held?
    fn member(lifecycle: &Lifecycle) -> Member {
        let (certain, hold) = (Arc::new(|| true), Hold::default());
        Member { status: lifecycle.watch(), serving: None, certain, hold, measured: Arc::default() }
    }

    async fn is_held(member: &Member) -> bool {
        tokio::time::timeout(Duration::from_millis(20), settled(|| Some(member.clone()))).await.is_err()
    }

    #[tokio::test]
    async fn who_starts_or_has_failed_is_waited_for() {
        let lifecycle = Lifecycle::new(1);
        let member = member(&lifecycle);
        assert!(is_held(&member).await, "it initializes");
        lifecycle.transition(State::Abnormal { cause: "as asked".to_owned(), next_try: None }).expect("allowed");
        assert!(is_held(&member).await, "it may be tried again");
    }

    #[tokio::test]
    async fn who_stands_by_from_the_beginning_is_waited_for() {
        let lifecycle = Lifecycle::new(1);
        let member = member(&lifecycle);
        lifecycle.transition(State::StandBy { holder: "server 3".to_owned() }).expect("allowed");
        assert!(is_held(&member).await, "until it is active");
        lifecycle.transition(State::Healthy).expect("allowed");
        assert!(!is_held(&member).await);
    }
}
