//! Which of the hosts of this machine is asked: by its socket, or the one of this user that fits.
//!
//! For all verbs that ask a running host over its admin socket. What they ask, and what they show, is theirs.

mod ask;
mod failure;
#[cfg(test)]
pub(super) mod fake;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::Request;
use plugin_api::identity::{Role, ServerId};
use serde_json::Value;

pub(super) use ask::Answer;
pub use failure::{AskError, HostError};

use crate::config::{Config, HostConfig};

/// Which host.
#[derive(Args, Clone, Debug)]
pub struct HostArguments {
    /// A configuration, for where the sockets of its hosts are (host.run_dir)
    #[arg(long, value_name = "FILE", env = crate::config::FILE_VARIABLE)]
    pub config: Option<PathBuf>,
    /// Which of several hosts
    #[arg(long, value_name = "ID")]
    pub server_id: Option<ServerId>,
    /// The host's socket; goes before all that would find one
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// How long a host may take to answer what it shows
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub timeout: Duration,
}

/// A host that answers.
#[derive(Clone, Debug)]
pub(super) struct RunningHost {
    /// Its socket.
    pub socket: PathBuf,
    /// Its roles and its id, for people.
    pub name: String,
    roles: Vec<String>,
    server_id: Option<i64>,
    timeout: Duration,
}

impl RunningHost {
    /// What it shows at a path.
    pub async fn get(&self, path: &str) -> Result<Value, HostError> {
        ask::get(&self.socket, path, self.timeout).await.map_err(|source| self.failed(source))
    }

    /// The answer of a path that has no end of its own.
    pub async fn follow(&self, path: &str) -> Result<Answer, HostError> {
        let begun =
            ask::within(self.timeout, Answer::begin(&self.socket, ask::request(Request::get(path), Bytes::new())));
        begun.await.map_err(|source| self.failed(source))
    }

    /// Asks for a change, which may take as long as it likes: only its answer tells what has become of it.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<Answer, HostError> {
        Answer::begin(&self.socket, ask::request(Request::post(path), body.into())).await.map_err(|error| match error {
            AskError::Refused { text, .. } => HostError::Refused { socket: self.socket.clone(), text },
            source => self.failed(source),
        })
    }

    /// Why it gives no answer.
    pub fn failed(&self, source: AskError) -> HostError {
        HostError::Ask { socket: self.socket.clone(), source }
    }

    async fn ask(socket: &Path, timeout: Duration) -> Result<Self, AskError> {
        let view = ask::get(socket, "/api/v1/components", timeout).await?;
        let components = view["components"].as_array().cloned().unwrap_or_default();
        let roles: Vec<String> =
            components.iter().filter_map(|component| Some(component["role"].as_str()?.to_owned())).collect();
        let server_id = components.iter().find_map(|component| component["server_id"].as_i64());
        let id = server_id.map_or_else(|| "no server id yet".to_owned(), |id| format!("server id {id}"));
        Ok(Self { socket: socket.to_owned(), name: format!("{} ({id})", roles.join("+")), roles, server_id, timeout })
    }

    fn describe(&self) -> String {
        format!("{} at {}", self.name, self.socket.display())
    }
}

/// The host that is meant, which has this role where one is named.
///
/// # Errors
///
/// [`HostError`]: there is none, or more than one.
pub(super) async fn find(arguments: &HostArguments, role: Option<&Role>) -> Result<RunningHost, HostError> {
    if let Some(socket) = &arguments.socket {
        let found = RunningHost::ask(socket, arguments.timeout).await;
        return found.map_err(|source| HostError::Ask { socket: socket.clone(), source });
    }
    let host = match &arguments.config {
        Some(file) => Config::load(file)?.host,
        None => HostConfig::default(),
    };
    let directory = host.directories().run;
    let (mut hosts, silent) = all(&directory, arguments.timeout).await?;
    let describe = |hosts: &[RunningHost]| hosts.iter().map(RunningHost::describe).collect();
    if hosts.is_empty() {
        return Err(HostError::NoHost { directory, silent });
    }
    if let Some(server_id) = arguments.server_id {
        let all = describe(&hosts);
        hosts.retain(|host| host.server_id == Some(server_id.0));
        if hosts.is_empty() {
            return Err(HostError::NoSuchServer { server_id, hosts: all });
        }
    }
    if let Some(role) = role {
        let all = describe(&hosts);
        hosts.retain(|host| host.roles.iter().any(|one| one == role.as_str()));
        if hosts.is_empty() {
            return Err(HostError::NoSuchRole { role: role.clone(), hosts: all });
        }
    }
    match <[RunningHost; 1]>::try_from(hosts) {
        Ok([only]) => Ok(only),
        Err(hosts) => Err(HostError::Several { hosts: describe(&hosts) }),
    }
}

/// All hosts whose sockets are in this directory, and why others there do not answer. A socket that nobody listens to was
/// left behind.
async fn all(directory: &Path, limit: Duration) -> Result<(Vec<RunningHost>, Vec<String>), HostError> {
    let failed = |source| HostError::Directory { directory: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>().map_err(failed)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed(error)),
    };
    let mut sockets: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    sockets.retain(|path| path.extension().is_some_and(|extension| extension == "sock"));
    sockets.sort();
    let asked = sockets.iter().map(async |socket| (socket, RunningHost::ask(socket, limit).await));
    let (mut hosts, mut silent) = (Vec::new(), Vec::new());
    for (socket, found) in futures_util::future::join_all(asked).await {
        match found {
            Ok(host) => hosts.push(host),
            Err(AskError::Connect(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Err(error) => silent.push(format!("{}: {}", socket.display(), plugin_api::error::chain(&error))),
        }
    }
    Ok((hosts, silent))
}
