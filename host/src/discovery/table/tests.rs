use super::*;

const ACTIVE: &str = "by-dev/meta/session/querynode";

fn table() -> Table {
    Table::new(Role::new("querynode").expect("a role"), Keys::new("by-dev", "meta"))
}

fn member(id: i64) -> String {
    format!("{ACTIVE}-{id}")
}

fn stored(key: &str, value: &str, create_revision: i64, mod_revision: i64) -> Stored {
    Stored { key: key.into(), value: value.into(), create_revision, mod_revision, lease_id: 5 }
}

fn session(key: &str, id: i64, address: &str, revision: i64) -> Stored {
    stored(key, &format!(r#"{{"ServerID":{id},"Address":"{address}"}}"#), revision, revision)
}

fn coordinator(key: &str, id: i64, revision: i64) -> Stored {
    stored(key, &format!(r#"{{"ServerID":{id},"Address":"a:{id}","Exclusive":true}}"#), revision, revision)
}

fn put(stored: Stored) -> Change {
    Change::Put(stored)
}

fn delete(key: &str, revision: i64) -> Change {
    Change::Delete(key.into(), revision)
}

fn ids(table: &Table) -> Vec<i64> {
    table.published().sessions.keys().map(|id| id.0).collect()
}

fn entry(table: &Table, id: i64) -> PeerSessionEntry {
    (**table.published().sessions.get(&ServerId(id)).expect("a peer")).clone()
}

#[test]
fn keys_come_and_go() {
    let (mut table, now) = (table(), Instant::now());
    assert_eq!((table.published().revision, table.published().confirmed_at()), (0, None));
    table.replace(
        &[session(&member(3), 3, "a:1", 7), session("by-dev/meta/session/querynodex-4", 4, "a:2", 8)],
        9,
        now,
    );
    assert_eq!((ids(&table), table.published().revision), (vec![3], 9));
    table.change(&[put(session(&member(5), 5, "a:3", 10)), delete(&member(3), 11)], now);
    assert_eq!((ids(&table), table.published().revision), (vec![5], 11));
    assert_eq!(table.published().confirmed_at(), Some(now));
}

#[test]
fn a_new_list_is_the_difference() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[session(&member(1), 1, "a:1", 1), session(&member(2), 2, "a:2", 2)], 5, now);
    let two = Arc::clone(&table.published().sessions[&ServerId(2)]);
    table.replace(&[session(&member(2), 2, "a:2", 2), session(&member(3), 3, "a:3", 7)], 8, now);
    assert_eq!(ids(&table), [2, 3]);
    assert!(Arc::ptr_eq(&two, &table.published().sessions[&ServerId(2)]), "what stays is untouched");
}

#[test]
fn a_registration_in_one_answer_has_no_gap() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
    table.change(&[delete(&member(3), 8), put(session(&member(3), 3, "a:1", 9))], now);
    let entry = entry(&table, 3);
    assert_eq!((entry.registration.create_revision, entry.appeared), (9, 1));
}

#[test]
fn a_registration_over_a_relist_has_no_gap() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
    table.replace(&[session(&member(3), 3, "a:1", 20)], 21, now);
    let entry = entry(&table, 3);
    assert_eq!((entry.registration.create_revision, entry.appeared), (20, 1));
}

#[test]
fn a_registration_after_its_delete_has_a_gap() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
    table.change(&[delete(&member(3), 8)], now);
    assert_eq!(ids(&table), [0; 0]);
    table.change(&[put(session(&member(3), 3, "a:1", 9))], now);
    assert_eq!(entry(&table, 3).appeared, 3, "another than 1: the table between had it not");
}

#[test]
fn another_server_id_is_another_peer_even_at_the_same_address() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[coordinator(ACTIVE, 3, 7)], 7, now);
    table.change(&[put(stored(ACTIVE, r#"{"ServerID":4,"Address":"a:3","Exclusive":true}"#, 7, 8))], now);
    assert_eq!(ids(&table), [4]);
    assert_eq!(table.published().active().map(|entry| entry.server_id()), Some(ServerId(4)));
}

#[test]
fn other_values_of_a_registration_are_an_update() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
    let value = r#"{"ServerID":3,"Address":"a:1","Stopping":true}"#;
    table.change(&[put(stored(&member(3), value, 7, 8))], now);
    let entry = entry(&table, 3);
    assert!(entry.record.stopping);
    assert_eq!((entry.registration.create_revision, entry.appeared), (7, 1));
}

#[test]
fn a_value_that_is_no_session_hides_nothing() {
    let (mut table, now) = (table(), Instant::now());
    let rubbish = ["", "{", "{\"ServerID\":\"x\"}", "{}", "{\"ServerID\":9}", "{\"ServerID\":9,\"Address\":\"a:1\"}"];
    let mut entries: Vec<_> = (10..).zip(rubbish).map(|(id, value)| stored(&member(id), value, id, id)).collect();
    entries.push(session(&member(3), 3, "a:1", 7));
    let skipped = table.replace(&entries, 20, now);
    assert_eq!((ids(&table), skipped.len()), (vec![3], rubbish.len()));
    assert_eq!(table.replace(&entries, 21, now), [], "each value is told once");
    assert_eq!(table.skipped().count(), rubbish.len());
    let again = table.change(&[put(stored(&member(10), "}", 10, 22))], now);
    assert_eq!(again.iter().map(|skipped| skipped.key.clone()).collect::<Vec<_>>(), [member(10)]);
    table.change(&[put(session(&member(10), 10, "a:2", 23)), delete(&member(11), 24)], now);
    assert_eq!((ids(&table), table.skipped().count()), (vec![3, 10], rubbish.len() - 2));
}

#[test]
fn an_id_that_no_counter_has_given_out_is_no_highest_one() {
    let (mut table, now) = (table(), Instant::now());
    let made_up = [GREATEST_COUNTED.0 + 1, i64::MAX].map(|id| session(&member(id), id, "a:1", 1));
    table.replace(&made_up, 1, now);
    assert_eq!((table.published().sessions.size(), table.highest_server_id()), (2, ServerId(0)));
    table.change(&[put(session(&member(41), 41, "a:2", 2)), put(coordinator(ACTIVE, i64::MAX, 3))], now);
    assert_eq!(table.highest_server_id(), ServerId(41));
}

#[test]
fn rubbish_put_without_the_lease_ends_the_registration() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[coordinator(ACTIVE, 3, 7), coordinator(&member(4), 4, 8)], 8, now);
    table.change(&[put(Stored { lease_id: 0, ..stored(ACTIVE, "{", 7, 9) })], now);
    assert_eq!((ids(&table), table.published().active().is_none()), (vec![4], true), "nobody is active any more");
    table.change(&[put(coordinator(&member(3), 3, 10))], now);
    assert!(entry(&table, 3).standby, "it stands by, whatever it was before");
}

#[test]
fn a_registration_outlives_an_update_that_is_not_understood() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
    table.change(&[put(stored(&member(3), "{", 7, 8))], now);
    assert_eq!(entry(&table, 3).record.address, "a:1");
    table.change(&[put(stored(&member(3), "{", 9, 9))], now);
    assert_eq!(ids(&table), [0; 0], "another registration says nothing of the former");
}

#[test]
fn both_keys_of_a_coordinator_are_one_peer() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[coordinator(ACTIVE, 3, 7), coordinator(&member(4), 4, 8)], 8, now);
    assert!(!entry(&table, 3).standby && entry(&table, 4).standby);
    let takeover = [delete(ACTIVE, 9), put(coordinator(ACTIVE, 4, 10)), delete(&member(4), 10)];
    table.change(&takeover, now);
    let new = entry(&table, 4);
    assert_eq!((ids(&table), new.standby, new.appeared), (vec![4], false, 1));
    table.change(&[put(coordinator(&member(4), 4, 11))], now);
    assert!(!entry(&table, 4).standby, "the active key decides");
    table.change(&[delete(ACTIVE, 12)], now);
    assert!(entry(&table, 4).standby, "gone only when no key is left");
}

#[test]
fn a_confirmation_changes_the_age_only() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
    let (held, later) = (Arc::clone(table.published()), now + Duration::from_secs(5));
    table.confirm(later);
    assert_eq!((table.published().revision, table.published().confirmed_at()), (7, Some(later)));
    assert_eq!(held.confirmed_at(), Some(later), "who holds the same table is told");
}

#[test]
fn a_table_that_was_replaced_is_never_as_fresh_as_the_next() {
    let (mut table, first) = (table(), Instant::now());
    table.replace(&[session(&member(3), 3, "a:1", 7)], 7, first);
    let (held, second, third) =
        (Arc::clone(table.published()), first + Duration::from_secs(5), first + Duration::from_secs(9));
    table.change(&[delete(&member(3), 8)], second);
    table.confirm(third);
    assert_eq!((held.confirmed_at(), table.published().confirmed_at()), (Some(first), Some(third)));
}

/// Several changes of one key in one answer: the last one holds, and one table comes of all.
#[test]
fn changes_of_one_answer_are_applied_in_order() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
    let number = table.published().touched.number();
    let moved = stored(&member(3), r#"{"ServerID":3,"Address":"a:9"}"#, 7, 8);
    let flicker = [
        put(moved),
        delete(&member(3), 9),
        put(session(&member(4), 4, "a:4", 10)),
        delete(&member(4), 11),
        put(session(&member(3), 3, "a:2", 12)),
    ];
    table.change(&flicker, now);
    assert_eq!((ids(&table), table.published().revision), (vec![3], 12));
    assert_eq!((entry(&table, 3).record.address.as_str(), entry(&table, 3).appeared), ("a:2", 1));
    assert_eq!(table.published().touched.number(), number + 1, "one answer, one table");
}

#[test]
fn a_moved_address_is_the_same_peer() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
    table.change(&[put(stored(&member(3), r#"{"ServerID":3,"Address":"a:2"}"#, 7, 8))], now);
    let entry = entry(&table, 3);
    assert_eq!((entry.record.address.as_str(), entry.registration.create_revision, entry.appeared), ("a:2", 7, 1));
}

#[test]
fn a_takeover_in_two_answers_keeps_the_new_holder() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[coordinator(ACTIVE, 3, 7), coordinator(&member(4), 4, 8)], 8, now);
    table.change(&[delete(ACTIVE, 9)], now);
    assert_eq!((ids(&table), entry(&table, 4).standby), (vec![4], true));
    table.change(&[put(coordinator(ACTIVE, 4, 10)), delete(&member(4), 10)], now);
    assert_eq!((ids(&table), entry(&table, 4).standby, entry(&table, 4).appeared), (vec![4], false, 1));
}

#[test]
fn a_table_says_what_it_changed() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[session(&member(1), 1, "a:1", 1), session(&member(2), 2, "a:2", 2)], 5, now);
    let before = Arc::clone(table.published());
    table.change(&[delete(&member(1), 6)], now);
    table.change(&[put(session(&member(3), 3, "a:3", 7))], now);
    table.change(&[put(session("by-dev/meta/session/querynodex-4", 4, "a:4", 8))], now);
    let touched: Vec<i64> =
        table.published().touched.since(&before.touched).expect("two tables ago").map(|id| id.0).collect();
    assert_eq!(touched, [3, 1]);
    assert_eq!(before.sessions.keys().map(|id| id.0).collect::<Vec<_>>(), [1, 2], "a table that was read stays");
}

#[test]
fn the_highest_id_is_never_forgotten() {
    let (mut table, now) = (table(), Instant::now());
    table.replace(&[session(&member(9), 9, "a:1", 7)], 7, now);
    table.change(&[delete(&member(9), 8), put(stored(&member(12), "{", 9, 9))], now);
    table.replace(&[], 1, now);
    assert_eq!(table.highest_server_id(), ServerId(9), "and what is no session has none");
}

#[test]
fn what_is_known_of_etcd_is_compared_by_the_last_change_of_each_key() {
    let (mut table, now) = (table(), Instant::now());
    let junk = stored(&member(4), "{", 8, 8);
    let list = [session(&member(3), 3, "a:1", 7), junk, session("by-dev/meta/session/querynodex-4", 4, "a:2", 8)];
    table.replace(&list, 9, now);
    assert_eq!(table.mod_revisions(), table.mod_revisions_of(&list));
    assert_eq!(table.mod_revisions().len(), 2, "what does not count is there, too");
    table.change(&[put(stored(&member(3), "{", 7, 10))], now);
    assert_eq!(table.mod_revisions().get(&SessionKey::Member(ServerId(3))), Some(&10));
}

const TTL: Duration = Duration::from_secs(15);

/// Nodes 1 to 5, listed, with a guard.
fn five(now: Instant) -> Table {
    let mut table = table().guarded(TTL);
    table.replace(&nodes(&[1, 2, 3, 4, 5]), 5, now);
    table
}

fn nodes(ids: &[i64]) -> Vec<Stored> {
    ids.iter().map(|id| session(&member(*id), *id, "a:1", *id)).collect()
}

fn suspects(table: &Table) -> Vec<i64> {
    let suspect = |(id, entry): (&ServerId, &Arc<PeerSessionEntry>)| entry.suspect.then_some(id.0);
    let shown: Vec<i64> = table.published().sessions.iter().filter_map(suspect).collect();
    assert_eq!(shown, table.suspects().map(|id| id.0).collect::<Vec<_>>());
    shown
}

#[test]
fn a_list_that_misses_most_of_a_role_makes_suspects() {
    let now = Instant::now();
    let mut table = five(now);
    table.replace(&nodes(&[2, 5]), 9, now);
    assert_eq!((ids(&table), suspects(&table)), (vec![1, 2, 3, 4, 5], vec![1, 3, 4]));
    assert_eq!(table.due(), Some(now + TTL));
    assert_eq!(table.expire(now + TTL - Duration::from_millis(1)), []);
    assert_eq!(table.expire(now + TTL), [1, 3, 4].map(ServerId));
    assert_eq!((ids(&table), table.due()), (vec![2, 5], None));
}

#[test]
fn a_list_that_misses_half_is_believed() {
    let now = Instant::now();
    let mut table = five(now);
    table.replace(&nodes(&[1, 2, 3]), 9, now);
    assert_eq!((ids(&table), suspects(&table)), (vec![1, 2, 3], vec![]));
    let mut two = super::Table::new(Role::new("querynode").expect("a role"), Keys::new("by-dev", "meta")).guarded(TTL);
    two.replace(&nodes(&[1, 2]), 5, now);
    two.replace(&[], 9, now);
    assert_eq!(ids(&two), [0; 0], "two are no crowd");
}

#[test]
fn a_delete_is_believed_of_everybody() {
    let now = Instant::now();
    let mut table = five(now);
    table.change(&(1..=5).map(|id| delete(&member(id), 10 + id)).collect::<Vec<_>>(), now);
    assert_eq!(ids(&table), [0; 0]);
}

#[test]
fn a_suspect_that_comes_back_was_never_away() {
    let now = Instant::now();
    let mut table = five(now);
    table.replace(&[], 9, now);
    table.change(&[put(session(&member(3), 3, "a:1", 10))], now);
    let back = entry(&table, 3);
    assert_eq!((back.suspect, back.registration.create_revision, back.appeared), (false, 10, 1));
    assert_eq!((suspects(&table), table.expire(now + TTL).len()), (vec![1, 2, 4, 5], 4));
    assert_eq!(ids(&table), [3]);
    table.change(&[put(session(&member(4), 4, "a:1", 11))], now);
    assert_ne!(entry(&table, 4).appeared, 1, "one who comes later has a gap");
    table.change(&[delete(&member(3), 12)], now);
    assert_eq!(ids(&table), [4], "what has come back can be deleted");
}

#[test]
fn a_suspect_that_comes_back_and_goes_in_one_answer_is_gone() {
    let now = Instant::now();
    let mut table = five(now);
    table.replace(&[], 9, now);
    table.change(&[put(session(&member(3), 3, "a:1", 10)), delete(&member(3), 11)], now);
    assert_eq!(suspects(&table), [1, 2, 4, 5], "a DELETE is believed");
}

#[test]
fn a_second_list_gives_no_second_time() {
    let now = Instant::now();
    let mut table = five(now);
    table.replace(&nodes(&[5]), 9, now);
    table.replace(&[], 10, now + TTL / 2);
    assert_eq!(suspects(&table), [1, 2, 3, 4, 5]);
    assert_eq!(table.expire(now + TTL), [1, 2, 3, 4].map(ServerId));
    assert_eq!(table.expire(now + TTL + TTL / 2), [ServerId(5)]);
}

#[test]
fn a_new_holder_of_the_active_key_replaces_a_suspect() {
    let now = Instant::now();
    let mut table = table().guarded(TTL);
    table.replace(&[coordinator(ACTIVE, 3, 7), coordinator(&member(4), 4, 8), coordinator(&member(5), 5, 9)], 9, now);
    table.replace(&[], 20, now);
    assert_eq!(suspects(&table), [3, 4, 5]);
    table.change(&[put(coordinator(ACTIVE, 4, 21))], now);
    assert_eq!((ids(&table), suspects(&table)), (vec![4, 5], vec![5]));
    assert_eq!(table.published().active().map(|entry| entry.server_id()), Some(ServerId(4)));
}

#[test]
fn who_said_farewell_before_it_went_is_remembered_until_it_is_there_again() {
    let (mut table, now) = (table(), Instant::now());
    let stopping = |revision| stored(&member(3), r#"{"ServerID":3,"Address":"a:1","Stopping":true}"#, 7, revision);
    let farewell = |table: &Table| table.published().farewells.has(ServerId(3));
    table.replace(&[session(&member(3), 3, "a:1", 7)], 7, now);
    // Both in one answer: no table has it stopping.
    table.change(&[put(stopping(8)), delete(&member(3), 9)], now);
    assert!(farewell(&table));
    table.change(&[put(session(&member(3), 3, "a:1", 10))], now);
    assert!(!farewell(&table));
    table.change(&[delete(&member(3), 11)], now);
    assert!(!farewell(&table), "it went without a word");
}

#[test]
fn each_value_that_comes_is_counted_whether_or_not_it_changes_anything() {
    let (mut table, now) = (table(), Instant::now());
    let (good, bad) = (session(&member(1), 1, "a:1", 7), stored(&member(2), "{", 8, 8));
    let foreign = session("by-dev/meta/session/querynodex-4", 4, "a:2", 8);
    let list = [good, bad.clone(), foreign];
    table.replace(&list, 9, now);
    table.replace(&list, 9, now);
    assert_eq!(table.values(), Values { valid: 2, invalid: 2 });
    table.change(&[put(bad), delete(&member(2), 11), delete(&member(1), 12)], now);
    assert_eq!(table.values(), Values { valid: 4, invalid: 3 });
}
