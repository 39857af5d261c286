//! Which host: by its socket, or the one of this user that fits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::ConnectionsArguments;
use super::ask;
use super::failure::{AskError, ConnectionsError};
use crate::config::{Config, HostConfig};

/// A host that answers.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Its socket.
    pub socket: PathBuf,
    /// Its roles and its id, for people.
    pub name: String,
    roles: Vec<String>,
    server_id: Option<i64>,
}

impl Found {
    /// What `/api/v1/connections` says.
    pub async fn connections(&self, events: bool, limit: Duration) -> Result<Value, ConnectionsError> {
        let path = format!("/api/v1/connections?events={events}");
        let answer = ask::get(&self.socket, &path, limit).await;
        answer.map_err(|source| ConnectionsError::Ask { socket: self.socket.clone(), source })
    }

    async fn ask(socket: &Path, limit: Duration) -> Result<Self, AskError> {
        let view = ask::get(socket, "/api/v1/components", limit).await?;
        let components = view["components"].as_array().cloned().unwrap_or_default();
        let roles: Vec<String> =
            components.iter().filter_map(|component| Some(component["role"].as_str()?.to_owned())).collect();
        let server_id = components.iter().find_map(|component| component["server_id"].as_i64());
        let id = server_id.map_or_else(|| "no server id yet".to_owned(), |id| format!("server id {id}"));
        Ok(Self { socket: socket.to_owned(), name: format!("{} ({id})", roles.join("+")), roles, server_id })
    }

    fn describe(&self) -> String {
        format!("{} at {}", self.name, self.socket.display())
    }
}

/// The host that is meant.
pub(super) async fn find(arguments: &ConnectionsArguments) -> Result<Found, ConnectionsError> {
    if let Some(socket) = &arguments.socket {
        let found = Found::ask(socket, arguments.timeout).await;
        return found.map_err(|source| ConnectionsError::Ask { socket: socket.clone(), source });
    }
    let host = match &arguments.config {
        Some(file) => Config::load(file)?.host,
        None => HostConfig::default(),
    };
    let directory = host.directories().run;
    let (mut hosts, silent) = all(&directory, arguments.timeout).await?;
    let describe = |hosts: &[Found]| hosts.iter().map(Found::describe).collect();
    if hosts.is_empty() {
        return Err(ConnectionsError::NoHost { directory, silent });
    }
    if let Some(server_id) = arguments.server_id {
        let all = describe(&hosts);
        hosts.retain(|host| host.server_id == Some(server_id.0));
        if hosts.is_empty() {
            return Err(ConnectionsError::NoSuchServer { server_id, hosts: all });
        }
    }
    if let Some(role) = &arguments.role {
        let all = describe(&hosts);
        hosts.retain(|host| host.roles.iter().any(|one| one == role.as_str()));
        if hosts.is_empty() {
            return Err(ConnectionsError::NoSuchRole { role: role.clone(), hosts: all });
        }
    }
    match <[Found; 1]>::try_from(hosts) {
        Ok([only]) => Ok(only),
        Err(hosts) => Err(ConnectionsError::Several { hosts: describe(&hosts) }),
    }
}

/// All hosts whose sockets are in this directory, and why others there do not answer. A socket that nobody listens to was
/// left behind.
async fn all(directory: &Path, limit: Duration) -> Result<(Vec<Found>, Vec<String>), ConnectionsError> {
    let failed = |source| ConnectionsError::Directory { directory: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>().map_err(failed)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed(error)),
    };
    let mut sockets: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    sockets.retain(|path| path.extension().is_some_and(|extension| extension == "sock"));
    sockets.sort();
    let asked = sockets.iter().map(async |socket| (socket, Found::ask(socket, limit).await));
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
