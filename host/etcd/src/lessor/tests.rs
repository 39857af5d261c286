use super::*;
use crate::store::Store;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_lease_ends_at_its_time_and_lives_on_when_renewed() {
    let (mut lessor, now) = (Lessor::default(), Instant::now());
    assert_eq!(lessor.grant(7, 10, now), Ok(10));
    assert!(lessor.expired(now + seconds(9)).is_empty());
    assert_eq!(lessor.renew(7, now + seconds(9)), Some(10));
    assert!(lessor.expired(now + seconds(18)).is_empty());
    assert_eq!(lessor.expired(now + seconds(19)), [7]);
    assert_eq!(lessor.renew(7, now + seconds(19)), None, "its time is over");
}

#[test]
fn times_to_live_have_bounds_and_ids_are_taken_once() {
    let (mut lessor, now) = (Lessor::default(), Instant::now());
    assert_eq!(lessor.grant(1, -5, now), Ok(MIN_TTL));
    assert_eq!(lessor.grant(1, 5, now), Err(Refusal::LeaseExists));
    assert_eq!(lessor.grant(2, MAX_TTL, now), Ok(MAX_TTL));
    assert_eq!(lessor.grant(3, MAX_TTL + 1, now), Err(Refusal::LeaseTtlTooLarge));
}

#[test]
fn a_key_has_the_lease_of_its_last_put() {
    let (mut lessor, mut store, now) = (Lessor::default(), Store::default(), Instant::now());
    lessor.grant(1, 10, now).expect("a new id");
    lessor.grant(2, 10, now).expect("a new id");
    let mut put = |lease| {
        let entry = store.write(|writing| writing.put("a".into(), vec![], lease)).1;
        lessor.follow(&entry.expect("a put is a change"));
        [1, 2].map(|id| lessor.get(id).expect("it is there").keys.len())
    };
    assert_eq!(put(1), [1, 0]);
    assert_eq!(put(2), [0, 1]);
    assert_eq!(put(0), [0, 0]);
}

#[test]
fn leases_are_listed_by_their_ends() {
    let (mut lessor, now) = (Lessor::default(), Instant::now());
    lessor.grant(1, 30, now).expect("a new id");
    lessor.grant(2, 10, now).expect("a new id");
    assert_eq!(lessor.ids().collect::<Vec<_>>(), [2, 1]);
    lessor.renew(2, now + seconds(9)).expect("it lives");
    lessor.remove(1).expect("it is there");
    assert_eq!(lessor.next_deadline(), Some(now + seconds(19)));
}

#[test]
fn what_a_start_finds_lives_its_whole_time_from_when_it_is_served() {
    let (mut lessor, read) = (Lessor::default(), Instant::now());
    lessor.restore(1, 10, read);
    lessor.begin(read + seconds(7));
    assert_eq!((lessor.next_deadline(), lessor.get(1).map(|lease| lease.deadline)), {
        let deadline = Some(read + seconds(17));
        (deadline, deadline)
    });
}
