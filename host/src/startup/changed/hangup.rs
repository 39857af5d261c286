//! SIGHUP: a component whose file has other content than its running code is swapped, with its state and its probation.

use std::fs::File;

use plugin_api::identity::Role;
use tokio::sync::watch;

use super::{Origins, blocking, origin_of, swap};
use crate::admin::Control;
use crate::plugin::gate::Digest;
use crate::swap::{Order, StateMode};

/// Compares and swaps at each change of `hangups`, until nobody can change them any longer.
pub(super) async fn follow(role: &Role, control: &dyn Control, origins: &Origins, mut hangups: watch::Receiver<u64>) {
    // Those that come while one is followed are one more, together.
    while hangups.changed().await.is_ok() {
        compare(role, control, origins).await;
    }
}

async fn compare(role: &Role, control: &dyn Control, origins: &Origins) {
    let Some(origin) = origin_of(role, origins) else { return };
    let path = origin.found.display().to_string();
    let found = origin.found.clone();
    let digest = match blocking(move || File::open(found).and_then(Digest::of_reader)).await {
        Ok(digest) => digest,
        Err(error) => return tracing::warn!(%role, path, %error, "SIGHUP: the file cannot be read: what runs goes on"),
    };
    if digest == origin.sha256 {
        return tracing::info!(%role, path, sha256 = %digest, "SIGHUP: the file is what runs");
    }
    tracing::info!(%role, path, runs = %origin.sha256, sha256 = %digest, "SIGHUP: the file is another: swapping");
    let order = Order { plugin: path.clone(), state: StateMode::Keep, probation: None };
    if let Err(error) = swap(role, control, order, "SIGHUP").await {
        tracing::warn!(%role, path, %error, "SIGHUP: not swapped");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fake::{FakeControl, eventually, in_folder};
    use super::*;

    #[tokio::test]
    async fn only_a_file_that_differs_is_swapped_and_with_its_state() {
        let (_folder, path) = in_folder(b"one");
        let (control, origins) = FakeControl::new(&path, b"one");
        let hangups = watch::Sender::new(0);
        let role = control.role();
        tokio::select! {
            () = follow(&role, &*control, &origins, hangups.subscribe()) => panic!("it goes on"),
            () = async {
                // Once it has begun to look again, the look before is over.
                let again = async || {
                    let before = control.asked_for_origins();
                    hangups.send_modify(|count| *count += 1);
                    eventually(|| control.asked_for_origins() > before).await;
                    control.orders().len()
                };
                again().await;
                assert_eq!(again().await, 0, "the file is what runs");
                std::fs::write(&path, "two").expect("a file is written");
                again().await;
                again().await;
                assert_eq!(again().await, 1, "it was another, and is what runs by now");
                std::fs::remove_file(&path).expect("it is there");
                again().await;
                assert_eq!(again().await, 1, "there is none");
                std::fs::write(&path, "three").expect("a file is written");
                again().await;
                again().await;
                again().await;
            } => {}
        }
        let plugin = path.display().to_string();
        let order = Order { plugin, state: StateMode::Keep, probation: None };
        assert_eq!(control.orders(), [order.clone(), order]);
    }

    #[tokio::test]
    async fn one_that_came_before_it_was_followed_counts() {
        let (_folder, path) = in_folder(b"two");
        let (control, origins) = FakeControl::new(&path, b"one");
        let (hangups, followed) = watch::channel(0);
        hangups.send_modify(|count| *count += 1);
        drop(hangups);
        let role = control.role();
        let ended = tokio::time::timeout(Duration::from_secs(10), follow(&role, &*control, &origins, followed));
        ended.await.expect("it ends with its sender");
        assert_eq!(control.orders().len(), 1);
    }
}
