//! One call: to whom it goes, how long it waits, and to whom it is sent again where nobody has executed it.

mod attempt;
mod refusals;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use plugin_api::channel::Target;
use plugin_api::descriptor::Kind;
use plugin_api::refusal::{Executed, Reason, Refusal};
use tonic::Status;
use tonic::body::Body;

use self::attempt::Sent;
use self::refusals::Refusals;
use super::client::{Client, Declared};
use super::dependency::{PeerView, RoleView};
use super::link::Link;
use super::refusal::{Verdict, verdict};
use super::tape::Tape;

/// For so long every call waits for a new link while the old one goes away.
const MOMENT: Duration = Duration::from_millis(250);

/// One call. Shared by what ends it and what answers it.
pub(super) struct Call {
    /// Who calls, and whom.
    pub client: Client,
    /// What its component declared.
    pub declared: Declared,
    /// When it began.
    pub started: Instant,
    /// When it has to end.
    pub deadline: Option<Instant>,
}

/// What is to be done with a call now.
enum Choice {
    Send(Arc<PeerView>, Arc<Link>),
    Wait(Refusal),
    Moment(Refusal),
    Refuse(Refusal),
}

impl Call {
    /// Until the head of its answer is there. `wait`: how long it asks to wait for a peer.
    pub async fn run(self: Arc<Self>, request: Request<Body>, wait: Duration) -> Result<Response<Body>, Status> {
        let mut views = self.declared.followed.watch();
        let limit = self.wait_limit(wait);
        let (head, body) = request.into_parts();
        let tape = Tape::new(body);
        let mut refusals = Refusals::default();
        // Every call that finds a link on its way out waits so long for the next one, once.
        let mut moment_ends = None;
        loop {
            if let Some(status) = self.stopped_before(Executed::No) {
                return Err(status);
            }
            let view = Arc::clone(&views.borrow_and_update());
            let (refusal, until) = match self.choose(&view, &refusals) {
                Choice::Refuse(refusal) => return refusals.answer(refusal),
                Choice::Wait(refusal) => (refusal, limit),
                Choice::Moment(refusal) => {
                    let ends = *moment_ends.get_or_insert_with(|| Instant::now() + MOMENT);
                    (refusal, Some(limit.map_or(ends, |limit| limit.max(ends))))
                }
                Choice::Send(peer, link) => match self.send(&view, &peer, &link, &head, &tape).await? {
                    Sent::Answered(response) => return Ok(response),
                    Sent::Refused(refused) => {
                        // Once more without waiting; who waits goes on.
                        let last = limit.is_none() && !refusals.is_empty();
                        if last || !refused.may_be_repeated() || !tape.is_whole() {
                            return Ok(refused.response);
                        }
                        refusals.push(refused);
                        continue;
                    }
                    Sent::Returned(refusal) if !tape.is_whole() => return refusals.answer(refusal),
                    Sent::Returned(refusal) => {
                        // The link's end may not be in the view yet.
                        let ends = *moment_ends.get_or_insert_with(|| Instant::now() + MOMENT);
                        (refusal, Some(limit.map_or(ends, |limit| limit.max(ends))))
                    }
                },
            };
            let Some(until) = until else { return refusals.answer(refusal) };
            let _waiting = self.client.calls.wait();
            tokio::select! {
                biased;
                status = self.stopped(Executed::No) => return Err(status),
                changed = views.changed() => if changed.is_err() { return refusals.answer(refusal) },
                () = tokio::time::sleep_until(until.into()) => {
                    let asked = limit.is_some_and(|limit| limit <= Instant::now());
                    if asked {
                        return Err(self.waited(refusal).into_status());
                    }
                    return refusals.answer(refusal);
                }
            }
        }
    }

    /// Until when it waits, where it waits at all: as long as it asked for, and without a deadline of its own no longer
    /// than the cap.
    fn wait_limit(&self, wait: Duration) -> Option<Instant> {
        let cap = self.client.manager.config().wait_cap;
        let wait = if self.deadline.is_some() { wait } else { wait.min(cap) };
        (!wait.is_zero()).then(|| self.started.checked_add(wait)).flatten()
    }

    fn choose(&self, view: &RoleView, refusals: &Refusals) -> Choice {
        let about = self.client.about();
        let by_role = matches!(&*self.client.target, Target::Role(_));
        let Some(peer) = self.candidate(view, refusals) else {
            let refusal = about.refuse_absent(view);
            // A call to a role waits for whoever comes; a call to one peer waits for it, but not once it has gone.
            let waits = by_role || refusal.reason == Reason::NoSuchPeer;
            return if waits { Choice::Wait(refusal) } else { Choice::Refuse(refusal) };
        };
        if let Some(refused) = refusals.of(&peer) {
            let refusal = refused.refusal.clone();
            // One that is on its way out does not come back under this id; another of its role may come.
            let waits = by_role || refusal.reason != Reason::SessionStopping;
            return if waits { Choice::Wait(refusal) } else { Choice::Refuse(refusal) };
        }
        match (verdict(&peer.state), &peer.link) {
            (Verdict::Call, Some(link)) => Choice::Send(Arc::clone(&peer), Arc::clone(link)),
            (Verdict::Call | Verdict::Moment, _) => Choice::Moment(about.refuse_for(Reason::Connecting, view, &peer)),
            (Verdict::Wait(reason), _) => Choice::Wait(about.refuse_for(reason, view, &peer)),
            // Another holder may come while this one is on its way out.
            (Verdict::Refuse(reason), _) if by_role && reason != Reason::IdentityMismatch => {
                Choice::Wait(about.refuse_for(reason, view, &peer))
            }
            (Verdict::Refuse(reason), _) => Choice::Refuse(about.refuse_for(reason, view, &peer)),
        }
    }

    /// Of a role, one that has not refused the call, where there is one.
    fn candidate(&self, view: &RoleView, refusals: &Refusals) -> Option<Arc<PeerView>> {
        let kind = self.declared.dependency.kind;
        match &*self.client.target {
            Target::Server(_, server_id) => view.peers.get(server_id).cloned(),
            Target::Role(_) if kind == Kind::Node && !refusals.is_empty() => {
                refusals.another(view).or_else(|| self.declared.followed.choose(view, kind))
            }
            Target::Role(_) => self.declared.followed.choose(view, kind),
        }
    }

    fn waited(&self, last: Refusal) -> Refusal {
        self.client.about().refuse_waited(self.started.elapsed(), last)
    }
}
