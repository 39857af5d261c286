//! What a swap hands over of QueryCoord: what its rules know beside the metadata, and which nodes searches avoid.

use serde::{Deserialize, Serialize};

use crate::core::Knowledge;
use crate::search::loads::Avoided;

/// Version 1 of QueryCoord's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Handed {
    pub(crate) known: Knowledge,
    pub(crate) avoided: Vec<Avoided>,
}
