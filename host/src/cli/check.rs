//! `componenthost check`: what would be refused, without starting anything.
//!
//! The configuration's mistakes come from [`Config::load`]; what is wrong with a plugin is found by the gate, and handed
//! to [`report`] as text; what is wrong with etcd, if it is to be asked, by [`look`].

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use plugin_api::error::chain;
use plugin_api::identity::Role;

use crate::config::{Config, EXIT_CODE, Mistakes};
use crate::etcd::look::{Look, look};

/// Report every mistake in a configuration, and every plugin that would be refused, without starting
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit codes: 0 nothing is wrong; 1 a plugin would be refused or, with --connect, a member of etcd cannot be used; 64 mistakes in the configuration and nothing else."
)]
pub struct CheckArguments {
    /// The configuration
    #[arg(long, value_name = "FILE", env = crate::config::FILE_VARIABLE)]
    pub config: PathBuf,
    /// Ask each member of etcd too, once, and say what it answers
    #[arg(long)]
    pub connect: bool,
}

impl CheckArguments {
    /// The configuration.
    ///
    /// # Errors
    ///
    /// All its mistakes.
    pub fn load(&self) -> Result<Config, Mistakes> {
        Config::load(&self.config)
    }

    /// What the members of etcd answer, if they are to be asked.
    pub async fn look(&self, config: &Config) -> Vec<Look> {
        // An embedded etcd is there when its host is.
        if self.connect && !config.etcd.embedded { look(&config.etcd).await } else { Vec::new() }
    }
}

/// What the gate says of one component: what it found, or why it refuses.
#[derive(Debug)]
pub enum Verdict {
    /// It would be started: what was found.
    Fits(String),
    /// Its plugin is refused.
    Refused(Box<dyn Error + Send + Sync>),
    /// Its own configuration has mistakes.
    Mistaken(Box<dyn Error + Send + Sync>),
}

/// Prints all verdicts and says with which code to exit.
pub fn report(verdicts: &[(Role, Verdict)], out: &mut dyn Write) -> u8 {
    let mut code = 0;
    for (role, verdict) in verdicts {
        let line = match verdict {
            Verdict::Fits(found) => format!("{role}: ok: {found}"),
            Verdict::Refused(error) => {
                code = super::FAILED;
                format!("{role}: refused: {}", chain(error.as_ref()))
            }
            Verdict::Mistaken(error) => {
                // As at a start: where a plugin is refused too, it is that.
                code = if code == super::FAILED { code } else { EXIT_CODE };
                format!("{role}: refused: {}", chain(error.as_ref()))
            }
        };
        // Where nobody reads the lines, the exit code still tells.
        drop(writeln!(out, "{line}"));
    }
    code
}

/// Prints what each member of etcd answered, and says with which code to exit.
pub fn report_members(members: &[Look], out: &mut dyn Write) -> u8 {
    let mut code = 0;
    for Look { endpoint, seen } in members {
        let line = match seen {
            Ok(seen) => format!("etcd {endpoint}: ok: {seen}"),
            Err(error) => {
                code = super::FAILED;
                format!("etcd {endpoint}: failed: {}", chain(error.fault()))
            }
        };
        // As above.
        drop(writeln!(out, "{line}"));
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_among_many_fails_the_check() {
        let role = |name: &str| Role::new(name).expect("a role");
        let mut out = Vec::new();
        let fits = (role("b"), Verdict::Fits("/p/libb.so".to_owned()));
        let verdicts = [(role("a"), Verdict::Refused("no such file".into())), fits];
        assert_eq!(report(&verdicts, &mut out), 1);
        assert_eq!(String::from_utf8_lossy(&out), "a: refused: no such file\nb: ok: /p/libb.so\n");
        assert_eq!(report(&verdicts[1..], &mut Vec::new()), 0);
    }

    #[test]
    fn mistakes_alone_are_told_from_refusals() {
        let role = |name: &str| Role::new(name).expect("a role");
        let mistaken = || (role("a"), Verdict::Mistaken("a.toml:1: x".into()));
        let refused = || (role("b"), Verdict::Refused("no such file".into()));
        assert_eq!(report(&[mistaken()], &mut Vec::new()), 64);
        assert_eq!(report(&[mistaken(), refused()], &mut Vec::new()), 1);
        assert_eq!(report(&[refused(), mistaken()], &mut Vec::new()), 1);
    }
}
