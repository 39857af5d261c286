//! What nodes and the metadata do when they are asked.

use tonic::Status;

use super::super::{Action, CallId, Input};
use super::world::{RealNode, World};
use crate::serving::Standing;

impl World {
    /// What it does, and what is answered; `None` where nobody is there to answer.
    pub(super) fn carry_out(&mut self, action: &Action) -> Option<Input> {
        Some(match action {
            Action::Write(changes) => {
                if self.fenced {
                    return None;
                }
                let holds = changes.iter().all(|change| self.metadata.get(&change.key) == change.before.as_ref());
                for change in changes.iter().filter(|_| holds) {
                    match &change.after {
                        Some(value) => drop(self.metadata.insert(change.key, value.clone())),
                        None => drop(self.metadata.remove(&change.key)),
                    }
                }
                Input::Written(Ok(holds))
            }
            Action::Read(keys) => Input::Read(Ok(keys.iter().map(|key| self.metadata.get(key).cloned()).collect())),
            Action::Ask { call, node } => Input::Told(*call, Ok(self.node(*node)?.held.iter().copied().collect())),
            Action::Load { call, node, segment, .. } => {
                let node = self.node(*node)?;
                match node.refuses.as_ref().filter(|_| !node.held.contains(&segment.id)) {
                    Some(status) => Input::Loaded(*call, Err(status.clone())),
                    None => {
                        node.held.insert(segment.id);
                        Input::Loaded(*call, Ok(()))
                    }
                }
            }
            Action::Release { call, node, segments } => {
                self.node(*node)?.held.retain(|id| !segments.contains(id));
                Input::Released(*call, Ok(()))
            }
            Action::Dismiss { call, node, .. } => {
                self.node(*node)?;
                self.end(*node);
                Input::Dismissed(*call, Ok(()))
            }
            Action::Confirm { call, collection } => {
                let there = self.catalogue.contains_key(collection).then_some(());
                Input::Confirmed(*call, there.ok_or_else(|| Status::not_found("no such collection")))
            }
            Action::Answer(..) => return None,
        })
    }

    /// A node that can be called.
    fn node(&mut self, id: i64) -> Option<&mut RealNode> {
        let callable = |node: &&mut RealNode| matches!(node.standing, Standing::Callable | Standing::Stopping);
        self.nodes.get_mut(&id).filter(callable)
    }
}

/// Its answer is lost, or there is none.
pub(super) fn failed(action: &Action) -> Input {
    let lost = || Status::unavailable("LINK_LOST");
    let told = |call: &CallId| *call;
    match action {
        Action::Write(_) => Input::Written(Err(lost())),
        Action::Read(_) => Input::Read(Err(lost())),
        Action::Ask { call, .. } => Input::Told(told(call), Err(lost())),
        Action::Load { call, .. } => Input::Loaded(told(call), Err(lost())),
        Action::Release { call, .. } => Input::Released(told(call), Err(lost())),
        Action::Dismiss { call, .. } => Input::Dismissed(told(call), Err(lost())),
        Action::Confirm { call, .. } => Input::Confirmed(told(call), Err(lost())),
        Action::Answer(..) => Input::Timer,
    }
}
