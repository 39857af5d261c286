//! Swaps as a user makes them: by the built program's command line, over the host's admin socket.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use componenthost::swap::{Outcome, Phase, SwapView};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::eventually::{eventually, within};
use crate::host::{Host, LIMIT};

/// The longest that a command may take: a swap waits for others, for a drain, and for its probation.
const COMMAND_LIMIT: Duration = Duration::from_secs(90);

/// What a command did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// A swap that is over.
#[derive(Clone, Debug)]
pub struct Swapped {
    /// The exit code of the command.
    pub code: i32,
    /// Each state of it that the command told of, the last one last. None where there was no swap at all.
    pub told: Vec<SwapView>,
    /// What the command wrote for people.
    pub err: String,
}

/// A swap whose command runs.
pub struct Swapping {
    command: JoinHandle<Ran>,
}

impl Host {
    /// Swaps a component for the one in this file, with these arguments more, and waits for the outcome.
    pub async fn swap(&self, role: &str, plugin: &Path, arguments: &[&str]) -> Swapped {
        self.begin_swap(role, plugin, arguments).await.ended().await
    }

    /// Begins a swap.
    pub async fn begin_swap(&self, role: &str, plugin: &Path, arguments: &[&str]) -> Swapping {
        let plugin = plugin.display().to_string();
        let all = [&["swap", role, plugin.as_str(), "--json"], arguments].concat();
        Swapping { command: self.begin_command(&all).await }
    }

    /// Runs a command of the program against this host.
    pub async fn command(&self, arguments: &[&str]) -> Ran {
        ended(self.begin_command(arguments).await).await
    }

    async fn begin_command(&self, arguments: &[&str]) -> JoinHandle<Ran> {
        let socket = self.socket().await;
        let (program, env) = self.program();
        let mut command = Command::new(program);
        command.envs(env.iter().cloned()).args(arguments).arg("--socket").arg(socket).stdin(Stdio::null());
        tokio::task::spawn_blocking(move || {
            let Output { status, stdout, stderr } = command.output().expect("the program can be started");
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            Ran { code: status.code(), out: text(stdout), err: text(stderr) }
        })
    }

    /// The admin socket of its present process.
    pub async fn socket(&self) -> PathBuf {
        let run = self.directory().join("run");
        // Each process has an id of its own, and one that was killed has left its file.
        let id = eventually(LIMIT, || async {
            let components = self.components().await;
            components["components"][0]["server_id"].as_i64().ok_or("no id yet")
        })
        .await;
        run.join(format!("{id}.sock"))
    }

    /// Waits until the component's last swap has come to this phase, and gives its view.
    pub async fn swap_in(&self, role: &str, phase: Phase) -> SwapView {
        eventually(LIMIT, || async {
            let view = self.last_swap(role).await.ok_or("no swap")?;
            if view.phase == Some(phase) { Ok(view) } else { Err(format!("{view:?}")) }
        })
        .await
    }

    /// The component's last swap, or the one that runs.
    ///
    /// # Panics
    ///
    /// Where what is shown is none.
    pub async fn last_swap(&self, role: &str) -> Option<SwapView> {
        match self.component(role).await["swap"].take() {
            Value::Null => None,
            view => Some(serde_json::from_value(view).expect("the view of a swap")),
        }
    }
}

impl Swapping {
    /// Waits for the outcome.
    #[track_caller]
    pub fn ended(self) -> impl Future<Output = Swapped> {
        let running = ended(self.command);
        async move { Swapped::of(running.await) }
    }

    /// Has the command ended?
    pub fn is_over(&self) -> bool {
        self.command.is_finished()
    }
}

#[track_caller]
fn ended(command: JoinHandle<Ran>) -> impl Future<Output = Ran> {
    let limited = within(COMMAND_LIMIT, command);
    async move { limited.await.expect("the command is waited for") }
}

impl Swapped {
    fn of(ran: Ran) -> Self {
        let told = serde_json::Deserializer::from_str(&ran.out).into_iter::<SwapView>().map_while(Result::ok).collect();
        let code = ran.code.unwrap_or_else(|| panic!("a signal has ended the command: {ran:?}"));
        Self { code, told, err: ran.err }
    }

    /// How the swap was in the end.
    ///
    /// # Panics
    ///
    /// Where there was none.
    #[track_caller]
    pub fn view(&self) -> &SwapView {
        self.told.last().unwrap_or_else(|| panic!("no swap: {self:?}"))
    }

    /// The phase that failed, and why the swap ended as it did.
    #[track_caller]
    pub fn failure(&self) -> (Option<Phase>, &str) {
        let view = self.view();
        (view.phases.iter().find(|phase| phase.failed).map(|phase| phase.phase), &view.reason)
    }

    /// That it ended so, and that the exit code says the same.
    #[track_caller]
    pub fn assert(&self, outcome: Outcome) -> &Self {
        let code = match outcome {
            Outcome::Committed => 0,
            Outcome::Refused => 1,
            Outcome::RolledBack => 2,
            Outcome::Failed => 3,
        };
        let view = self.view();
        assert_eq!((view.outcome, view.phase, self.code), (Some(outcome), None, code), "{self:#?}");
        assert!(outcome == Outcome::Committed || !view.reason.is_empty(), "no reason: {self:#?}");
        self
    }

    /// That it was refused, or rolled back, in this phase, and that the reason has these words.
    #[track_caller]
    pub fn assert_failed(&self, outcome: Outcome, phase: Phase, words: &[&str]) -> &Self {
        let (failed, reason) = self.assert(outcome).failure();
        assert_eq!(failed, Some(phase), "{self:#?}");
        for word in words {
            assert!(reason.contains(word), "'{word}' is not in: {reason}");
        }
        self
    }
}
