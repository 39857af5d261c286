//! `componenthost restart`: a component of a running host is ended and started again, with the code that it has.
//!
//! It asks a host of this machine over its admin socket, and waits for what comes of it.

use std::io::Write;

use clap::Args;
use plugin_api::identity::Role;

use super::host::{self, HostArguments, HostError};
use crate::admin::Restarted;

const EXAMPLES: &str = "\
Examples:
  componenthost restart querycoord
      end the QueryCoord that runs here, and start it again from its constructor; a quarantine ends

Its callers are refused meanwhile: `componenthost swap` replaces a component without that.

Exit codes: 0 it serves or stands by; 1 its start has failed, or no host could be asked;
64 wrong command line or configuration.";

/// End a component of a running host and start it again; a quarantine ends
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RestartArguments {
    /// Which component
    pub role: Role,
    /// Which host.
    #[command(flatten)]
    pub host: HostArguments,
    /// What came of it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why it is not known what came of a restart.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// There is no host to ask, or no answer.
    #[error(transparent)]
    Host(#[from] HostError),
    /// What came of it cannot be written.
    #[error("cannot write what came of the restart")]
    Output {
        /// Why not.
        source: std::io::Error,
    },
}

impl RestartError {
    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Host(error) => error.exit_code(),
            Self::Output { .. } => super::FAILED,
        }
    }
}

/// Restarts a component, and says whether it has started.
///
/// # Errors
///
/// See [`RestartError`]; its text is for the user, [`RestartError::exit_code`] for the shell.
pub async fn restart(arguments: &RestartArguments, out: &mut (dyn Write + Send)) -> Result<bool, RestartError> {
    let host = host::find(&arguments.host, Some(&arguments.role)).await?;
    let answer = host.post(&format!("/api/v1/components/{}/restart", arguments.role), "").await?;
    let restarted: Restarted = answer.json().await.map_err(|source| host.failed(source))?;
    let text = if arguments.json {
        serde_json::to_string(&restarted).unwrap_or_default()
    } else {
        format!("{}: {}: {}", arguments.role, restarted.state_code, restarted.detail)
    };
    writeln!(out, "{text}").map_err(|source| RestartError::Output { source })?;
    Ok(restarted.started)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::cli::host::fake::FakeHost;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        restart: RestartArguments,
    }

    async fn run(host: &FakeHost, options: &[&str]) -> (Result<bool, RestartError>, String) {
        let socket = host.socket().display().to_string();
        let line = ["restart", "querynode", "--socket", &socket].into_iter().chain(options.iter().copied());
        let arguments = Line::try_parse_from(line).expect("a command line").restart;
        let mut out = Vec::new();
        (restart(&arguments, &mut out).await, String::from_utf8(out).expect("UTF-8"))
    }

    #[tokio::test]
    async fn what_came_of_it_is_told() {
        for (state_code, started) in [("Healthy", true), ("Abnormal", false)] {
            let body = json!({ "state_code": state_code, "detail": "a detail", "started": started }).to_string();
            let host = FakeHost::new(StatusCode::OK, vec![body.clone()]);
            let (outcome, text) = run(&host, &[]).await;
            assert_eq!((outcome.expect("an answer"), text), (started, format!("querynode: {state_code}: a detail\n")));
            let (_, text) = run(&host, &["--json"]).await;
            let values = [text, body].map(|text| serde_json::from_str::<serde_json::Value>(&text).expect("JSON"));
            assert_eq!(values[0], values[1]);
            let asked = host.asked.lock().expect("no test panics with it");
            assert!(asked.iter().all(|(path, _)| path == "/api/v1/components/querynode/restart"), "{asked:?}");
        }
    }

    #[tokio::test]
    async fn a_host_that_refuses_is_told_in_its_words() {
        let host = FakeHost::new(StatusCode::CONFLICT, vec![json!({ "error": "the host stops" }).to_string()]);
        let error = run(&host, &[]).await.0.expect_err("refused");
        assert!(error.exit_code() == 1 && error.to_string().ends_with("refuses: the host stops"), "{error}");
        let host = FakeHost::new(StatusCode::OK, vec!["garbage".to_owned()]);
        let error = run(&host, &[]).await.0.expect_err("garbage");
        assert!(plugin_api::error::chain(&error).contains("no JSON"), "{error}");
    }
}
