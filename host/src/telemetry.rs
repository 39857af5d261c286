//! The host's subscriber: one line for each event on standard error, as text or as JSON.
//!
//! Not responsible for how plugins' events get here (they arrive as ordinary events of this process), only for saying how
//! much is wanted, so that plugins need not make what nobody reads.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// What is logged: levels (`error`, `warn`, `info`, `debug`, `trace`, `off`), one for all or by target, as in
    /// `info,componenthost::connections=debug`.
    pub log: String,
    /// How it is written: `text` for people, `json` (one object in a line) for programs.
    pub format: LogFormat,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log: "info".to_owned(), format: LogFormat::Text }
    }
}

impl TelemetryConfig {
    /// Values out of range, as (key, text).
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        match self.filter() {
            Ok(_) => Vec::new(),
            Err(error) => vec![("log", format!("{error}, found {:?}", self.log))],
        }
    }

    fn filter(&self) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
        EnvFilter::builder().with_default_directive(LevelFilter::ERROR.into()).parse(&self.log)
    }
}

/// The subscriber could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not valid; [`TelemetryConfig::mistakes`] says so beforehand.
    #[error("log filter '{log}'")]
    Filter {
        /// The filter.
        log: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// This process has a subscriber already.
    #[error("a second subscriber")]
    Second(#[from] TryInitError),
}

/// The subscriber in its place. It lasts as long as the process.
#[derive(Clone, Copy, Debug)]
pub struct Telemetry {
    max_level: LevelFilter,
}

impl Telemetry {
    /// Puts the subscriber in place, for the whole process.
    ///
    /// # Errors
    ///
    /// A filter that is not valid, or a subscriber that is there already.
    pub fn start(config: &TelemetryConfig) -> Result<Self, TelemetryError> {
        let filter = config.filter().map_err(|source| TelemetryError::Filter { log: config.log.clone(), source })?;
        let max_level = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let registry = tracing_subscriber::registry().with(filter);
        match config.format {
            LogFormat::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init()?,
            LogFormat::Json => registry.with(lines.json()).try_init()?,
        }
        Ok(Self { max_level })
    }

    /// The same as a plugin is told it.
    pub fn plugin_level(&self) -> u8 {
        self.max_level.into_level().map_or(0, plugin_api::border::log::level_number)
    }

    /// The most detailed level that anything wants. Plugins are told, so that they make no events beyond it.
    pub fn max_level(&self) -> LevelFilter {
        self.max_level
    }
}
