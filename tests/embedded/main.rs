//! The embedded etcd as a process of its own, started with etcd's flags: the harness holds, kills and restarts it like one.
//!
//! Flags that mean nothing to it are passed over; they are those of `tests/src/etcd`.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::pending;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use componenthost_etcd::{EmbeddedEtcd, Settings};

/// `--name value` and `--name=value`.
fn flags(arguments: impl Iterator<Item = String>) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let Some(flag) = argument.strip_prefix("--") else { continue };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (flag.to_owned(), arguments.next_if(|next| !next.starts_with("--")).unwrap_or_default()),
        };
        flags.insert(name, value);
    }
    flags
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = flags(std::env::args().skip(1));
    let flag = |name: &str| flags.get(name).cloned().ok_or_else(|| format!("no --{name}"));
    let port = |url: &str| url.rsplit(':').next().and_then(|port| port.parse().ok()).ok_or("a URL without a port");
    // As etcd's id, it follows from the members and the token.
    let mut cluster = DefaultHasher::new();
    (flag("initial-cluster")?, flag("initial-cluster-token")?).hash(&mut cluster);
    let election: i64 = flag("election-timeout")?.parse()?;
    let settings = Settings {
        ports: flag("listen-client-urls")?.split(',').map(port).collect::<Result<_, _>>()?,
        data_dir: Some(PathBuf::from(flag("data-dir")?)),
        cluster_id: Some(cluster.finish()),
        // One and a half election timeouts, in whole seconds.
        min_lease_ttl: (election * 3 / 2 + 999) / 1000,
        ..Settings::default()
    };
    let _etcd = EmbeddedEtcd::start_with(&settings).await?;
    // It ends by a signal.
    pending().await
}
