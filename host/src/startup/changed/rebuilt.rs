//! `--watch`: a component whose file was rebuilt is swapped by itself, for who develops it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plugin_api::error::chain;
use plugin_api::identity::Role;
use tokio::time::MissedTickBehavior;

use super::settled::{Settling, Stamp};
use super::{Origins, blocking, origin_of, swap};
use crate::admin::Control;
use crate::plugin::gate::{Digest, elf};
use crate::swap::{Order, StateMode};

/// How often a file is looked at: of the second that it may take until new code answers this is little, and it costs one
/// `stat`.
const EVERY: Duration = Duration::from_millis(100);

/// When it is asked again for a swap that could not be begun.
const NOT_NOW: Duration = Duration::from_secs(1);

/// Follows the file of one component. Never returns.
pub(super) async fn follow(role: &Role, control: &dyn Control, origins: &Origins) {
    let mut ticks = tokio::time::interval(EVERY);
    // After a swap there is nothing to catch up with.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut settling, mut of, mut said) = (Settling::default(), PathBuf::new(), None);
    loop {
        ticks.tick().await;
        let Some(origin) = origin_of(role, origins) else { continue };
        if of != origin.found {
            // It runs from another file by now.
            (settling, of) = (Settling::default(), origin.found.clone());
        }
        let path = of.clone();
        let stamp = blocking(move || path.metadata().ok().map(|found| Stamp::of(&found))).await;
        if !settling.settles(Instant::now(), stamp) {
            continue;
        }
        let Some(digest) = whole(role, &of).await.filter(|digest| *digest != origin.sha256) else { continue };
        // Once for each content, however often it has to be asked for.
        let is_news = said.replace(digest) != Some(digest);
        if is_news {
            tracing::info!(%role, path = %of.display(), sha256 = %digest, "rebuilt: swapping");
        }
        let order = Order { plugin: of.display().to_string(), state: StateMode::Try, probation: Some(Duration::ZERO) };
        if let Err(error) = swap(role, control, order, "rebuilt").await {
            if is_news {
                tracing::warn!(%role, path = %of.display(), %error, "rebuilt: not swapped yet");
            }
            settling.forget();
            tokio::time::sleep(NOT_NOW).await;
        }
    }
}

/// The hash of a file that is whole. One that is not is waited for: it is being written.
async fn whole(role: &Role, path: &Path) -> Option<Digest> {
    let from = path.to_owned();
    let read = blocking(move || {
        let bytes = std::fs::read(from)?;
        Ok::<_, std::io::Error>((Digest::of(&bytes), elf::read(&bytes)))
    });
    match read.await {
        Ok((_, Err(error))) if error.is_of_a_part() => {
            tracing::info!(%role, path = %path.display(), error = chain(&error), "rebuilt, but not whole yet");
            None
        }
        // What else may be wrong with it, the gate says.
        Ok((digest, _)) => Some(digest),
        Err(error) => {
            tracing::warn!(%role, path = %path.display(), %error, "rebuilt, but the file cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt as _;

    use super::super::fake::{FakeControl, elf_file, eventually, in_folder};
    use super::*;

    /// Runs `steps` while the file is followed.
    async fn while_followed(control: &FakeControl, origins: &Origins, steps: impl Future<Output = ()>) {
        let role = control.role();
        tokio::select! {
            () = follow(&role, control, origins) => panic!("it goes on"),
            () = steps => {}
        }
    }

    /// So many looks have been taken since.
    async fn looks(control: &FakeControl, count: usize) {
        let before = control.asked_for_origins();
        eventually(|| control.asked_for_origins() >= before + count).await;
    }

    #[tokio::test]
    async fn each_new_build_is_swapped_in_once() {
        let (folder, path) = in_folder(&elf_file(1));
        let (control, origins) = FakeControl::new(&path, &elf_file(1));
        while_followed(&control, &origins, async {
            looks(&control, 4).await;
            assert!(control.orders().is_empty(), "what runs is no new build");
            // As cargo does: unlinked first, then a link to what was built elsewhere.
            for build in [2, 3] {
                let built = folder.path().join(format!("built-{build}"));
                fs::write(&built, elf_file(build)).expect("a file is written");
                fs::remove_file(&path).expect("it is there");
                looks(&control, 4).await;
                fs::hard_link(&built, &path).expect("a link");
                eventually(|| control.orders().len() == usize::from(build) - 1).await;
            }
            looks(&control, 6).await;
        })
        .await;
        let plugin = path.display().to_string();
        let order = Order { plugin, state: StateMode::Try, probation: Some(Duration::ZERO) };
        assert_eq!(control.orders(), [order.clone(), order]);
    }

    #[tokio::test]
    async fn a_file_that_is_not_whole_is_waited_for() {
        let (_folder, path) = in_folder(&elf_file(1));
        let (control, origins) = FakeControl::new(&path, &elf_file(1));
        while_followed(&control, &origins, async {
            let whole = elf_file(2);
            let file = fs::File::create(&path).expect("a file");
            for part in 0..3 {
                file.write_all_at(&whole[..part * 20], 0).expect("it is written");
                looks(&control, 5).await;
                assert!(control.orders().is_empty(), "after {} bytes", part * 20);
            }
            file.write_all_at(&whole, 0).expect("it is written");
            eventually(|| control.orders().len() == 1).await;
        })
        .await;
    }

    #[tokio::test]
    async fn a_build_that_is_refused_is_not_asked_for_again() {
        let (_folder, path) = in_folder(&elf_file(2));
        let (control, origins) = FakeControl::new(&path, &elf_file(1));
        control.refuse();
        while_followed(&control, &origins, async {
            eventually(|| control.orders().len() == 1).await;
            looks(&control, 6).await;
            assert_eq!(control.orders().len(), 1);
            fs::write(&path, elf_file(3)).expect("a file is written");
            eventually(|| control.orders().len() == 2).await;
        })
        .await;
    }

    #[tokio::test]
    async fn a_swap_that_is_not_begun_now_is_asked_for_later() {
        let (_folder, path) = in_folder(&elf_file(2));
        let (control, origins) = FakeControl::new(&path, &elf_file(1));
        control.not_now(1);
        while_followed(&control, &origins, eventually(|| control.orders().len() == 2)).await;
    }

    #[tokio::test]
    async fn a_build_that_is_refused_for_what_passes_is_asked_for_later() {
        let (_folder, path) = in_folder(&elf_file(2));
        let (control, origins) = FakeControl::new(&path, &elf_file(1));
        control.refuse_once();
        while_followed(&control, &origins, eventually(|| control.orders().len() == 2)).await;
    }

    #[tokio::test]
    async fn the_same_content_again_is_no_new_build() {
        let (_folder, path) = in_folder(&elf_file(1));
        let (control, origins) = FakeControl::new(&path, &elf_file(1));
        while_followed(&control, &origins, async {
            fs::write(&path, elf_file(1)).expect("a file is written");
            looks(&control, 6).await;
        })
        .await;
        assert!(control.orders().is_empty());
    }
}
