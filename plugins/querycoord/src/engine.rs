//! Where segments are and are to be: what is asked of QueryCoord goes in here, and what searches go by comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::store::Store;
use tonic::Status;

use crate::changes::{ChangeError, Changes};
use crate::cluster::Cluster;
use crate::plan::{Placed, Plan};
use crate::plans::Plans;
use crate::serving::{CollectionOverview, Copy, NodeOverview, Overview, SegmentOverview, Served, Serving, Standing};
use crate::settling::Settling;

/// The engine.
pub(crate) struct Engine<S, C> {
    pub(crate) plans: Arc<Plans<S>>,
    pub(crate) cluster: Arc<C>,
    pub(crate) changes: Changes<S, C>,
    pub(crate) settling: Settling,
}

impl<S: Store, C: Cluster> Engine<S, C> {
    /// Loads all segments that a collection has now; the answer says where they are to be.
    pub(crate) async fn load(&self, name: &str, replica_number: u32) -> Result<Arc<Serving>, Status> {
        Ok(Arc::new(serving(&*self.changes.load(name, replica_number).await?)))
    }

    /// Releases a collection; `name` is for people.
    pub(crate) async fn release(&self, id: i64, name: &str) -> Result<(), Status> {
        Ok(self.changes.release(id, name).await?)
    }

    /// What searches of a collection go by now; `None` where no load of it was completed. Never waits.
    pub(crate) fn serving(&self, id: i64) -> Option<Arc<Serving>> {
        Some(Arc::new(serving(&*self.plans.searched(id)?)))
    }

    /// A node has answered `NOT_FOUND` for these segments: it is asked what it holds.
    pub(crate) fn not_held(&self, node: i64, segments: &[i64]) {
        tracing::debug!(node, ?segments, "a node does not hold what it should");
        self.settling.ask([node]);
    }

    /// How nodes and segments stand for all that is known.
    pub(crate) fn overview(&self) -> Overview {
        let nodes = self.cluster.nodes().unwrap_or_default();
        let collections = self.plans.all_wanted().into_iter();
        let collections = collections.filter_map(|plan| self.plans.searched(plan.collection.id));
        Overview {
            nodes: nodes.iter().map(|(id, address)| node(*id, address)).collect(),
            collections: collections.map(|plan| overview(&plan, &nodes)).collect(),
            moves: 0,
        }
    }

    /// Is a collection loaded, or being loaded?
    pub(crate) fn is_wanted(&self, id: i64) -> bool {
        self.plans.wanted(id).is_some()
    }

    /// The newest loaded collection that had this name when it was loaded.
    pub(crate) fn newest_named(&self, name: &str) -> Option<i64> {
        self.plans.newest_named(name)
    }

    /// The refusal of what asks for a loaded collection.
    pub(crate) fn not_loaded(name: &str) -> Status {
        ChangeError::NotLoaded { name: name.to_owned() }.into()
    }
}

fn serving(plan: &Plan) -> Serving {
    let served = |placed: &Placed| Served { segment: placed.segment.clone(), nodes: vec![placed.node] };
    Serving {
        collection: plan.collection.clone(),
        replica_number: plan.replica_number,
        segments: plan.segments.iter().map(served).collect(),
    }
}

fn node(id: i64, address: &str) -> NodeOverview {
    NodeOverview {
        id,
        address: address.to_owned(),
        standing: Standing::Callable,
        error: String::new(),
        failed_loads: 0,
        last_load_error: String::new(),
        next_load: None,
    }
}

fn overview(plan: &Plan, nodes: &BTreeMap<i64, String>) -> CollectionOverview {
    let segment = |placed: &Placed| {
        let held = nodes.contains_key(&placed.node);
        let copy = Copy { node: placed.node, wanted: true, held, loading: false, error: String::new() };
        let lacking = (!held).then(|| (1, format!("querynode-{} cannot be called", placed.node)));
        SegmentOverview { segment: placed.segment.clone(), copies: vec![copy], lacking }
    };
    CollectionOverview {
        collection: plan.collection.clone(),
        replica_number: plan.replica_number,
        segments: plan.segments.iter().map(segment).collect(),
    }
}
