//! Step 4's own: the session of a component, made once and kept over its restarts.

use std::sync::Arc;

use plugin_api::descriptor::Kind;

use super::Parts;
use crate::plugin::Generation;
use crate::session::{Session, SessionSettings};
use crate::supervise::driver::Standing;
use crate::supervise::{Alive, Member};

/// The component's session: the one that a life before has left, if it was not given up meanwhile, or else a new one.
pub(super) async fn session(
    member: &Member,
    parts: &Parts,
    alive: &mut Alive,
    generation: &Generation,
) -> Arc<Session> {
    if let Some(giving_up) = alive.giving_up.take()
        && !giving_up.stop().await
    {
        alive.session = None;
    }
    let settings = settings(member, parts, generation);
    let _in_control = parts.control.enter();
    if settings.standby && alive.rivals.is_none() {
        alive.rivals = Some(parts.discovery.follow(&member.role));
    }
    let session = alive
        .session
        .get_or_insert_with(|| Arc::new(Session::open(parts.etcd.clone(), settings, parts.state_file.clone())));
    // One that a life before has left says that one's.
    session.tell_version(version(generation));
    member.show_session(session);
    session.clone()
}

fn version(generation: &Generation) -> String {
    generation.descriptor().version.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// What was registered, for people.
pub(super) fn describe(session: &Session, standing: &Standing) -> String {
    let view = session.view();
    let registered = match view.registration {
        Some(registration) => {
            format!("{} at revision {}, lease {:x}", view.key, registration.create_revision, registration.lease_id)
        }
        // It was lost again in the meantime.
        None => format!("{}, {}", view.key, view.state),
    };
    match standing {
        Standing::Active => format!("{registered}; activated"),
        Standing::StandBy { holder } => format!("{registered}; in standby for {holder}"),
    }
}

fn settings(member: &Member, parts: &Parts, generation: &Generation) -> SessionSettings {
    let descriptor = generation.descriptor();
    let version = version(generation);
    SessionSettings {
        role: member.role.clone(),
        server_id: parts.own.server_id,
        kind: descriptor.kind,
        address: parts.address.advertised.clone(),
        bound: parts.address.bound,
        version: version.into(),
        labels: parts.config.host.labels.clone(),
        host_name: parts.address.host_name.clone(),
        ttl: parts.config.session.ttl,
        standby: member.config.standby && descriptor.kind == Kind::Coordinator,
        on_deleted: parts.config.session.on_deleted,
    }
}
