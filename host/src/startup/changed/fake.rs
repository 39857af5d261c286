//! A host with one component, whose swaps do as a test says.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use plugin_api::identity::Role;
use tokio::sync::watch;

use super::Origins;
use crate::admin::{Control, ControlError, Restarted};
use crate::plugin::Origin;
use crate::plugin::gate::Digest;
use crate::swap::{Order, Outcome, SwapView};

/// It has one component, and takes what the file has at the moment of a swap for what runs.
pub(super) struct FakeControl {
    runs: Mutex<Origin>,
    orders: Mutex<Vec<Order>>,
    looks: AtomicUsize,
    refuse: AtomicBool,
    passing: AtomicBool,
    not_now: AtomicUsize,
}

impl FakeControl {
    /// `path` is the component's file, `runs` the content that it had when it was opened.
    pub fn new(path: &Path, runs: &[u8]) -> (Arc<Self>, Origins) {
        let runs = Origin { found: path.to_owned(), path: path.to_owned(), sha256: Digest::of(runs) };
        let control = Arc::new(Self {
            runs: Mutex::new(runs),
            orders: Mutex::default(),
            looks: AtomicUsize::new(0),
            refuse: AtomicBool::new(false),
            passing: AtomicBool::new(false),
            not_now: AtomicUsize::new(0),
        });
        let asked = control.clone();
        let origins = move || {
            asked.looks.fetch_add(1, Ordering::Relaxed);
            vec![(asked.role(), asked.runs.lock().expect("no test panics with it").clone())]
        };
        (control, Arc::new(origins))
    }

    pub fn role(&self) -> Role {
        Role::new("querynode").expect("a role")
    }

    /// Every swap from now on is refused.
    pub fn refuse(&self) {
        self.refuse.store(true, Ordering::Relaxed);
    }

    /// The next swap is refused for what passes.
    pub fn refuse_once(&self) {
        self.passing.store(true, Ordering::Relaxed);
    }

    /// So many swaps are not begun.
    pub fn not_now(&self, count: usize) {
        self.not_now.store(count, Ordering::Relaxed);
    }

    /// How often it was asked what runs.
    pub fn asked_for_origins(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }

    pub fn orders(&self) -> Vec<Order> {
        self.orders.lock().expect("no test panics with it").clone()
    }
}

#[async_trait]
impl Control for FakeControl {
    fn swap(&self, _: &Role, order: Order) -> Result<watch::Receiver<SwapView>, ControlError> {
        self.orders.lock().expect("no test panics with it").push(order.clone());
        if self.not_now.load(Ordering::Relaxed) > 0 {
            self.not_now.fetch_sub(1, Ordering::Relaxed);
            return Err(ControlError::NotNow("not yet".to_owned()));
        }
        let passing = self.passing.swap(false, Ordering::Relaxed);
        let refuse = passing || self.refuse.load(Ordering::Relaxed);
        if !refuse {
            let content = std::fs::read(&order.plugin).expect("the file is there");
            self.runs.lock().expect("no test panics with it").sha256 = Digest::of(&content);
        }
        let view = SwapView {
            number: 1,
            order,
            asked_at_ms: 0,
            from: 1,
            to: Some(2),
            phase: None,
            phases: Vec::new(),
            outcome: Some(if refuse { Outcome::Refused } else { Outcome::Committed }),
            passing,
            reason: String::new(),
        };
        Ok(watch::channel(view).1)
    }

    async fn restart(&self, _: &Role) -> Result<Restarted, ControlError> {
        unreachable!("nobody asks for it")
    }
}

/// A file with this content, in a folder of its own.
pub(super) fn in_folder(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary directory can be made");
    let path = folder.path().join("libquerynode.so");
    std::fs::write(&path, content).expect("a file is written");
    (folder, path)
}

/// A whole ELF file of this machine, without segments; one for each number.
pub(super) fn elf_file(number: u8) -> Vec<u8> {
    let own = std::fs::read("/proc/self/exe").expect("a process can read its program");
    let mut bytes = vec![0; 65];
    // Class, byte order and machine.
    bytes[..20].copy_from_slice(&own[..20]);
    bytes[64] = number;
    bytes
}

/// Waits until this holds.
pub(super) async fn eventually(holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), held).await.expect("it holds in time");
}
