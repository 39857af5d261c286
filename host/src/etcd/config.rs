//! Section `[etcd]`: where the cluster's etcd is, who we are there, and how it is asked.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::etcd::password::Password;
use crate::etcd::tls;

/// Section `[etcd]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EtcdConfig {
    /// The members, `host:port` each, or `https://host:port` for TLS. One is used at a time, the next when it fails.
    /// Default `["127.0.0.1:2379"]`, etcd's own port on this machine.
    pub endpoints: Vec<String>,
    /// Does an etcd run within this host? Then `endpoints` has its default. Default no. For one machine only.
    pub embedded: bool,
    /// The port of the embedded etcd on 127.0.0.1, so that other processes of this machine can use it too; 0 takes a free
    /// one. Default 2379, etcd's own.
    pub embedded_port: u16,
    /// The directory in which the embedded etcd keeps what it has acknowledged. Default "": it keeps nothing.
    pub data_dir: PathBuf,
    /// The first part of every key, and the cluster's name where it has no other. Default `componenthost`; `by-dev` joins a
    /// Milvus development cluster.
    pub root_path: String,
    /// The second part of every key. Default `meta`, as in Milvus.
    pub meta_sub_path: String,
    /// How long a TCP connection to a member may take. Default 3 s: a member that needs longer is cut off.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long one request may take, with its connection. Default 5 s: more than an election takes.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// The user, where etcd has users. Default "": nobody.
    pub user: String,
    /// Its password. Default "": none.
    pub password: Password,
    /// The file that holds the password, in place of `password`. It is read again whenever etcd is told who we are.
    /// Default "": none.
    pub password_file: PathBuf,
    /// `[etcd.tls]`: whom to trust, and how to be trusted.
    pub tls: TlsConfig,
}

/// `[etcd.tls]`. All files are PEM, and read again for each connection, so that they can be renewed. A key that is set makes
/// `host:port` without a scheme mean TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The authorities that may vouch for etcd. Default "": those of this machine.
    pub ca: PathBuf,
    /// Our certificate, where etcd wants one. Default "": none.
    pub cert: PathBuf,
    /// Its key. Default "": none.
    pub key: PathBuf,
    /// The name that etcd's certificate must have. Default "": the endpoint's host.
    pub server_name: String,
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            embedded: false,
            embedded_port: 2379,
            data_dir: PathBuf::new(),
            root_path: "componenthost".to_owned(),
            meta_sub_path: "meta".to_owned(),
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(5),
            user: String::new(),
            password: Password::default(),
            password_file: PathBuf::new(),
            tls: TlsConfig::default(),
        }
    }
}

impl TlsConfig {
    pub(super) fn is_set(&self) -> bool {
        *self != Self::default()
    }
}

impl EtcdConfig {
    /// All values that are out of range, as key and text. Files that are named are read.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if self.endpoints.is_empty() {
            mistakes.push(("endpoints", "names no member of etcd; give at least one \"host:port\"".to_owned()));
        }
        for endpoint in &self.endpoints {
            if let Some(text) = self.mistake_in_endpoint(endpoint) {
                mistakes.push(("endpoints", format!("\"{}\" {text}", without_user(endpoint))));
            }
        }
        for (key, path) in [("root_path", &self.root_path), ("meta_sub_path", &self.meta_sub_path)] {
            if path.is_empty() || path.starts_with('/') || path.ends_with('/') {
                mistakes.push((key, format!("\"{path}\" must not be empty, nor begin or end with '/'")));
            }
        }
        for (key, limit) in [("connect_timeout", self.connect_timeout), ("request_timeout", self.request_timeout)] {
            if limit.is_zero() {
                mistakes.push((key, "must be more than zero".to_owned()));
            }
        }
        mistakes.extend(self.mistakes_of_embedded());
        mistakes.extend(self.mistakes_in_user());
        mistakes.extend(self.mistakes_in_tls());
        mistakes
    }

    /// The endpoint with its scheme.
    pub(super) fn url(&self, endpoint: &str) -> String {
        match endpoint.contains("://") {
            true => endpoint.to_owned(),
            false if self.tls.is_set() => format!("https://{endpoint}"),
            false => format!("http://{endpoint}"),
        }
    }

    /// The password, from where it is configured.
    ///
    /// # Errors
    ///
    /// Where its file cannot be read.
    pub(super) fn read_password(&self) -> std::io::Result<Password> {
        if self.password_file.as_os_str().is_empty() {
            return Ok(self.password.clone());
        }
        let text = std::fs::read_to_string(&self.password_file)?;
        // Editors end the last line.
        Ok(Password::from(text.trim_end_matches(['\r', '\n'])))
    }

    fn mistake_in_endpoint(&self, endpoint: &str) -> Option<&'static str> {
        let (scheme, authority) = endpoint.split_once("://").unwrap_or(("", endpoint));
        if !["", "http", "https"].contains(&scheme) {
            return Some("is neither http:// nor https://");
        }
        if scheme == "http" && self.tls.is_set() {
            return Some("is plain text, and [etcd.tls] is set: say https://, or leave it out");
        }
        let Ok(authority) = authority.parse::<http::uri::Authority>() else {
            return Some("is no \"host:port\"");
        };
        if authority.host().is_empty() || authority.port_u16().is_none_or(|port| port == 0) {
            return Some("is no \"host:port\"");
        }
        authority.as_str().contains('@').then_some("names a user: that is etcd.user")
    }

    fn mistakes_of_embedded(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let set =
            |key: &str| format!("is set, and etcd.embedded too: leave {key} out, or run an etcd and leave that out");
        if self.embedded && self.endpoints != Self::default().endpoints {
            mistakes.push(("endpoints", set("it")));
        }
        if self.embedded && !self.user.is_empty() {
            mistakes.push(("user", set("the user")));
        }
        if self.embedded && self.tls.is_set() {
            mistakes.push(("tls", set("[etcd.tls]")));
        }
        if !self.embedded && !self.data_dir.as_os_str().is_empty() {
            let text = "is set, and etcd.embedded is not: nothing would be kept there".to_owned();
            mistakes.push(("data_dir", text));
        }
        mistakes
    }

    /// Where the embedded etcd is reached, for other processes of this machine too; where its port is free, its host alone
    /// knows.
    pub(crate) fn reach_embedded(&mut self) {
        if self.embedded {
            self.endpoints = vec![format!("127.0.0.1:{}", self.embedded_port)];
        }
    }

    fn mistakes_in_user(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let (by_value, by_file) = (!self.password.is_empty(), !self.password_file.as_os_str().is_empty());
        if by_value && by_file {
            mistakes.push(("password_file", "is set, and etcd.password too: only one of them can be meant".to_owned()));
        }
        if self.user.is_empty() && (by_value || by_file) {
            mistakes.push(("user", "is not set, and there is a password".to_owned()));
        }
        if !self.user.is_empty() && !by_value && !by_file {
            mistakes.push(("user", format!("\"{}\" has neither etcd.password nor etcd.password_file", self.user)));
        }
        if by_file {
            let file = self.password_file.display();
            match self.read_password() {
                Ok(password) if password.is_empty() => {
                    mistakes.push(("password_file", format!("\"{file}\" is empty")));
                }
                Ok(_) => {}
                Err(error) => mistakes.push(("password_file", format!("\"{file}\" cannot be read: {error}"))),
            }
        }
        mistakes
    }

    fn mistakes_in_tls(&self) -> Vec<(&'static str, String)> {
        let urls: Vec<String> = self.endpoints.iter().map(|endpoint| self.url(endpoint)).collect();
        if urls.iter().any(|url| url.starts_with("https://")) || self.tls.is_set() {
            tls::mistakes(&self.tls)
        } else {
            Vec::new()
        }
    }
}

/// The endpoint as it may be shown: who writes a user into it writes the password too.
fn without_user(endpoint: &str) -> String {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
    match (rest.rsplit_once('@'), scheme) {
        (None, _) => endpoint.to_owned(),
        (Some((_, host)), "") => format!("…@{host}"),
        (Some((_, host)), scheme) => format!("{scheme}://…@{host}"),
    }
}

#[cfg(test)]
mod tests;
