use plugin_api::state::StateCode;

use super::*;

const FENCED: Says = Says { reason: Reason::Fenced, code: StateCode::Healthy };
const INITIALIZING: Says = Says { reason: Reason::NotHealthy, code: StateCode::Initializing };

fn at(now: Instant) -> Moment {
    Moment { now, chance: 0.0 }
}

fn state(session: Session, link: LinkState, now: Instant) -> PeerState {
    PeerState { session, link, since: now }
}

/// Each session × each link, with a timer that is due.
fn states(now: Instant, config: &ConnectionsConfig) -> Vec<PeerState> {
    let round = Round::new(at(now), config);
    let error = || "refused".to_owned();
    let links = || {
        [
            LinkState::Connecting { round, peer_says: None, dial_at: Some(now) },
            LinkState::Ready { since: now, verified: true, quick_losses: 0 },
            LinkState::Refusing { since: now, says: FENCED, quick_losses: 0 },
            LinkState::Draining { round, cut_at: Some(now) },
            LinkState::Retrying { round, last_error: error(), next_try: Some(now) },
            LinkState::GivenUp { cause: GiveUp::WindowsFailed, tries: 3, last_error: error(), next_probe: Some(now) },
            LinkState::GivenUp { cause: GiveUp::TlsFailed, tries: 0, last_error: error(), next_probe: Some(now) },
            LinkState::Closed,
        ]
    };
    let mut states: Vec<PeerState> = [Session::Live, Session::Stopping, Session::Gone(Departure::Deleted)]
        .into_iter()
        .flat_map(|session| links().into_iter().map(move |link| state(session, link, now)))
        .collect();
    // A suspect has a link that is proved.
    for probe_at in [None, Some(now)] {
        let ready = LinkState::Ready { since: now, verified: true, quick_losses: 0 };
        let refusing = LinkState::Refusing { since: now, says: FENCED, quick_losses: 0 };
        states.extend([ready, refusing].map(|link| state(Session::Suspect { probe_at }, link, now)));
    }
    states
}

fn inputs() -> Vec<(&'static str, Input)> {
    vec![
        ("put", Input::Put),
        ("moved", Input::Moved),
        ("stopping", Input::Stopping),
        ("deleted", Input::Deleted(Departure::Deleted)),
        ("replaced", Input::Deleted(Departure::Replaced)),
        ("doubted", Input::Doubted),
        ("answered", Input::Answered),
        ("unanswered", Input::Unanswered("silent".to_owned())),
        ("not yet", Input::NotYet(INITIALIZING)),
        ("proved", Input::Proved { verified: true }),
        ("failed", Input::Failed("refused".to_owned())),
        ("mismatch", Input::Mismatch("another".to_owned())),
        ("refused", Input::Refused(FENCED)),
        ("tls failed", Input::TlsFailed("unknown authority".to_owned())),
        ("renewed", Input::Renewed),
        ("goaway", Input::GoAway),
        ("lost", Input::Lost("reset".to_owned())),
        ("due", Input::Due),
    ]
}

fn name(state: &PeerState) -> String {
    let link = match &state.link {
        LinkState::Closed => "closed",
        LinkState::Refusing { .. } => "refusing",
        LinkState::GivenUp { cause: GiveUp::TlsFailed, .. } => "no tls",
        link => link.kind().as_str(),
    };
    let session = match state.session {
        Session::Suspect { probe_at: None } => "asked suspect",
        Session::Suspect { probe_at: Some(_) } => "suspect",
        session => session.kind().as_str(),
    };
    format!("{session}/{link}")
}

fn word(action: &Action) -> String {
    match action {
        Action::Dial => "dial".to_owned(),
        Action::AskAgain(_) => "ask again".to_owned(),
        Action::Ask => "ask".to_owned(),
        Action::StopDialling => "stop dialling".to_owned(),
        Action::Probe => "probe".to_owned(),
        Action::DropLink => "drop link".to_owned(),
        Action::Cut(reason) => format!("cut {reason}"),
        Action::Tell(Told::Online) => "tell online".to_owned(),
        Action::Tell(Told::Offline(reason, _)) => format!("tell offline {reason}"),
        Action::Tell(Told::Stopping) => "tell stopping".to_owned(),
        Action::Tell(Told::GivenUp(_)) => "tell given up".to_owned(),
    }
}

/// Every state with every input: what it becomes, and what is done. What is not in the table is refused, and changes
/// nothing.
#[test]
fn every_pair_of_state_and_input_does_what_the_table_says() {
    let (config, now) = (ConnectionsConfig::default(), Instant::now());
    let mut lines = Vec::new();
    for before in states(now, &config) {
        for (input_name, input) in inputs() {
            let mut after = before.clone();
            match after.transition(input, at(now), &config) {
                Ok(actions) => {
                    let actions: Vec<String> = actions.iter().map(word).collect();
                    lines.push(format!("{} + {input_name} = {}: {}", name(&before), name(&after), actions.join(", ")));
                }
                Err(_) => assert_eq!(before, after, "{input_name} was refused"),
            }
        }
    }
    let table = lines.iter().map(|line| line.trim_end().trim_end_matches(':')).collect::<Vec<_>>().join("\n");
    assert_eq!(table, include_str!("transitions.txt").trim_end(), "\n{table}\n");
}

#[test]
fn three_windows_of_thirty_seconds_and_then_it_is_given_up() {
    let (config, begin) = (ConnectionsConfig::default(), Instant::now());
    let mut peer = PeerState::new(false, at(begin), &config);
    let (mut now, mut dials) = (begin, 0);
    while !matches!(peer.link, LinkState::GivenUp { .. }) {
        peer.transition(Input::Failed("refused".to_owned()), at(now), &config).expect("a dial may fail");
        dials += 1;
        if let LinkState::Retrying { next_try: Some(next), .. } = peer.link {
            now = next;
            assert_eq!(peer.transition(Input::Due, at(now), &config), Ok(vec![Action::Dial]));
        }
    }
    let took = now.duration_since(begin);
    assert!((Duration::from_secs(84)..Duration::from_secs(96)).contains(&took), "{took:?}");
    assert!((36..=54).contains(&dials), "{dials}");
    assert_eq!(peer.link.tries(), 3);
    assert_eq!(peer.due(), Some(now + config.probe_interval));
    let never = ConnectionsConfig { probe_interval: Duration::ZERO, ..config };
    peer.transition(Input::Failed("refused".to_owned()), at(now), &never).expect("a probe may fail");
    assert_eq!(peer.due(), None);
}

#[test]
fn a_link_that_breaks_as_soon_as_it_is_proved_is_dialled_with_backoff_and_another_at_once() {
    let (config, begin) = (ConnectionsConfig::default(), Instant::now());
    let mut peer = PeerState::new(false, at(begin), &config);
    let mut pauses = Vec::new();
    for lived in [Duration::ZERO, Duration::ZERO, Duration::ZERO, config.backoff_max] {
        peer.transition(Input::Proved { verified: true }, at(begin), &config).expect("it is proved");
        let now = begin + lived;
        peer.transition(Input::Lost("reset".to_owned()), at(now), &config).expect("it breaks");
        pauses.push(peer.due().map(|due| due.duration_since(now).as_millis()));
    }
    assert_eq!(pauses, [None, Some(100), Some(160), None]);
}

#[test]
fn a_peer_that_is_initializing_begins_its_windows_anew() {
    let (config, begin) = (ConnectionsConfig::default(), Instant::now());
    let mut peer = PeerState::new(false, at(begin), &config);
    for _ in 0..10 {
        peer.transition(Input::Failed("refused".to_owned()), at(begin + config.window), &config).expect("it fails");
        peer.transition(Input::NotYet(INITIALIZING), at(begin), &config).expect("it answers");
        assert_eq!(peer.link.tries(), 0);
    }
}

#[test]
fn a_peer_that_is_initializing_is_asked_again_at_once_and_then_with_a_pause() {
    let (config, now) = (ConnectionsConfig::default(), Instant::now());
    let mut peer = PeerState::new(false, at(now), &config);
    let asked = |pause| Ok(vec![Action::AskAgain(pause)]);
    for pause in [Duration::ZERO, config.backoff_min, config.backoff_min] {
        assert_eq!(peer.transition(Input::NotYet(INITIALIZING), at(now), &config), asked(pause));
    }
}
