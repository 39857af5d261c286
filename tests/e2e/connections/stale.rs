//! Refusals say how old what they rest on is, at the time of the refusal.

use super::*;

#[tokio::test]
async fn a_refusal_tells_the_age_of_the_table_as_it_is_then() {
    let caller = Caller::with(quick());
    caller.nodes.heard(Duration::from_mins(1));
    let old = refusal(unary(caller.any_node(), "Metadata").await);
    let age = |refusal: &Refusal| refusal.details.get(key::TABLE_AGE_MS).and_then(|age| age.parse::<u64>().ok());
    assert!(age(&old).is_some_and(|age| age >= 60_000), "{old:?}");
    assert!(old.message.contains("etcd was last heard 1m"), "{}", old.message);
    assert!(caller.manager.view().iter().any(|role| role.table_stale));

    caller.nodes.heard(Duration::ZERO);
    let fresh = refusal(unary(caller.any_node(), "Metadata").await);
    assert!(age(&fresh).is_some_and(|age| age < 60_000), "{fresh:?}");
    assert!(!fresh.message.contains("last heard"), "{}", fresh.message);
    assert!(fresh.details.contains_key(key::TABLE_REVISION), "{fresh:?}");
}
