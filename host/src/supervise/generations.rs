//! The generations of one component, the present one and those before, as people are shown them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::plugin::{Generation, LedgerView, Library, Origin, Traces, WeakGeneration};

/// So many that have ended are kept, the newest.
const ENDED: usize = 16;

/// How a generation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stand {
    /// It is being made, and may take another's place.
    Candidate,
    /// Calls go to it.
    Serving,
    /// Another has its place, and it is kept for the case that that one fails.
    Kept,
    /// Its last calls run.
    Draining,
    /// It has ended. Its library stays mapped.
    Retired,
}

/// A generation as people are shown it.
#[derive(Clone, Debug, Serialize)]
pub struct GenerationView {
    /// Its number, from 1.
    pub number: u64,
    /// How it stands.
    pub stand: Stand,
    /// The component's version; empty where it has not said so.
    pub version: String,
    /// The file; `None` where it is linked into the binary.
    pub path: Option<PathBuf>,
    /// The hash of the file.
    pub sha256: Option<String>,
    /// How much of it is mapped, in bytes.
    pub mapped_bytes: u64,
    /// Has the component itself been dropped?
    pub dropped: bool,
    /// What of it is alive.
    #[serde(flatten)]
    pub ledger: LedgerView,
}

/// All generations of a component. Cheap to clone.
#[derive(Clone, Default)]
pub struct Generations(Arc<Mutex<Vec<Record>>>);

/// It holds nothing of the generation, nor its library.
struct Record {
    number: u64,
    origin: Option<Origin>,
    mapped_bytes: u64,
    version: String,
    traces: Traces,
    component: WeakGeneration,
    stand: Stand,
}

impl Generations {
    /// One was made; a restarted component has its number again.
    pub fn made(&self, library: &Library, generation: &Generation) {
        let version = generation.descriptor().version.as_ref().map(ToString::to_string).unwrap_or_default();
        let (traces, component) = (generation.traces().clone(), generation.downgrade());
        let record = Record {
            number: library.generation(),
            origin: library.origin().cloned(),
            mapped_bytes: library.mapped_bytes(),
            version,
            traces,
            component,
            stand: Stand::Candidate,
        };
        let mut all = self.lock();
        all.retain(|known| known.number != record.number);
        all.push(record);
        let ended = all.iter().filter(|record| record.stand == Stand::Retired).count();
        let mut surplus = ended.saturating_sub(ENDED);
        all.retain(|record| {
            let goes = record.stand == Stand::Retired && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// One stands otherwise now.
    pub fn stands(&self, number: u64, stand: Stand) {
        if let Some(record) = self.lock().iter_mut().find(|record| record.number == number) {
            record.stand = stand;
        }
    }

    /// As they are, the oldest first.
    pub fn view(&self) -> Vec<GenerationView> {
        self.lock().iter().map(Record::view).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Record>> {
        // Nothing of others runs while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn view(&self) -> GenerationView {
        let origin = self.origin.as_ref();
        GenerationView {
            number: self.number,
            stand: self.stand,
            version: self.version.clone(),
            path: origin.map(|origin| origin.path.clone()),
            sha256: origin.map(|origin| origin.sha256.to_string()),
            mapped_bytes: self.mapped_bytes,
            dropped: self.component.is_gone(),
            ledger: self.traces.view(),
        }
    }
}
