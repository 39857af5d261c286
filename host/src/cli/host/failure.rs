//! Why no host is asked, or gives no answer, in words that say what to do.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use plugin_api::identity::{Role, ServerId};

use crate::config::{EXIT_CODE, Mistakes};

/// Why there is no host to ask, or no answer.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] Mistakes),
    /// The sockets cannot be looked for.
    #[error("cannot look for hosts in {}", directory.display())]
    Directory {
        /// Where.
        directory: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Nobody answers there.
    #[error(
        "no host of this user answers in {}{}; run one, or name its socket with --socket, or its configuration with --config",
        directory.display(), indented(silent)
    )]
    NoHost {
        /// Where it was looked for.
        directory: PathBuf,
        /// Those that are there and do not answer, each with why.
        silent: Vec<String>,
    },
    /// None of the hosts has the role.
    #[error("no host with the role {role} runs here; there are:{}", indented(hosts))]
    NoSuchRole {
        /// The role.
        role: Role,
        /// All that answer.
        hosts: Vec<String>,
    },
    /// None of the hosts has the id.
    #[error("no host with the server id {server_id} runs here; there are:{}", indented(hosts))]
    NoSuchServer {
        /// The id.
        server_id: ServerId,
        /// All that answer.
        hosts: Vec<String>,
    },
    /// There are several, and none was chosen.
    #[error("several hosts run here; choose one by its role, with --server-id or with --socket:{}", indented(hosts))]
    Several {
        /// Them.
        hosts: Vec<String>,
    },
    /// The host does not answer.
    #[error("the host at {} gives no answer", socket.display())]
    Ask {
        /// Its socket.
        socket: PathBuf,
        /// Why not.
        source: AskError,
    },
    /// The host does not do what it was asked for.
    #[error("the host at {} refuses: {text}", socket.display())]
    Refused {
        /// Its socket.
        socket: PathBuf,
        /// Its words.
        text: String,
    },
}

/// Why a host gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody takes the connection.
    #[error("cannot connect to its socket")]
    Connect(#[source] std::io::Error),
    /// It takes too long.
    #[error("not within {} (--timeout)", humantime::format_duration(*.0))]
    Late(Duration),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    /// It answers something else.
    #[error("it answers {status}: {text}")]
    Refused {
        /// The status.
        status: http::StatusCode,
        /// The text.
        text: String,
    },
    /// It answers what is no JSON.
    #[error("its answer is no JSON")]
    Json(#[source] serde_json::Error),
}

impl HostError {
    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => EXIT_CODE,
            _ => crate::cli::FAILED,
        }
    }
}

fn indented(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = write!(text, "\n  {line}");
        text
    })
}
