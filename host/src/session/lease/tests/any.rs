//! Whatever is told in whatever state, the machine asks for something that leads on.

use super::*;

fn any_settings(random: &mut fastrand::Rng) -> LeaseSettings {
    LeaseSettings {
        own: Driven::new().lease.settings.own.clone(),
        key: "key".to_owned(),
        standby_key: random.bool().then(|| "key-7".to_owned()),
        on_deleted: if random.bool() { OnDeleted::Register } else { OnDeleted::Stop },
    }
}

fn any_found(random: &mut fastrand::Rng) -> Option<Found> {
    let id = [7, 7, 8][random.usize(0..3)];
    let found = found(id, random.i64(0..8), random.i64(1..50));
    (random.u8(0..4) > 0).then(|| Found { stopping: random.bool(), ..found })
}

fn any_event(random: &mut fastrand::Rng, sent: BootTime) -> Event {
    let reading = Reading { found: any_found(random), revision: random.i64(0..50) };
    let readings = Readings { main: any_found(random), standby: any_found(random), revision: random.i64(0..50) };
    match random.u8(0..16) {
        0 => Event::FormerCleared,
        1 | 2 => Event::Read(readings),
        3 => Event::Granted { lease_id: random.i64(1..8), ttl: TTL, sent },
        4 => Event::Put { revision: random.i64(1..50), stopping: random.bool() },
        5 => Event::NotPut(readings),
        6 => Event::Cleared,
        7 => Event::Dropped,
        8 => Event::Renewed { ttl: TTL, sent },
        9 => Event::LeaseGone,
        10 => Event::HolderAsked(None),
        11 => Event::Failed("failed".to_owned()),
        12 => Event::Marked,
        13 if random.u8(0..10) == 0 => Event::Stopping,
        13 => Event::Seen(Key::Standby, reading),
        14 if random.u8(0..10) == 0 => Event::HistoryLost,
        _ => Event::Seen(Key::Main, reading),
    }
}

/// What is shown is what is there: a lease for each registration, and a time left for it.
fn check(driven: &mut Driven) {
    let (lease_id, deadline) = match driven.lease.status() {
        SessionStatus::Held(held) => (held.registration.lease_id, held.deadline),
        SessionStatus::StandBy(standby) => (standby.registration.lease_id, standby.deadline),
        _ => return,
    };
    assert_eq!(driven.lease.lease_id(), Some(lease_id));
    assert!(deadline > driven.now, "nothing is shown as certain after its deadline");
}

#[test]
fn every_event_in_every_state_leads_on() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut seen = BTreeSet::new();
    for _ in 0..4000 {
        let mut driven = Driven::of(any_settings(&mut random));
        for _ in 0..60 {
            let step = driven.step();
            check(&mut driven);
            if let Step::Wait(until) = step {
                assert!(until > driven.now);
                driven.now = until;
            }
            let event = any_event(&mut random, driven.now);
            driven.on(event);
            seen.insert(driven.state());
            let deleted = matches!(driven.lease.status(), SessionStatus::Deleted { .. });
            assert!(!deleted || driven.lease.settings.on_deleted == OnDeleted::Stop);
        }
    }
    let all = ["deleted", "held", "held_by_other", "lost", "registering", "stand_by"];
    assert_eq!(seen, BTreeSet::from(all), "the events reach every state");
}
