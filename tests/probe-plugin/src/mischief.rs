//! Goes wrong where the configuration and the file of knobs say so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use plugin_api::error::{BoxError, Error};
use semver::Version;
use tonic::Code;

use crate::config::ProbeConfig;
use crate::edition::Edition;
use crate::knobs::{Fault, FaultConfig, Knobs, Lies, Method};

/// How long [`Fault::Slow`] lasts where it is not said.
const SLOW: Duration = Duration::from_millis(300);

/// Between two looks whether a fault has gone.
const PAUSE: Duration = Duration::from_millis(10);

/// The faults and the lies of one probe.
#[derive(Clone)]
pub struct Mischief {
    faults: BTreeMap<Method, FaultConfig>,
    knobs_file: Option<PathBuf>,
    version: Version,
}

impl Mischief {
    /// Of that configuration, in that edition.
    pub fn new(config: &ProbeConfig, edition: Edition) -> Self {
        let (faults, knobs_file) = (config.faults.clone(), config.knobs_file.clone());
        Self { faults, knobs_file, version: edition.version() }
    }

    /// What it lies about now.
    pub fn lies(&self) -> Lies {
        self.knobs().lies
    }

    /// Goes wrong in a method, if it is to.
    pub async fn play(&self, method: Method) -> Result<(), BoxError> {
        let Some(fault) = self.fault(method) else { return Ok(()) };
        match fault.how {
            Fault::Hang => std::future::pending().await,
            Fault::Wait => {
                while self.fault(method).is_some() {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            }
            Fault::Slow => {
                tokio::time::sleep(length(&fault)).await;
                Ok(())
            }
            Fault::Fail | Fault::Unwritten | Fault::Panic | Fault::Block => self.play_at_once(method),
        }
    }

    /// The same in what is no future: whatever takes time keeps the thread.
    pub fn play_at_once(&self, method: Method) -> Result<(), BoxError> {
        let Some(fault) = self.fault(method) else { return Ok(()) };
        match fault.how {
            Fault::Fail => Err(format!("{method:?} fails as configured").into()),
            Fault::Unwritten => {
                Err(Error::new(Code::Unimplemented, format!("{method:?} is not written, as configured")).into())
            }
            Fault::Panic => panic!("{method:?} panics as configured"),
            Fault::Slow => {
                std::thread::sleep(length(&fault));
                Ok(())
            }
            Fault::Hang | Fault::Wait | Fault::Block => loop {
                std::thread::park();
            },
        }
    }

    /// The fault of a method, if it is to happen now.
    fn fault(&self, method: Method) -> Option<FaultConfig> {
        let own = self.faults.get(&method).filter(|fault| fault.is_on()).cloned();
        own.or_else(|| self.knobs().faults.remove(&method).filter(FaultConfig::is_on))
    }

    fn knobs(&self) -> Knobs {
        Knobs::read(self.knobs_file.as_deref(), &self.version)
    }
}

fn length(fault: &FaultConfig) -> Duration {
    if fault.ms == 0 { SLOW } else { Duration::from_millis(fault.ms) }
}
