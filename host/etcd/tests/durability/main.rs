//! A process that is killed while it acknowledges: whatever it has acknowledged is there again.
//!
//! The process is `examples/serve`, which cargo builds with the tests.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use componenthost_etcd::{EmbeddedEtcd, Settings, StartError};
use etcd_client::{Client, GetOptions, PutOptions, WatchOptions};
use tokio::task::JoinSet;

/// A served data directory, in a process that ends with this.
struct Served {
    process: Child,
    endpoint: String,
}

fn serve() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a file");
    let target = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
    target.join("examples/serve")
}

impl Served {
    fn start(data: &Path) -> Self {
        Self::run(Command::new(serve()).arg("0").arg(data))
    }

    /// No file of its may grow beyond half a million bytes.
    fn limited(data: &Path) -> Self {
        let script = r#"trap '' XFSZ; ulimit -f 1000; exec "$0" 0 "$1""#;
        Self::run(Command::new("sh").arg("-c").arg(script).arg(serve()).arg(data))
    }

    fn run(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the example was built with the tests");
        let mut endpoint = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut endpoint).expect("it says where it listens");
        Self { process, endpoint: endpoint.trim().to_owned() }
    }

    async fn client(&self) -> Client {
        Client::connect([&self.endpoint], None).await.expect("it listens")
    }

    fn kill(&mut self) {
        // Neither fails for a child that has not been waited for.
        self.process.kill().expect("a child can be killed");
        self.process.wait().expect("a child can be waited for");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_killed_process_has_lost_nothing_that_it_acknowledged() {
    const WRITERS: i64 = 8;
    let directory = tempfile::tempdir().expect("a directory");
    let mut clusters = Vec::new();
    let mut revision = 0;
    let acknowledged: Arc<Vec<AtomicI64>> = Arc::new((0..WRITERS).map(|_| AtomicI64::new(0)).collect());
    for round in 1..=5 {
        let mut served = Served::start(directory.path());
        let mut client = served.client().await;
        // What the rounds before were told is there, and nothing else than what they had asked for.
        let found = client.get("writer-", Some(GetOptions::new().with_prefix())).await.expect("it answers");
        clusters.push(found.header().expect("a header").cluster_id());
        assert!(found.header().expect("a header").revision() >= revision, "a revision was lost");
        for (writer, told) in acknowledged.iter().enumerate() {
            let key = format!("writer-{writer}");
            let kv = found.kvs().iter().find(|kv| kv.key() == key.as_bytes());
            let number = kv.map_or(0, |kv| kv.value_str().expect("a number").parse().expect("a number"));
            let told = told.swap(number, Ordering::SeqCst);
            assert!((told..=told + 1).contains(&number), "{key}: {told} was acknowledged, {number} is there");
        }
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (mut client, acknowledged) = (served.client().await, Arc::clone(&acknowledged));
            writers.spawn(async move {
                let told = &acknowledged[usize::try_from(writer).expect("it is small")];
                loop {
                    let next = told.load(Ordering::SeqCst) + 1;
                    if client.put(format!("writer-{writer}"), next.to_string(), None).await.is_err() {
                        return;
                    }
                    told.store(next, Ordering::SeqCst);
                }
            });
        }
        // What a watch has told was durable, too.
        let mut watch = client.watch("writer-", Some(WatchOptions::new().with_prefix())).await.expect("a watch");
        let mut events = 0;
        while events < 200 * round {
            let answer = watch.message().await.expect("it lives").expect("it goes on");
            events += answer.events().len();
            revision = answer.header().expect("a header").revision();
        }
        served.kill();
        while writers.join_next().await.is_some() {}
    }
    assert!(clusters.iter().all(|cluster| *cluster == clusters[0]), "it is the same cluster: {clusters:?}");
}

#[tokio::test]
async fn leases_live_their_whole_time_again_after_a_kill() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut served = Served::start(directory.path());
    let mut client = served.client().await;
    for id in [1, 2] {
        client.lease_grant(100, Some(etcd_client::LeaseGrantOptions::new().with_id(id))).await.expect("a lease");
    }
    client.put("a", "1", Some(PutOptions::new().with_lease(1))).await.expect("a put");
    client.lease_revoke(2).await.expect("it is there");
    served.kill();

    let served = Served::start(directory.path());
    let mut client = served.client().await;
    let options = etcd_client::LeaseTimeToLiveOptions::new().with_keys();
    let lease = client.lease_time_to_live(1, Some(options)).await.expect("an answer");
    assert!((99..=100).contains(&lease.ttl()), "{}", lease.ttl());
    assert_eq!(lease.keys(), [b"a".to_vec()]);
    assert_eq!(client.lease_time_to_live(2, None).await.expect("an answer").ttl(), -1);
}

fn in_directory(path: &Path) -> Settings {
    Settings { data_dir: Some(path.to_owned()), ..Settings::default() }
}

#[tokio::test]
async fn a_directory_has_one_owner_and_is_free_after_a_stop_or_a_drop() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = in_directory(directory.path());
    let first = EmbeddedEtcd::start_with(&settings).await.expect("a directory");
    let refused = EmbeddedEtcd::start_with(&settings).await.err().expect("it is held");
    let StartError::Data(refused) = refused else { panic!("{refused}") };
    let expected = format!("is in use by process {}", std::process::id());
    assert!(refused.to_string().ends_with(&expected), "{refused}");
    let cluster = first.cluster_id();
    first.stop().await;
    let second = EmbeddedEtcd::start_with(&settings).await.expect("it is free");
    assert_eq!(second.cluster_id(), cluster);
    drop(second);
    EmbeddedEtcd::start_with(&settings).await.expect("it is free");
}

#[tokio::test]
async fn without_a_directory_each_start_is_another_cluster() {
    let clusters = [EmbeddedEtcd::start().await, EmbeddedEtcd::start().await];
    let [first, second] = clusters.map(|etcd| etcd.expect("a free port").cluster_id());
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_second_process_is_told_of_the_directory_and_not_of_its_port() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = EmbeddedEtcd::start_with(&in_directory(directory.path())).await.expect("a directory");
    let settings = Settings { ports: vec![first.address().port()], ..in_directory(directory.path()) };
    let refused = EmbeddedEtcd::start_with(&settings).await.err().expect("it is held");
    assert!(matches!(refused, StartError::Data(_)), "{refused}");
    // Where only the port is taken, the directory is free again.
    let other = tempfile::tempdir().expect("a directory");
    let settings = Settings { data_dir: Some(other.path().to_owned()), ..settings };
    let refused = EmbeddedEtcd::start_with(&settings).await.err().expect("it is taken");
    assert!(matches!(refused, StartError::Listen { .. }), "{refused}");
    EmbeddedEtcd::start_with(&in_directory(other.path())).await.expect("it is free");
}

/// A process that may not write large files is like a disk that is full.
#[tokio::test]
async fn where_nothing_can_be_written_any_more_reads_go_on_and_nothing_acknowledged_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut served = Served::limited(directory.path());
    let mut client = served.client().await;
    let mut acknowledged = 0;
    let refused = loop {
        assert!(acknowledged < 2000, "there is no limit");
        match client.put("number", (acknowledged + 1).to_string(), None).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(acknowledged > 100, "{acknowledged}: {refused}");
    assert!(refused.contains("the data directory cannot be written"), "{refused}");
    assert_eq!(number(&mut client).await, acknowledged, "what was not acknowledged is not shown");
    assert!(client.lease_grant(10, None).await.is_err(), "nothing else is taken");
    served.kill();
    let served = Served::start(directory.path());
    assert_eq!(number(&mut served.client().await).await, acknowledged);
}

async fn number(client: &mut Client) -> i32 {
    let found = client.get("number", None).await.expect("reads go on");
    found.kvs()[0].value_str().expect("a number").parse().expect("a number")
}

#[tokio::test]
async fn a_damaged_directory_is_refused_with_file_and_offset() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = in_directory(directory.path());
    let etcd = EmbeddedEtcd::start_with(&settings).await.expect("a directory");
    let mut client = Client::connect([etcd.endpoint()], None).await.expect("it listens");
    client.put("a", "1", None).await.expect("a put");
    etcd.stop().await;
    let journal = directory.path().join("journal.1");
    let mut bytes = std::fs::read(&journal).expect("a journal");
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("something was written");
    bytes[last] ^= 1;
    std::fs::write(&journal, &bytes).expect("it can be written");

    let refused = EmbeddedEtcd::start_with(&settings).await.err().expect("it is damaged");
    let StartError::Data(refused) = refused else { panic!("{refused}") };
    let text = refused.to_string();
    assert!(text.starts_with(&format!("{} is damaged at byte ", journal.display())), "{text}");
    assert_eq!(std::fs::read(&journal).expect("a journal"), bytes, "nothing of it was touched");
}
