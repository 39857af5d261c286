//! A stop ends dials, waits and calls at once, also those of a peer that never answers and of a reader that never reads.

use super::*;

/// Ends what it is told to end.
async fn stop(how: usize, caller: &Caller, client: &Client) {
    match how {
        0 => caller.manager.stop().await,
        1 => caller.manager.remove_dependency(&role("caller"), &role(NODE)).await,
        _ => client.stop(),
    }
}

const HOW: [Reason; 3] = [Reason::HostStopping, Reason::DependencyRemoved, Reason::ClientStopped];

#[tokio::test]
async fn calls_of_a_peer_that_never_answers_end_at_once() {
    for (how, reason) in HOW.into_iter().enumerate() {
        let host = FakeHost::start(7, NODE);
        let caller = Caller::with_ready_node(ConnectionsConfig::default(), &host).await;
        let client = caller.node(7);
        let unary = tokio::spawn(unary(client.clone(), "Hold"));
        let upload = tokio::spawn(endless_upload(client.clone()));
        let mut stream = drip(client.clone()).await;
        held(&host, 2).await;
        let begin = Instant::now();
        stop(how, &caller, &client).await;
        for ended in [unary, upload] {
            let status = ended.await.expect("no panic").expect_err("it is ended");
            assert_eq!(status.code(), Code::Cancelled);
            let ended = refusal(Err::<(), _>(status));
            assert_eq!((ended.reason, ended.executed), (reason, Executed::Unknown));
        }
        assert_eq!(refusal(stream.message().await).reason, reason);
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        held(&host, 0).await;
    }
}

#[tokio::test]
async fn waits_for_a_peer_that_is_silent_from_the_start_end_at_once_and_its_dial_too() {
    for (how, reason) in HOW.into_iter().enumerate() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut caller = Caller::new();
        caller.nodes.register(7, silent.local_addr().expect("its address"));
        let (mut dialled, _) = silent.accept().await.expect("it is dialled");
        let client = caller.node(7);
        let mut waits = Box::pin(ask(client.clone(), "Metadata", waiting(LIMIT)));
        assert!(futures_util::poll!(&mut waits).is_pending(), "it waits");
        let begin = Instant::now();
        stop(how, &caller, &client).await;
        let ended = refusal(waits.await);
        assert_eq!((ended.reason, ended.executed), (reason, Executed::No));
        // A client's stop is no business of the link's.
        if reason != Reason::ClientStopped {
            let mut said = Vec::new();
            let closed = tokio::io::AsyncReadExt::read_to_end(&mut dialled, &mut said);
            assert!(tokio::time::timeout(LIMIT, closed).await.is_ok(), "its dial goes on");
        }
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn what_nobody_reads_is_cut_all_the_same() {
    for (how, reason) in HOW.into_iter().enumerate() {
        let host = FakeHost::start(7, NODE);
        let caller = Caller::with_ready_node(ConnectionsConfig::default(), &host).await;
        let client = caller.node(7);
        let mut unread = drip(client.clone()).await;
        held(&host, 1).await;
        stop(how, &caller, &client).await;
        // The peer's stream is reset, though nobody polls the answer.
        held(&host, 0).await;
        runs_nothing(&caller).await;
        assert_eq!(refusal(unread.message().await).reason, reason, "whoever reads then is told");
    }
}

#[tokio::test]
async fn what_nobody_reads_is_cut_when_its_time_is_over() {
    let host = FakeHost::start(7, NODE);
    let caller = Caller::with_ready_node(ConnectionsConfig::default(), &host).await;
    let mut request = Request::new(String::new());
    // Long enough for the answer's head on a busy machine.
    request.set_timeout(Duration::from_secs(1));
    let answer = grpc(caller.node(7)).server_streaming(request, path("Drip"), Codec::default()).await;
    let unread = answer.expect("the stream begins");
    held(&host, 0).await;
    runs_nothing(&caller).await;
    drop(unread);
}

/// The peer may see its stream's end a moment before the call is counted as over here.
async fn runs_nothing(caller: &Caller) {
    let running = || caller.peer(NODE, 7).map_or(0, |peer| peer.calls_running);
    eventually(LIMIT, async || holds(running() == 0, format!("{} calls run", running()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dependency_that_comes_with_the_stop_leaves_nothing_behind() {
    for round in 0..25 {
        let caller = Caller::new();
        // Several of them, so that some wait for one another when the stop comes.
        let adding: Vec<_> = (0..6)
            .map(|thread| {
                let (manager, table) = (caller.manager.clone(), caller.nodes.watch());
                tokio::task::spawn_blocking(move || {
                    for number in 0..64 {
                        let name = format!("late{thread}x{number}");
                        manager.add_dependency(&role("caller"), Dependency::nodes(&name), table.clone());
                    }
                })
            })
            .collect();
        eventually(LIMIT, async || holds(caller.manager.view().len() > 8, "they come")).await;
        caller.manager.stop().await;
        for adding in adding {
            adding.await.expect("no panic");
        }
        assert_eq!(caller.manager.view().len(), 0, "round {round}");
    }
}
