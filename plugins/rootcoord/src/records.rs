//! The keys of collections and segments in the metadata; the values are [`proto::records`] as JSON.
//!
//! | key | value |
//! | --- | --- |
//! | `collection/<id>` | the collection |
//! | `collection-name/<name>` | its id; it claims the name |
//! | `segment/<collection>/<id>` | the segment |
//! | `segment-file/<collection>/<path>` | its id; it claims the file, by its path with links resolved |

use std::path::Path;

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
