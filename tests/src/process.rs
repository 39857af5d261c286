//! One run of a host: a real process, its standard error in a file, killed by its pid on drop.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use rustix::process::{Pid, Signal};

use crate::log::LogLine;

/// A command with its arguments that hosts are to be run under, such as valgrind.
pub const UNDER: &str = "HOSTS_UNDER";

/// The last lines that are printed where a test fails.
const LINES_ON_FAILURE: usize = 60;

/// A process that was started.
pub struct Process {
    name: String,
    child: Mutex<Child>,
    output: PathBuf,
}

/// Is each thread of this process held by SIGSTOP? The signal has been sent a moment before that is so.
pub fn is_held(process: Pid) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero())).into_iter().flatten();
    // The state follows the name, which is in parentheses and may hold anything.
    let held = |stat: &str| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
    // A thread that has ended meanwhile has no such file any more.
    tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok()).all(|stat| held(&stat))
}

impl Process {
    /// Starts a program with its standard error in a file. Nothing of the environment reaches it but the path and `env`.
    ///
    /// # Panics
    ///
    /// Where it cannot be started.
    pub fn start(name: &str, program: &Path, arguments: &[&str], env: &[(String, String)], output: &Path) -> Self {
        let file = File::create(output).expect("a temporary directory is writable");
        let under = std::env::var(UNDER).unwrap_or_default();
        let mut words = under.split_whitespace().map(OsStr::new).chain([program.as_os_str()]);
        let child = Command::new(words.next().expect("the program at least"))
            .args(words)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_BACKTRACE", "1")
            .envs(env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file handle can be cloned"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Self { name: name.to_owned(), child: Mutex::new(child), output: output.to_owned() }
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child().id().cast_signed()).expect("a child's pid is not zero")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// Where it has ended.
    pub fn signal(&self, signal: Signal) {
        let ended = self.exit_status();
        assert!(ended.is_none(), "{} has ended already: {ended:?}\n{}", self.name, self.tail());
        rustix::process::kill_process(self.pid(), signal).expect("a child can be signalled");
    }

    /// Is each of its threads held by SIGSTOP?
    pub fn is_held(&self) -> bool {
        is_held(self.pid())
    }

    /// Ends it with SIGKILL and waits for its end.
    pub fn kill(&self) {
        let mut child = self.child();
        // It fails where the child has ended already, which is as good.
        drop(child.kill());
        drop(child.wait());
    }

    /// How it ended; `None` while it runs.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("a child can be waited for")
    }

    /// All that it has written.
    pub fn log(&self) -> Vec<LogLine> {
        LogLine::read(&self.output)
    }

    /// The last that it has written, for people.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.output).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES_ON_FAILURE)..].join("\n")
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed test shows what its hosts have said")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- the last of {} ----\n{}\n", self.name, self.tail());
        }
    }
}
