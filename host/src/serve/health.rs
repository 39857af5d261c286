//! `grpc.health.v1`: each service is SERVING while its component is Healthy and not fenced, or Stopping and not yet
//! draining.

use std::collections::BTreeSet;

use plugin_api::identity::Role;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::served::Served;
use crate::lifecycle::{State, Status};

/// Follows each component, in a task of its own that ends with `stop`.
pub fn follow(served: &Served, reporter: &HealthReporter, tasks: &TaskTracker, stop: &CancellationToken) {
    for (role, member) in &served.table().members {
        let one = One { role: role.clone(), served: served.clone(), reporter: reporter.clone() };
        let (status, stop) = (member.status.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = one.follow(status) => {}
            }
        });
    }
}

struct One {
    role: Role,
    served: Served,
    reporter: HealthReporter,
}

impl One {
    async fn follow(mut self, mut status: watch::Receiver<Status>) {
        let mut told = BTreeSet::new();
        loop {
            let serving = is_serving(&status.borrow_and_update());
            // Not the table itself: that would hold the generation that serves.
            let (own, all) = self.seen();
            // Another generation may serve less.
            for service in told.difference(&own) {
                self.reporter.clear_service_status(service).await;
            }
            for service in &own {
                self.reporter.set_service_status(service, serving_status(serving)).await;
            }
            told = own;
            // The empty name is the host as a whole.
            self.reporter.set_service_status("", serving_status(all)).await;
            if status.changed().await.is_err() {
                return;
            }
        }
    }

    /// The component's services, and do all components of the host serve?
    fn seen(&self) -> (BTreeSet<String>, bool) {
        let table = self.served.table();
        let own = table.services.iter().filter(|(_, role)| **role == self.role).map(|(service, _)| service.clone());
        (own.collect(), table.members.values().all(|member| is_serving(&member.status.borrow())))
    }
}

fn is_serving(status: &Status) -> bool {
    status.fenced.is_none() && matches!(status.state, State::Healthy | State::Stopping { draining: false })
}

fn serving_status(serving: bool) -> ServingStatus {
    if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}
