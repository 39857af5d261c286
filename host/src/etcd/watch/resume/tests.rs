use super::*;

const PATIENCE: Patience = Patience { ask_after: Duration::from_secs(5), answer_within: Duration::from_secs(3) };
const BLUE: u64 = 7;

/// A range that is followed, and a clock.
struct Bench {
    resume: Resume,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { resume: Resume::new(PATIENCE), now: Instant::now() }
    }

    /// Listed at 10 and watched.
    fn watching() -> Self {
        let mut bench = Self::new();
        bench.list(10, BLUE);
        bench.open(11);
        bench
    }

    /// The next step that is no pause.
    fn step(&mut self) -> Step {
        while let Step::Pause { until } = self.resume.step(self.now) {
            self.now = until;
        }
        self.resume.step(self.now)
    }

    fn take(&mut self, came: Came) -> Option<Update> {
        self.resume.take(came, Moment { now: self.now, chance: 0.0 })
    }

    fn list(&mut self, revision: i64, cluster_id: u64) -> Option<Reset> {
        assert_eq!(self.step(), Step::List);
        match self.take(Came::Listed(Listed { entries: vec![], revision, cluster_id })) {
            Some(Update::Table { reset, .. }) => reset,
            other => panic!("{other:?}"),
        }
    }

    fn open(&mut self, from: i64) {
        assert_eq!(self.step(), Step::Open { from });
        assert_eq!(self.take(Came::Opened), None);
    }

    fn answer(&mut self, answer: Answer) -> Option<Update> {
        self.take(Came::Answer(Answer { cluster_id: BLUE, ..answer }))
    }

    fn delete_at(&mut self, revision: i64) -> Option<Update> {
        self.answer(Answer { revision, changes: vec![delete(revision)], ..Answer::default() })
    }

    fn lose_the_stream(&mut self) {
        let broken = self.take(Came::Broken { cause: Cause::Lost, why: "reset".to_owned(), leave: false });
        assert_eq!(broken, Some(Update::Interrupted(Interruption { cause: Cause::Lost, why: "reset".to_owned() })));
    }

    /// Time goes on until the watch is asked for a sign of life.
    fn wait_until_asked(&mut self) -> Step {
        while let Step::Listen { until } = self.step() {
            self.now = until;
            assert_eq!(self.take(Came::Silence), None);
        }
        self.step()
    }
}

fn delete(revision: i64) -> Change {
    Change::Delete(b"key".to_vec(), revision)
}

fn changes(revisions: &[i64]) -> Option<Update> {
    Some(Update::Changes(revisions.iter().map(|revision| delete(*revision)).collect()))
}

fn interrupted(update: Option<&Update>) -> &str {
    &interruption(update).why
}

fn cause(update: Option<&Update>) -> Cause {
    interruption(update).cause
}

fn interruption(update: Option<&Update>) -> &Interruption {
    match update {
        Some(Update::Interrupted(interruption)) => interruption,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_watch_begins_after_its_list() {
    let mut bench = Bench::new();
    assert_eq!(bench.list(10, BLUE), None);
    bench.open(11);
    assert!(matches!(bench.step(), Step::Listen { .. }));
}

#[test]
fn it_goes_on_after_the_last_event() {
    let mut bench = Bench::watching();
    assert_eq!(bench.delete_at(15), changes(&[15]));
    bench.lose_the_stream();
    bench.open(16);
    bench.lose_the_stream();
    bench.open(16);
}

#[test]
fn it_goes_on_after_the_list_where_no_event_came() {
    let mut bench = Bench::watching();
    bench.lose_the_stream();
    bench.open(11);
}

#[test]
fn an_answer_that_is_no_event_is_no_place_to_go_on_from() {
    let ended = || Some("gone".to_owned());
    let others = [
        Answer { created: true, revision: 90, ..Answer::default() },
        Answer { revision: 90, ..Answer::default() },
        Answer { canceled: ended(), revision: 90, ..Answer::default() },
        Answer { created: true, canceled: ended(), revision: 90, ..Answer::default() },
    ];
    for answer in others {
        let mut bench = Bench::watching();
        let canceled = answer.canceled.is_some();
        bench.answer(answer);
        if canceled {
            assert_eq!((bench.step(), bench.take(Came::Left)), (Step::Leave, None));
        } else {
            bench.lose_the_stream();
        }
        bench.open(11);
    }
}

#[test]
fn what_a_created_answer_says_is_no_sign_of_life() {
    let mut bench = Bench::watching();
    assert_eq!(bench.answer(Answer { created: true, revision: 5, ..Answer::default() }), None);
    let progress = Answer { revision: 10, ..Answer::default() };
    assert_eq!(bench.answer(progress), Some(Update::Fresh));
}

#[test]
fn lost_history_is_listed_again() {
    let mut bench = Bench::watching();
    let compacted = Answer { canceled: Some(String::new()), compact_revision: 40, ..Answer::default() };
    let update = bench.answer(compacted);
    assert!(interrupted(update.as_ref()).contains("compacted its history up to 40, past 11"));
    assert_eq!(cause(update.as_ref()), Cause::Compacted);
    assert_eq!(bench.list(41, BLUE), None);
    bench.open(42);
}

#[test]
fn lost_history_again_and_again_is_no_hot_loop() {
    let mut bench = Bench::watching();
    let begin = bench.now;
    for revision in 20..40 {
        bench.answer(Answer { compact_revision: revision, ..Answer::default() });
        bench.list(revision, BLUE);
        bench.open(revision + 1);
    }
    assert!(bench.now.duration_since(begin) > Duration::from_secs(15), "{:?}", bench.now.duration_since(begin));
}

#[test]
fn events_that_were_seen_are_not_told_again() {
    let mut bench = Bench::watching();
    let replayed = Answer { revision: 13, changes: vec![delete(9), delete(10), delete(12)], ..Answer::default() };
    assert_eq!(bench.answer(replayed), changes(&[12]));
    assert_eq!(bench.delete_at(12), None);
    assert_eq!(bench.delete_at(13), changes(&[13]));
}

#[test]
fn a_silent_watch_is_asked_and_then_left() {
    let mut bench = Bench::watching();
    bench.delete_at(11);
    let heard = bench.now;
    assert_eq!(bench.wait_until_asked(), Step::AskProgress);
    assert_eq!(bench.now, heard + PATIENCE.ask_after);
    bench.take(Came::Asked);
    let Step::Listen { until } = bench.step() else { panic!("{:?}", bench.step()) };
    assert_eq!(until, bench.now + PATIENCE.answer_within);
    bench.now = until;
    let update = bench.take(Came::Silence);
    assert!(interrupted(update.as_ref()).contains("no answer within 3s"));
    assert_eq!(cause(update.as_ref()), Cause::Silent);
    assert_eq!((bench.step(), bench.take(Came::Left)), (Step::Leave, None));
    bench.open(12);
}

#[test]
fn a_progress_answer_is_a_sign_of_life() {
    let mut bench = Bench::watching();
    bench.delete_at(11);
    for _ in 0..3 {
        assert_eq!(bench.wait_until_asked(), Step::AskProgress);
        bench.take(Came::Asked);
        assert_eq!(bench.answer(Answer { revision: 11, ..Answer::default() }), Some(Update::Fresh));
    }
}

#[test]
fn a_member_that_lags_behind_gives_no_sign_of_life() {
    let mut bench = Bench::watching();
    bench.delete_at(20);
    assert_eq!(bench.wait_until_asked(), Step::AskProgress);
    bench.take(Came::Asked);
    assert_eq!(bench.answer(Answer { revision: 19, ..Answer::default() }), None);
    bench.now += PATIENCE.answer_within;
    assert!(interrupted(bench.take(Came::Silence).as_ref()).contains("silent"));
}

#[test]
fn where_nothing_has_happened_the_revision_is_the_sign_of_life() {
    let mut bench = Bench::watching();
    let read = Step::ReadRevision { within: PATIENCE.answer_within };
    assert_eq!(bench.wait_until_asked(), read);
    assert_eq!(bench.take(Came::Revision { revision: 10, cluster_id: BLUE }), Some(Update::Fresh));
    assert_eq!(bench.wait_until_asked(), read);
    assert_eq!(bench.take(Came::Revision { revision: 11, cluster_id: BLUE }), None);
    assert_eq!(bench.step(), Step::AskProgress, "now the watch itself must answer");
}

#[test]
fn after_a_break_etcd_is_asked_at_once() {
    let mut bench = Bench::watching();
    bench.lose_the_stream();
    bench.open(11);
    assert_eq!(bench.step(), Step::ReadRevision { within: PATIENCE.answer_within });
}

/// Members before 3.4.25 and 3.5.8 answer for progress before they have told what happened during the break.
#[test]
fn progress_may_be_told_before_what_happened_during_a_break() {
    let progress = || Answer { revision: 15, ..Answer::default() };
    let read = Step::ReadRevision { within: PATIENCE.answer_within };
    let asked_after_a_break = || {
        let mut bench = Bench::watching();
        bench.lose_the_stream();
        bench.open(11);
        assert_eq!(bench.step(), read);
        assert_eq!(bench.take(Came::Revision { revision: 15, cluster_id: BLUE }), None);
        assert_eq!(bench.step(), Step::AskProgress);
        bench.take(Came::Asked);
        assert_eq!(bench.answer(progress()), None, "it proves nothing yet");
        let until = bench.now + SETTLED_AFTER;
        assert_eq!(bench.step(), Step::Listen { until });
        bench
    };
    assert_eq!(asked_after_a_break().delete_at(12), changes(&[12]));

    // Nothing of what happened was of these keys.
    let mut bench = asked_after_a_break();
    bench.now += SETTLED_AFTER;
    assert_eq!(bench.take(Came::Silence), None);
    assert_eq!(bench.step(), read);
    bench.take(Came::Revision { revision: 15, cluster_id: BLUE });
    assert_eq!(bench.step(), Step::AskProgress);
    bench.take(Came::Asked);
    assert_eq!(bench.answer(progress()), None, "nothing was told of, and that is no proof");
    assert_eq!(bench.step(), Step::List);

    // Once: an etcd that takes long for everything is not listed without end.
    bench.take(Came::Listed(Listed { entries: vec![], revision: 15, cluster_id: BLUE }));
    bench.now += SETTLED_AFTER * 2;
    bench.open(16);
    assert!(matches!(bench.step(), Step::Listen { .. }), "it is not doubted");
}

#[test]
fn a_watch_that_takes_long_to_open_is_asked_at_once() {
    for (took, asked) in [(SETTLED_AFTER, false), (SETTLED_AFTER * 2, true)] {
        let mut bench = Bench::new();
        bench.take(Came::Listed(Listed { entries: vec![], revision: 10, cluster_id: BLUE }));
        bench.now += took;
        bench.open(11);
        assert_eq!(matches!(bench.step(), Step::ReadRevision { .. }), asked, "{took:?}");
    }
}

#[test]
fn an_etcd_that_lost_its_data_is_listed_anew() {
    for (revision, cluster_id) in [(9, BLUE), (50, 8)] {
        let mut bench = Bench::watching();
        bench.lose_the_stream();
        bench.open(11);
        let lost = bench.take(Came::Revision { revision, cluster_id });
        let why = interrupted(lost.as_ref());
        assert!(why.contains("backwards") || why.contains("another cluster"), "{why}");
        let before = Known { cluster_id: BLUE, revision: 10 };
        let now = Known { cluster_id, revision };
        assert_eq!(bench.list(revision, cluster_id), Some(Reset { before, now }));
        bench.open(revision + 1);
        assert!(matches!(bench.step(), Step::Listen { .. }));
        bench.resume.again();
        assert_eq!(bench.list(revision, cluster_id), None, "it is told once");
    }
}

#[test]
fn an_answer_of_another_cluster_is_no_event() {
    let mut bench = Bench::watching();
    let answer = Answer { cluster_id: 8, revision: 12, changes: vec![delete(12)], ..Answer::default() };
    let update = bench.take(Came::Answer(answer));
    assert!(interrupted(update.as_ref()).contains("another cluster"));
    assert_eq!(cause(update.as_ref()), Cause::Reset);
    assert!(bench.list(12, 8).is_some());
}

#[test]
fn a_list_that_is_older_than_what_was_seen_says_so() {
    let mut bench = Bench::watching();
    bench.delete_at(30);
    bench.resume.again();
    assert!(bench.list(29, BLUE).is_some());
}

#[test]
fn pauses_grow_to_a_limit() {
    for failures in 1..100 {
        for chance in [0.0, 0.5, 1.0] {
            let pause = pause(failures, chance);
            assert!(pause >= FIRST_PAUSE / 2 && pause <= LAST_PAUSE, "{failures}: {pause:?}");
        }
    }
    assert_eq!((pause(30, 0.0), pause(30, 1.0)), (LAST_PAUSE, LAST_PAUSE / 2));
}

#[test]
fn what_worked_for_a_while_begins_with_a_short_pause() {
    let mut bench = Bench::watching();
    for _ in 0..5 {
        bench.lose_the_stream();
        bench.open(11);
        bench.now += LAST_PAUSE;
    }
    let broke = bench.now;
    bench.lose_the_stream();
    assert_eq!(bench.resume.step(broke), Step::Pause { until: broke + FIRST_PAUSE });
}

#[test]
fn what_comes_too_late_changes_nothing() {
    let mut bench = Bench::new();
    for came in [Came::Opened, Came::Asked, Came::Silence, Came::Answer(Answer::default())] {
        assert_eq!(bench.take(came), None);
        assert_eq!(bench.step(), Step::List);
    }
}

#[test]
fn each_interruption_says_what_it_was() {
    let mut bench = Bench::new();
    let refused = Came::Broken { cause: Cause::Unreachable, why: "refused".to_owned(), leave: false };
    assert_eq!(bench.step(), Step::List);
    assert_eq!(cause(bench.take(refused).as_ref()), Cause::Unreachable);
    bench.list(10, BLUE);
    bench.open(11);
    let cancelled = Answer { canceled: Some("no such member".to_owned()), ..Answer::default() };
    assert_eq!(cause(bench.answer(cancelled).as_ref()), Cause::Cancelled);
}
