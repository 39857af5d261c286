//! The keys of collections and segments in the metadata; the values are [`proto::records`] as JSON.
//!
//! | key | value |
//! | --- | --- |
//! | `collection/<id>` | the collection |
//! | `collection-name/<name>` | its id; it claims the name |
//! | `segment/<collection>/<id>` | the segment |
//! | `segment-file/<collection>/<path>` | its id; it claims the file, by its path with links resolved |
//! | `dropped/<id>` | the name of a collection that was dropped, until it is loaded no more and its segments are removed |
//!
//! A file is claimed by its path and not by its inode: an inode's number is used again for another file.

use std::path::Path;

/// Before the id of each collection.
pub(crate) const COLLECTIONS: &str = "collection/";

/// Before the id of each collection that was dropped.
pub(crate) const DROPPED: &str = "dropped/";

pub(crate) fn collection(id: i64) -> String {
    format!("{COLLECTIONS}{id}")
}

pub(crate) fn collection_name(name: &str) -> String {
    format!("collection-name/{name}")
}

pub(crate) fn segments_of(collection_id: i64) -> String {
    format!("segment/{collection_id}/")
}

pub(crate) fn segment(collection_id: i64, id: i64) -> String {
    format!("segment/{collection_id}/{id}")
}

pub(crate) fn files_of(collection_id: i64) -> String {
    format!("segment-file/{collection_id}/")
}

pub(crate) fn file(collection_id: i64, path: &Path) -> String {
    format!("segment-file/{collection_id}/{}", path.display())
}

pub(crate) fn dropped(id: i64) -> String {
    format!("{DROPPED}{id}")
}

/// The collection that the key of a drop names.
pub(crate) fn collection_of_drop(key: &str) -> Option<i64> {
    key.strip_prefix(DROPPED)?.parse().ok()
}
