//! The way of a call from the listener to a component: who is meant, how does it stand, then across the border.

use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use plugin_api::call::{Call, set_timeout};
use plugin_api::identity::{Role, ServerId};
use plugin_api::refusal::{Reason, Refusal, key};
use tonic::Status;
use tonic::body::Body;
use tower::Service as _;

use super::answer::{Admitted, answer};
use super::hold::Hold;
use super::served::{Member, Served, Table};
use crate::lifecycle::{self, State};
use crate::wire::Addressee;

/// Who this host is, for the check of each call.
#[derive(Clone, Debug)]
pub struct Own {
    /// The cluster's name.
    pub cluster: String,
    /// The host's id.
    pub server_id: ServerId,
    /// Made up anew by each process.
    pub boot_id: String,
}

/// Routes calls by the name of their gRPC service. Cheap to clone.
#[derive(Clone)]
pub struct Dispatch {
    own: Arc<Own>,
    served: Served,
}

impl Dispatch {
    /// Routes to these components.
    pub fn new(own: Arc<Own>, served: Served) -> Self {
        Self { own, served }
    }

    /// Answers a call.
    ///
    /// # Cancel safety
    ///
    /// The call is cancelled with it, in the component too.
    pub async fn call(&self, mut request: Request<Body>) -> Response<Body> {
        let table = self.served.table();
        let service = service_of(request.uri().path());
        if service.starts_with("grpc.reflection.") {
            return match table.reflection.clone() {
                Some(mut routes) => {
                    let Ok(response) = routes.call(request).await;
                    response
                }
                None => Status::unavailable("no component has started yet: there is nothing to reflect").into_http(),
            };
        }
        let measured = {
            let member = table.services.get(service).and_then(|role| table.members.get(role));
            let calls = member.map_or_else(|| self.served.measured().other_calls(), |member| &member.measured.calls);
            calls.begin(request.uri().path())
        };
        // Not kept while the call runs: a table holds all generations that it leads to.
        measured.answer(match self.admit(table, &mut request).await {
            Ok(admitted) => answer(admitted, request).await,
            Err(status) => (*status).into_http(),
        })
    }

    /// Who answers, or why nobody does. A call that is held waits here, at most until its deadline.
    async fn admit(&self, mut table: Arc<Table>, request: &mut Request<Body>) -> Result<Admitted, Box<Status>> {
        loop {
            match self.choose(&table, request)? {
                Chosen::Admitted(admitted) => return Ok(*admitted),
                Chosen::Again => {}
                Chosen::Held { role, hold } => {
                    drop(table);
                    let deadline = Call::read(request.headers()).deadline;
                    let lifted = hold.lifted();
                    let in_time = match deadline {
                        Some(deadline) => tokio::time::timeout_at(deadline.into(), lifted).await.is_ok(),
                        None => {
                            lifted.await;
                            true
                        }
                    };
                    if !in_time {
                        let text = format!("{role} is being swapped, and the call was held until its deadline");
                        return Err(Box::new(Status::deadline_exceeded(text)));
                    }
                    if let Some(deadline) = deadline {
                        // A timeout is counted from where it is read.
                        set_timeout(request.headers_mut(), deadline.saturating_duration_since(Instant::now()));
                    }
                }
            }
            table = self.served.table();
        }
    }

    /// Who answers by this table, or why nobody does.
    fn choose(&self, table: &Arc<Table>, request: &Request<Body>) -> Result<Chosen, Box<Status>> {
        let path = request.uri().path();
        let service = service_of(path);
        let meant = Addressee::read(request.headers())
            .map_err(|source| Box::new(Status::invalid_argument(source.to_string())))?;
        self.check_identity(table, &meant).map_err(boxed)?;
        let Some((role, member)) = find(table, service, meant.role.as_ref()) else {
            return Err(Box::new(self.unknown_service(table, service)));
        };
        self.check_state(role, member).map_err(boxed)?;
        let serving = match &member.serving {
            Some(serving) if serving.services.iter().any(|known| known == service) => serving,
            _ => return Err(Box::new(self.unknown_service(table, service))),
        };
        // Counted before state, hold and table are looked at for the last time: whoever ends or swaps the component changes
        // these first and waits for the calls then, so that each call is either waited for or sent elsewhere.
        let is_gated = serving.gated.contains(path);
        let entry = serving.generation.enter(is_gated);
        if is_gated && member.hold.holds(&entry) {
            return Ok(Chosen::Held { role: role.clone(), hold: member.hold.clone() });
        }
        if !self.served.is_present(table, &entry) {
            return Ok(Chosen::Again);
        }
        self.check_state(role, member).map_err(boxed)?;
        entry.serve();
        let (generation, cut) = (serving.generation.clone(), serving.cut.clone());
        Ok(Chosen::Admitted(Box::new(Admitted { role: role.clone(), generation, cut, entry })))
    }

    fn refuse(&self, reason: Reason, role: &Role, message: String) -> Refusal {
        let id = self.own.server_id;
        Refusal::new(reason, message)
            .with(key::ROLE, role)
            .with(key::SERVER_ID, id)
            .with(key::TARGET, format_args!("{role}-{id}"))
            .with(key::REFUSED_BY, format_args!("{role}-{id}"))
    }

    /// Each part that the call names must be this host's.
    fn check_identity(&self, table: &Table, meant: &Addressee) -> Result<(), Refusal> {
        let own = &self.own;
        let wrong = if meant.cluster.as_ref().is_some_and(|cluster| *cluster != own.cluster) {
            "cluster"
        } else if meant.server_id.is_some_and(|id| id != own.server_id) {
            "server id"
        } else if meant.role.as_ref().is_some_and(|role| !table.members.contains_key(role)) {
            "role"
        } else {
            return Ok(());
        };
        let roles: Vec<&str> = table.members.keys().map(Role::as_str).collect();
        let unnamed = || "-".to_owned();
        let message = format!(
            "another {wrong} was meant: cluster {}, server id {}, role {}; here is cluster {}, server id {}, roles {}",
            meant.cluster.clone().unwrap_or_else(unnamed),
            meant.server_id.map_or_else(unnamed, |id| id.to_string()),
            meant.role.as_ref().map_or_else(unnamed, Role::to_string),
            own.cluster,
            own.server_id,
            roles.join(", "),
        );
        let target = [meant.role.as_ref().map(Role::to_string), meant.server_id.map(|id| id.to_string())];
        let target: Vec<String> = target.into_iter().flatten().collect();
        let roles = roles.join("+");
        Err(Refusal::new(Reason::IdentityMismatch, message)
            .with(key::ROLE, meant.role.as_ref().map_or(roles.as_str(), Role::as_str))
            .with(key::TARGET, target.join("-"))
            .with(key::REFUSED_BY, format_args!("{roles}-{}", own.server_id))
            .with(key::SERVER_ID, own.server_id))
    }

    /// A component serves in Healthy, and in Stopping until its drain begins.
    fn check_state(&self, role: &Role, member: &Member) -> Result<(), Refusal> {
        let status = member.status.borrow();
        let code = status.state.code();
        let (reason, message) = match &status.state {
            State::Healthy | State::Stopping { draining: false } => return self.check_fence(role, member, &status),
            State::Stopping { draining: true } => (Reason::SessionStopping, format!("{role} is stopping")),
            State::StandBy { holder } => (Reason::Standby, format!("{role} is in standby: active is {holder}")),
            State::Initializing { step } => {
                (Reason::NotHealthy, format!("{role} is {code}, in step {} of 5 ({})", step.number(), step.name()))
            }
            State::Abnormal { cause, next_try: None } => {
                (Reason::Quarantined, format!("{role} is held in quarantine: {cause}"))
            }
            State::Abnormal { cause, .. } => (Reason::NotHealthy, format!("{role} is {code}: {cause}")),
        };
        let since = status.since.elapsed().as_millis();
        Err(self.refuse(reason, role, message).with(key::STATE_CODE, code).with(key::SINCE_MS, since))
    }

    /// It serves while its session is held for certain, or its policy does not ask for that. Both are needed: the flag stands
    /// until the component has been told of the fence's end, the clock is exact at its beginning.
    fn check_fence(&self, role: &Role, member: &Member, status: &lifecycle::Status) -> Result<(), Refusal> {
        if status.fenced.is_none() && (member.certain)() {
            return Ok(());
        }
        let message = format!("{role} is fenced: its session in etcd is not held for certain, another may be active");
        let since = status.fenced.map(|since| since.elapsed().as_millis()).unwrap_or_default();
        let refusal = self.refuse(Reason::Fenced, role, message);
        Err(refusal.with(key::STATE_CODE, status.state.code()).with(key::SINCE_MS, since))
    }

    fn unknown_service(&self, table: &Table, service: &str) -> Status {
        // A component that has not started yet has not said what it serves: this may be its own.
        let starting = table.members.iter().find(|(_, member)| member.serving.is_none());
        match starting {
            Some((role, member)) => match self.check_state(role, member) {
                Err(refusal) => refusal.into_status(),
                Ok(()) => self.refuse(Reason::NotHealthy, role, format!("{role} is just starting")).into_status(),
            },
            None => {
                let known: Vec<&str> = table.services.keys().map(String::as_str).collect();
                Status::unimplemented(format!(
                    "no component of this host serves '{service}'; served: {}",
                    known.join(", ")
                ))
            }
        }
    }
}

/// What becomes of a call.
enum Chosen {
    /// It goes on to its component.
    Admitted(Box<Admitted>),
    /// The table has changed meanwhile.
    Again,
    /// Its method is gated, and the component is being swapped.
    Held { role: Role, hold: Hold },
}

fn boxed(refusal: Refusal) -> Box<Status> {
    Box::new(refusal.into_status())
}

/// The service that a path names.
pub(super) fn service_of(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or_default()
}

/// The component that serves this, or else the one that the call names.
fn find<'a>(table: &'a Table, service: &str, meant: Option<&'a Role>) -> Option<(&'a Role, &'a Member)> {
    let role = table.services.get(service).or(meant)?;
    table.members.get_key_value(role)
}

#[cfg(test)]
mod tests {
    use plugin_api::refusal::Executed;

    use super::*;
    use crate::lifecycle::Lifecycle;

    /// A component's refusal, where its flag and the clock say so.
    fn refusal(lifecycle: &Lifecycle, certain: bool) -> Option<Refusal> {
        let own = Own { cluster: "c".to_owned(), server_id: ServerId(7), boot_id: String::new() };
        let (status, certain) = (lifecycle.watch(), Arc::new(move || certain));
        let member = Member { status, serving: None, certain, hold: Hold::default(), measured: Arc::default() };
        let role = Role::new("alpha").expect("a role");
        Dispatch::new(Arc::new(own), Served::new([])).check_state(&role, &member).err()
    }

    #[test]
    fn a_fenced_component_is_refused_by_the_flag_and_by_the_clock() {
        let lifecycle = Lifecycle::new(1);
        lifecycle.transition(State::Healthy).expect("allowed");
        assert_eq!(refusal(&lifecycle, true), None);
        // No task has set the flag yet.
        let early = refusal(&lifecycle, false).expect("refused");
        lifecycle.fence(true);
        // The component has not been told yet that its session is certain again.
        for refusal in [early, refusal(&lifecycle, true).expect("refused")] {
            assert_eq!((refusal.reason, refusal.executed), (Reason::Fenced, Executed::No));
            for (key, value) in [
                (key::ROLE, "alpha"),
                (key::SERVER_ID, "7"),
                (key::TARGET, "alpha-7"),
                (key::REFUSED_BY, "alpha-7"),
                (key::STATE_CODE, "Healthy"),
            ] {
                assert_eq!(refusal.details.get(key).map(String::as_str), Some(value), "{key}");
            }
            assert!(refusal.details.contains_key(key::SINCE_MS));
        }
    }

    #[test]
    fn a_standby_says_who_is_active() {
        let lifecycle = Lifecycle::new(1);
        lifecycle.transition(State::StandBy { holder: "server 3".to_owned() }).expect("allowed");
        let refusal = refusal(&lifecycle, true).expect("refused");
        assert_eq!((refusal.reason, refusal.executed), (Reason::Standby, Executed::No));
        assert!(refusal.message.contains("server 3"), "{}", refusal.message);
        assert_eq!(refusal.details.get(key::STATE_CODE).map(String::as_str), Some("StandBy"));
    }

    #[test]
    fn each_part_of_another_identity_is_refused_and_told_with_whose_role_was_meant() {
        let lifecycle = Lifecycle::new(1);
        let own = Own { cluster: "blue".to_owned(), server_id: ServerId(7), boot_id: String::new() };
        let served = Served::new([(Role::new("alpha").expect("a role"), lifecycle.watch())]);
        let dispatch = Dispatch::new(Arc::new(own), served);
        let check = |cluster: &str, server_id: i64, role: &str| {
            let (cluster, role) = (Some(cluster.to_owned()), Role::new(role).ok());
            let meant = Addressee { cluster, server_id: Some(ServerId(server_id)), role };
            dispatch.check_identity(&dispatch.served.table(), &meant).err()
        };
        assert_eq!(check("blue", 7, "alpha"), None);
        for (cluster, server_id, role) in [("red", 7, "alpha"), ("blue", 8, "alpha"), ("blue", 7, "beta")] {
            let refusal = check(cluster, server_id, role).expect("refused");
            assert_eq!((refusal.reason, refusal.executed), (Reason::IdentityMismatch, Executed::No));
            let target = format!("{role}-{server_id}");
            for (key, value) in
                [(key::ROLE, role), (key::TARGET, &target), (key::REFUSED_BY, "alpha-7"), (key::SERVER_ID, "7")]
            {
                assert_eq!(refusal.details.get(key).map(String::as_str), Some(value), "{key}");
            }
        }
    }
}
