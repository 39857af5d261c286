//! The embedded etcd, where the configuration asks for one: started before anything asks etcd, stopped after everything.
//!
//! All else speaks to it as to any etcd, over its port.

use std::path::PathBuf;

use componenthost_etcd::{EmbeddedEtcd, Settings, StartError};

use crate::etcd::EtcdConfig;

/// How many revisions stay: nobody is there to compact it, and a watch that is further behind begins with a list again.
const RETENTION: i64 = 10_000;

/// Starts it and says where it is reached; nothing where the configuration names members.
///
/// # Errors
///
/// The port is taken, or the data directory cannot be used.
///
/// # Cancel safety
///
/// It ends.
pub(super) async fn start(config: &mut EtcdConfig) -> Result<Option<EmbeddedEtcd>, StartError> {
    if !config.embedded {
        return Ok(None);
    }
    let data_dir = Some(config.data_dir.clone()).filter(|path| *path != PathBuf::new());
    let settings = Settings {
        ports: vec![config.embedded_port],
        data_dir,
        auto_compaction_retention: Some(RETENTION),
        ..Settings::default()
    };
    let etcd = EmbeddedEtcd::start_with(&settings).await?;
    config.endpoints = vec![etcd.endpoint()];
    let (endpoint, cluster_id) = (etcd.endpoint(), format!("{:x}", etcd.cluster_id()));
    tracing::info!(
        endpoint,
        cluster_id,
        "an embedded etcd runs in this host (etcd.embedded): for one machine; for more, run a real etcd cluster"
    );
    match &settings.data_dir {
        Some(path) => tracing::info!(data_dir = %path.display(), "the embedded etcd keeps its data"),
        None => tracing::warn!("the embedded etcd keeps nothing: its next start begins empty (etcd.data_dir)"),
    }
    Ok(Some(etcd))
}
