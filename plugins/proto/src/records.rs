//! Collections and segments as components keep them in their metadata, as JSON.
//!
//! Apart from the messages, so that what is kept does not change with them, and can be read by people.

use serde::{Deserialize, Serialize};

use crate::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};

/// A collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionRecord {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// How many components each vector has.
    pub dimension: u32,
    /// `L2`, `IP` or `COSINE`.
    pub metric: String,
    /// The timestamp of its creation.
    pub created: u64,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// Its id.
    pub id: i64,
    /// The id of its collection.
    pub collection: i64,
    /// Its file, as AddSegment was given it.
    pub path: String,
    /// How many vectors it has.
    pub rows: u64,
    /// The id of the vector in row 0.
    pub first_id: i64,
}

impl From<&CollectionInfo> for CollectionRecord {
    fn from(info: &CollectionInfo) -> Self {
        Self {
            id: info.collection_id,
            name: info.collection_name.clone(),
            dimension: info.dimension,
            metric: info.metric_type().as_str_name().to_owned(),
            created: info.created_timestamp,
        }
    }
}

impl From<CollectionRecord> for CollectionInfo {
    fn from(record: CollectionRecord) -> Self {
        Self {
            collection_id: record.id,
            collection_name: record.name,
            dimension: record.dimension,
            metric_type: MetricType::from_str_name(&record.metric).unwrap_or_default().into(),
            created_timestamp: record.created,
        }
    }
}

impl From<&SegmentInfo> for SegmentRecord {
    fn from(info: &SegmentInfo) -> Self {
        Self {
            id: info.segment_id,
            collection: info.collection_id,
            path: info.path.clone(),
            rows: info.num_rows,
            first_id: info.first_id,
        }
    }
}

impl From<SegmentRecord> for SegmentInfo {
    fn from(record: SegmentRecord) -> Self {
        Self {
            segment_id: record.id,
            collection_id: record.collection,
            path: record.path,
            num_rows: record.rows,
            first_id: record.first_id,
        }
    }
}
