//! Clients that search again and again while something is done to the hosts, and what became of their searches.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::future::join_all;
use proto::querycoord::v1::SearchResponse;
use proto::querycoord::v1::query_coord_client::QueryCoordClient;
use tests::Host;
use tokio::sync::watch;
use tonic::Status;
use tonic::transport::Channel;

use super::reference::Question;

/// Between two searches of a client: the machine has other work too.
const PAUSE: Duration = Duration::from_millis(20);

/// Searches one after the other, by several clients at once.
pub struct Searches<'scene> {
    /// Whom they ask: the first of these that answers.
    pub coordinators: Vec<&'scene Host>,
    pub questions: &'scene [Question],
    pub clients: usize,
    pub deadline: Duration,
}

/// What became of them.
#[derive(Debug, Default)]
pub struct Tally {
    pub whole: usize,
    pub partial: Vec<Partial>,
    pub failed: Vec<Failed>,
    /// Answers that were not right.
    pub wrong: Vec<String>,
    pub slowest: Duration,
    deadline: Duration,
}

/// An answer that lacks segments.
#[derive(Debug)]
pub struct Partial {
    pub ran: Range<Instant>,
    pub missing: BTreeSet<i64>,
    #[expect(dead_code, reason = "shown where a test fails")]
    pub reasons: Vec<String>,
}

/// A time in which some segments had no holder, through no fault of ours.
#[derive(Debug)]
pub struct Loss {
    pub time: Range<Instant>,
    pub segments: BTreeSet<i64>,
}

/// A search without an answer.
#[derive(Debug)]
pub struct Failed {
    pub ran: Range<Instant>,
    pub segments: BTreeSet<i64>,
    #[expect(dead_code, reason = "shown where a test fails")]
    pub status: Status,
}

impl Searches<'_> {
    /// They go on while `during` does; searches that run at its end are waited for.
    pub async fn during<T>(&self, dice: &mut Rng, during: impl Future<Output = T>) -> (Tally, T) {
        let (end, ends) = watch::channel(false);
        let clients = join_all((0..self.clients).map(|_| self.client(dice.fork(), ends.clone())));
        let during = async {
            let done = during.await;
            end.send_replace(true);
            done
        };
        let (tallies, done) = tokio::join!(clients, during);
        let mut all = Tally { deadline: self.deadline, ..Tally::default() };
        for tally in tallies {
            all.whole += tally.whole;
            all.partial.extend(tally.partial);
            all.failed.extend(tally.failed);
            all.wrong.extend(tally.wrong);
            all.slowest = all.slowest.max(tally.slowest);
        }
        (all, done)
    }

    async fn client(&self, mut dice: Rng, ends: watch::Receiver<bool>) -> Tally {
        let mut tally = Tally::default();
        // A connection is kept, as a client keeps it, until a call over it has failed.
        let mut connected = None;
        let mut asked = 0;
        while !*ends.borrow() {
            let question = &self.questions[dice.usize(..self.questions.len())];
            let began = Instant::now();
            let answer = match self.ask(&mut connected, asked, question).await {
                Some(answer) => answer,
                None => Err(Status::unavailable("no coordinator can be connected to")),
            };
            if answer.is_err() {
                (connected, asked) = (None, (asked + 1) % self.coordinators.len());
            }
            tally.note(question, began, answer);
            tokio::time::sleep(PAUSE).await;
        }
        tally
    }

    async fn ask(
        &self,
        connected: &mut Option<QueryCoordClient<Channel>>,
        coordinator: usize,
        question: &Question,
    ) -> Option<Result<SearchResponse, Status>> {
        if connected.is_none() {
            let host = self.coordinators[coordinator];
            let client = host.is_running().then(|| host.querycoord());
            *connected = Some(tokio::time::timeout(self.deadline / 2, client?).await.ok()?);
        }
        let answer = connected.as_mut()?.search(question.request(self.deadline)).await;
        Some(answer.map(tonic::Response::into_inner))
    }
}

impl Tally {
    fn note(&mut self, question: &Question, began: Instant, answer: Result<SearchResponse, Status>) {
        let ran = began..Instant::now();
        self.slowest = self.slowest.max(ran.end - ran.start);
        match answer {
            Err(status) => self.failed.push(Failed { ran, segments: question.collection.segment_ids(), status }),
            Ok(answer) => match question.check(&answer) {
                Err(wrong) => self.wrong.push(wrong),
                Ok(missing) if missing.is_empty() => self.whole += 1,
                Ok(missing) => {
                    let reasons = answer.missing.into_iter().map(|missing| missing.reason).collect();
                    self.partial.push(Partial { ran, missing, reasons });
                }
            },
        }
    }

    /// How many were made.
    pub fn made(&self) -> usize {
        self.whole + self.partial.len() + self.failed.len() + self.wrong.len()
    }

    /// No answer was wrong, and each came within its deadline: none was ended by the client's own clock.
    #[track_caller]
    pub fn assert_right(&self) {
        let Self { wrong, slowest, deadline, .. } = self;
        assert!(wrong.is_empty(), "{} of {} are wrong: {}", wrong.len(), self.made(), wrong[0]);
        assert!(slowest < deadline, "one took {slowest:?} with a deadline of {deadline:?}: {self:#?}");
        assert!(self.whole > 0, "{} searches, none of them whole", self.made());
    }

    /// The same; and none has failed, and none was partial.
    #[track_caller]
    pub fn assert_all_whole(&self) {
        self.assert_right();
        let (failed, partial) = (self.failed.len(), self.partial.len());
        assert!(
            failed + partial == 0,
            "of {} searches {failed} failed and {partial} were partial: {:#?} {:#?}",
            self.made(),
            self.failed.first(),
            self.partial.first()
        );
    }

    /// The same but for searches that ran while segments had no holder: those lack no others, and fail only where there was
    /// none at all for them.
    #[track_caller]
    pub fn assert_whole_but_for(&self, losses: &[Loss]) {
        self.assert_right();
        let excused = |ran: &Range<Instant>, lacked: &BTreeSet<i64>| {
            let overlaps = |loss: &&Loss| loss.time.start <= ran.end && ran.start <= loss.time.end;
            let lost: BTreeSet<i64> = losses.iter().filter(overlaps).flat_map(|loss| &loss.segments).copied().collect();
            lacked.is_subset(&lost)
        };
        let partial = self.partial.iter().find(|partial| !excused(&partial.ran, &partial.missing));
        assert!(partial.is_none(), "partial without need: {partial:#?}, lost were {losses:#?}");
        let failed = self.failed.iter().find(|failed| !excused(&failed.ran, &failed.segments));
        assert!(failed.is_none(), "failed without need: {failed:#?}, lost were {losses:#?}");
    }

    /// What happened, in a line.
    #[expect(clippy::print_stdout, reason = "what was measured is shown")]
    pub fn print(&self, what: &str) {
        let Self { whole, partial, failed, slowest, .. } = self;
        let (partial, failed) = (partial.len(), failed.len());
        println!("{what}: {whole} whole, {partial} partial, {failed} failed; the slowest took {slowest:?}");
    }
}
