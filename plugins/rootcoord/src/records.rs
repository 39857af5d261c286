//! Collections and segments as they are kept in the metadata: their keys, and their values as JSON.
//!
//! | key | value |
//! | --- | --- |
//! | `collection/<id>` | the collection |
//! | `collection-name/<name>` | its id; it claims the name |
//! | `segment/<collection>/<id>` | the segment |
//! | `segment-file/<collection>/<path>` | its id; it claims the file, by its path with links resolved |

use std::path::Path;

use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};
use serde::{Deserialize, Serialize};

/// Before the id of each collection.
pub(crate) const COLLECTIONS: &str = "collection/";

/// Before the collection and the id of each segment.
pub(crate) const SEGMENTS: &str = "segment/";

pub(crate) fn collection(id: i64) -> String {
    format!("{COLLECTIONS}{id}")
}

pub(crate) fn collection_name(name: &str) -> String {
    format!("collection-name/{name}")
}

pub(crate) fn segments_of(collection_id: i64) -> String {
    format!("{SEGMENTS}{collection_id}/")
}

pub(crate) fn segment(collection_id: i64, id: i64) -> String {
    format!("{SEGMENTS}{collection_id}/{id}")
}

pub(crate) fn files_of(collection_id: i64) -> String {
    format!("segment-file/{collection_id}/")
}

pub(crate) fn file(collection_id: i64, path: &Path) -> String {
    format!("segment-file/{collection_id}/{}", path.display())
}

/// The collection that a key of a segment names.
pub(crate) fn collection_of_segment(key: &str) -> Option<i64> {
    key.strip_prefix(SEGMENTS)?.split_once('/')?.0.parse().ok()
}

/// A collection's value.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CollectionRecord {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) dimension: u32,
    /// `L2`, `IP` or `COSINE`.
    pub(crate) metric: String,
    pub(crate) created: u64,
}

/// A segment's value.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentRecord {
    pub(crate) id: i64,
    pub(crate) collection: i64,
    pub(crate) path: String,
    pub(crate) rows: u64,
    pub(crate) first_id: i64,
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
