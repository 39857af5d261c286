//! Handshakes that must fail: each is told apart, to who calls and in the state of the link, and is not tried again.

use std::time::{Duration, Instant};

use componenthost::connections::{ConnectionsConfig, RequireIdentity};
use componenthost::tls::TlsConfig;
use plugin_api::peers::PeerLink;
use tests::authority::Authority;
use tests::etcd::Signed;
use tests::{eventually, holds};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::rig::{CALLED, Called, Caller, quick, tls};
use crate::connections::fake::FakeHost;

#[tokio::test]
async fn the_right_certificates_are_let_in() {
    let ours = Authority::new("ours");
    let called = Called::start(&tls(&ours, &ours.host(&[CALLED])));
    let caller = Caller::of(&tls(&ours, &ours.host(&["caller"]))).sees(called.address);
    caller.link(PeerLink::Ready).await;
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_refused_on_both_sides() {
    let (ours, another) = (Authority::new("ours"), Authority::new("another"));
    let called = Called::start(&tls(&ours, &ours.host(&[CALLED])));
    let mistrusts = Caller::of(&tls(&another, &ours.host(&["caller"]))).sees(called.address);
    assert!(mistrusts.given_up().await.contains("of an authority that is not trusted (ca)"));
    let stranger = Caller::of(&tls(&ours, &another.host(&["caller"]))).sees(called.address);
    assert!(stranger.given_up().await.contains("it does not take our certificate (cert): UnknownCA"));
}

#[tokio::test]
async fn a_certificate_for_another_role_is_not_that_of_the_peer() {
    let ours = Authority::new("ours");
    let called = Called::start(&tls(&ours, &ours.host(&["rootcoord"])));
    let caller = Caller::of(&tls(&ours, &ours.host(&["caller"]))).sees(called.address);
    let error = caller.given_up().await;
    assert!(
        error.contains("not for the name that it was called by") && error.contains("worker.blue.example"),
        "{error}"
    );
}

#[tokio::test]
async fn a_caller_whose_certificate_is_for_no_role_is_refused() {
    let ours = Authority::new("ours");
    let called = Called::start(&tls(&ours, &ours.host(&[CALLED])));
    let nobody = ours.sign("nobody", &["querycoord.red.example", "127.0.0.1"]);
    let caller = Caller::of(&tls(&ours, &nobody)).sees(called.address);
    assert!(caller.given_up().await.contains("it does not take our certificate (cert)"));
}

#[tokio::test]
async fn a_caller_without_a_certificate_is_let_in_only_where_none_is_asked_for() {
    let ours = Authority::new("ours");
    let mut config = tls(&ours, &ours.host(&[CALLED]));
    let called = Called::start(&config);
    let caller = Caller::anonymous(&ours).sees(called.address);
    assert!(caller.given_up().await.contains("it wants a certificate from its clients"));
    config.mutual = false;
    let called = Called::start(&config);
    Caller::anonymous(&ours).sees(called.address).link(PeerLink::Ready).await;
}

#[tokio::test]
async fn a_certificate_whose_time_is_over_is_refused_on_both_sides() {
    let ours = Authority::new("ours");
    let (fresh, stale) = (ours.host(&["caller", CALLED]), ours.sign_expired("stale", &["caller.blue.example"]));
    let called = Called::start(&tls(&ours, &fresh));
    let caller = Caller::of(&tls(&ours, &stale)).sees(called.address);
    assert!(caller.given_up().await.contains("it does not take our certificate (cert): CertificateExpired"));
    let stale = ours.sign_expired("stale", &["worker.blue.example"]);
    let called = Called::start(&tls(&ours, &stale));
    let caller = Caller::of(&tls(&ours, &fresh)).sees(called.address);
    let error = caller.given_up().await;
    assert!(error.contains("its certificate is not good") && error.contains("expired"), "{error}");
}

#[tokio::test]
async fn without_names_the_host_of_the_address_counts() {
    let ours = Authority::new("ours");
    let unnamed = |own: Signed| TlsConfig { names: String::new(), ..tls(&ours, &own) };
    let caller = unnamed(ours.host(&["caller"]));
    let here = Called::start(&unnamed(ours.sign("here", &["127.0.0.1"])));
    Caller::of(&caller).sees(here.address).link(PeerLink::Ready).await;
    let there = Called::start(&unnamed(ours.sign("there", &["127.0.0.2"])));
    assert!(Caller::of(&caller).sees(there.address).given_up().await.contains("not for the name"));
}

#[tokio::test]
async fn plain_text_and_tls_do_not_meet() {
    let ours = Authority::new("ours");
    let with_tls = tls(&ours, &ours.host(&["caller", CALLED]));
    let called = Called::start(&with_tls);
    let plain = Caller::of(&TlsConfig::default()).sees(called.address);
    assert!(plain.given_up().await.contains("was spoken to in plain text, and wants TLS"));
    let called = Called::start(&TlsConfig::default());
    let caller = Caller::of(&with_tls).sees(called.address);
    assert!(caller.given_up().await.contains("it may speak plain text"));
}

#[tokio::test]
async fn another_machine_is_not_called_in_plain_text() {
    // An address of documentation (RFC 5737): nobody would answer there.
    let caller = Caller::of(&TlsConfig::default()).sees("192.0.2.1:21123");
    let error = caller.given_up().await;
    assert!(error.contains("192.0.2.1:21123") && error.contains("tls.plain_text = true"), "{error}");
    let trusting = TlsConfig { plain_text: true, ..TlsConfig::default() };
    let caller = Caller::of(&trusting).sees("192.0.2.1:21123");
    let error = caller.link(PeerLink::Retrying).await;
    assert!(!error.contains("plain"), "{error}");
}

#[tokio::test]
async fn a_foreign_server_is_not_called_where_peers_must_say_who_they_are() {
    let host = FakeHost::start_with(7, CALLED, "127.0.0.1:0", |says| says.foreign = true);
    let with = |require_identity| {
        let config = ConnectionsConfig { require_identity, ..quick() };
        Caller::with(&TlsConfig::default(), config).sees(host.address)
    };
    with(RequireIdentity::UnderMutualTls).link(PeerLink::Ready).await;
    let error = with(RequireIdentity::Yes).link(PeerLink::GivenUp).await;
    assert!(error.contains("connections.require_identity"), "{error}");
}

/// Whoever dies in a handshake, or never ends it, has not failed it: it is tried again.
#[tokio::test]
async fn a_handshake_that_does_not_end_is_tried_again() {
    let ours = Authority::new("ours");
    let config = ConnectionsConfig { connect_timeout: Duration::from_millis(200), ..quick() };
    let config = |listener: &TcpListener| {
        let caller = Caller::with(&tls(&ours, &ours.host(&["caller"])), config.clone());
        caller.sees(listener.local_addr().expect("it is bound"))
    };
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let error = config(&silent).link(PeerLink::Retrying).await;
    assert!(error.contains("did not prove itself within"), "{error}");

    let dying = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let caller = config(&dying);
    let accepted = tokio::spawn(async move {
        loop {
            drop(dying.accept().await.expect("a connection"));
        }
    });
    caller.link(PeerLink::Retrying).await;
    eventually(Duration::from_secs(5), async || {
        let attempts = caller.view().peers.first().map(|peer| peer.attempts);
        holds(attempts >= Some(3), attempts)
    })
    .await;
    accepted.abort();
}

/// Takes as long as the limit: who connects and says nothing holds a socket and a task no longer than that.
#[tokio::test]
async fn a_caller_that_says_nothing_is_let_go_in_the_end() {
    let ours = Authority::new("ours");
    let called = Called::start(&tls(&ours, &ours.host(&[CALLED])));
    let begin = Instant::now();
    let mut silent = TcpStream::connect(called.address).await.expect("it listens");
    let closed = tokio::time::timeout(Duration::from_secs(20), silent.read(&mut [0; 1])).await;
    assert_eq!(closed.expect("in time").expect("an end without an error"), 0);
    assert!(begin.elapsed() >= Duration::from_secs(9), "it had its time: {:?}", begin.elapsed());
}
