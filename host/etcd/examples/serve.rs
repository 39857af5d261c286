//! An embedded etcd alone, until Ctrl-C: for `etcdctl`, and to look at from other programs.
//!
//!     cargo run -p componenthost-etcd --example serve -- 2379 data/etcd

use componenthost_etcd::{EmbeddedEtcd, Settings};
use futures_util::StreamExt as _;
use signal_hook::consts::{SIGINT, SIGTERM};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(0), |port| port.parse())?;
    let data_dir = std::env::args().nth(2).map(Into::into);
    let etcd = EmbeddedEtcd::start_with(&Settings { ports: vec![port], data_dir, ..Settings::default() }).await?;
    #[expect(clippy::print_stdout, reason = "who started it reads the address here")]
    {
        println!("{}", etcd.endpoint());
    }
    signal_hook_tokio::Signals::new([SIGINT, SIGTERM])?.next().await;
    etcd.stop().await;
    Ok(())
}
