//! A coordinator in standby takes over: one event, over the link that is there, and another as soon as it serves.

use super::*;

/// A caller that knows an active coordinator, 3, and one in standby, 4.
async fn pair(active: &FakeHost, standby: &FakeHost) -> (Caller, PeerEvents) {
    standby.code.send_replace(StateCode::StandBy);
    let mut caller = Caller::with(quick());
    caller.coordinators.activate(3, active.address).stand_by(4, standby.address).publish();
    eventually(LIMIT, async || {
        let peers = caller.manager.clients(&role("caller"), &role(COORDINATOR)).expect("a declared role");
        holds(peers.iter().all(|peer| peer.link == PeerLink::Ready) && peers.len() == 2, peers)
    })
    .await;
    let mut events = caller.events(COORDINATOR);
    assert!(matches!(next(&mut events).await, PeerChange::Table(_)));
    (caller, events)
}

/// It is told that 4 holds the role, is refused while that says that it stands by, and told when it serves.
async fn was_replaced(caller: &Caller, events: &mut PeerEvents, host: &FakeHost) {
    let PeerChange::Replaced { old, new } = next(events).await else { panic!("not replaced") };
    assert_eq!((old.server_id, new.server_id), (ServerId(3), ServerId(4)));
    assert!(!new.is_callable(), "it has not said that it serves: {new:?}");
    let refused = refusal(unary(caller.coordinator(), "Metadata").await);
    assert_eq!((refused.reason, &*refused.details[key::STATE_CODE]), (Reason::Standby, "StandBy"));
    let waits = tokio::spawn(ask(caller.coordinator(), "Metadata", waiting(LIMIT)));
    host.code.send_replace(StateCode::Healthy);
    waits.await.expect("no panic").expect("it waits until it serves");
    assert!(matches!(next(events).await, PeerChange::Online(peer) if peer.server_id == ServerId(4)));
}

/// Calls go to the new holder, nothing was dialled, and nothing else was told.
async fn holds_the_role(caller: &mut Caller, events: &mut PeerEvents, host: &FakeHost) {
    let seen = unary(caller.coordinator(), "Metadata").await.expect("the new holder answers at once");
    assert!(seen.contains(r#""serverid": "4""#), "{seen}");
    assert_eq!(caller.dials(COORDINATOR, 4), 1, "a takeover dials nothing");
    let mut stopping = caller.coordinators.entry(4, host.address);
    (stopping.record.exclusive, stopping.record.stopping) = (true, true);
    caller.coordinators.put(stopping).publish();
    assert!(matches!(next(events).await, PeerChange::Reregistered(_)));
    assert!(matches!(next(events).await, PeerChange::Stopping(_)));
}

#[tokio::test]
async fn people_are_told_of_a_standby_that_is_proved_and_components_are_not() {
    let (active, standby) = (FakeHost::start(3, COORDINATOR), FakeHost::start(4, COORDINATOR));
    let (mut caller, mut events) = pair(&active, &standby).await;
    let later = FakeHost::start(5, COORDINATOR);
    later.code.send_replace(StateCode::StandBy);
    caller.coordinators.stand_by(5, later.address).publish();
    let history = async || {
        let view = caller.manager.view().into_iter().find(|view| view.role == role(COORDINATOR)).expect("the role");
        let of_it = view.events.into_iter().filter(|event| event.server_id == ServerId(5));
        let told: Vec<_> = of_it.map(|event| (event.event, event.detail.clone())).collect();
        holds(told == [("online", "in standby".to_owned())], told)
    };
    eventually(LIMIT, history).await;
    caller.coordinators.delete(3).publish();
    assert!(matches!(next(&mut events).await, PeerChange::Offline { peer, .. } if peer.server_id == ServerId(3)));
}

#[tokio::test]
async fn a_takeover_in_one_answer_is_one_event_and_dials_nothing() {
    let (active, standby) = (FakeHost::start(3, COORDINATOR), FakeHost::start(4, COORDINATOR));
    let (mut caller, mut events) = pair(&active, &standby).await;
    let running = tokio::spawn(unary(caller.coordinator(), "Hold"));
    held(&active, 1).await;
    let mut stream = drip(caller.manager.client(&role("caller"), Target::Server(role(COORDINATOR), ServerId(4)))).await;
    caller.coordinators.delete(3).activate(4, standby.address).publish();
    was_replaced(&caller, &mut events, &standby).await;
    assert_eq!(refusal(running.await.expect("no panic")).reason, Reason::PeerReplaced);
    holds_the_role(&mut caller, &mut events, &standby).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.message()).await.is_err(), "its stream goes on");
}

#[tokio::test]
async fn a_takeover_after_the_delete_is_an_end_and_one_event() {
    let (active, standby) = (FakeHost::start(3, COORDINATOR), FakeHost::start(4, COORDINATOR));
    let (mut caller, mut events) = pair(&active, &standby).await;
    let old = caller.manager.client(&role("caller"), Target::Server(role(COORDINATOR), ServerId(3)));
    caller.coordinators.delete(3).publish();
    let PeerChange::Offline { peer, reason, .. } = next(&mut events).await else { panic!("not offline") };
    assert_eq!((peer.server_id, reason), (ServerId(3), Reason::SessionGone));
    caller.coordinators.activate(4, standby.address).publish();
    was_replaced(&caller, &mut events, &standby).await;
    assert_eq!(refusal(unary(old, "Metadata").await).reason, Reason::PeerReplaced);
    holds_the_role(&mut caller, &mut events, &standby).await;
}

#[tokio::test]
async fn two_that_change_places_are_one_event() {
    let (active, standby) = (FakeHost::start(3, COORDINATOR), FakeHost::start(4, COORDINATOR));
    let (mut caller, mut events) = pair(&active, &standby).await;
    caller.coordinators.stand_by(3, active.address).activate(4, standby.address).publish();
    was_replaced(&caller, &mut events, &standby).await;
    holds_the_role(&mut caller, &mut events, &standby).await;
}
