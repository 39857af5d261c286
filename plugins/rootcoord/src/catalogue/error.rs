//! Why the catalogue refuses, in words and, where something is there already, in a `google.rpc.ErrorInfo`.

use std::collections::HashMap;
use std::path::PathBuf;

use plugin_api::Error;
use plugin_api::error::chain;
use proto::batch::MAX_DIMENSION;
use proto::name::BadName;
use proto::rootcoord::v1::CollectionInfo;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of RootCoord's own `ErrorInfo`; the host's refusals have another.
const DOMAIN: &str = "rootcoord";

/// Why the catalogue refuses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogueError {
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] BadName),
    /// The id cannot be one.
    #[error("collection_id is {id}, it has to be at least 1")]
    Id { id: i64 },
    /// The dimension is not allowed.
    #[error("dimension is {dimension}, it has to be 1 to {MAX_DIMENSION}")]
    Dimension { dimension: u32 },
    /// There is no such metric.
    #[error("metric_type is {metric}, it has to be L2, IP or COSINE")]
    Metric { metric: i32 },
    /// No collection has this name.
    #[error("there is no collection '{name}'")]
    NoSuchName { name: String },
    /// No collection has this id.
    #[error("there is no collection with id {id}")]
    NoSuchId { id: i64 },
    /// It was there when the call began.
    #[error("collection '{name}' with id {id} was dropped meanwhile")]
    Dropped { name: String, id: i64 },
    /// The name is taken.
    #[error(
        "there is a collection '{}' already: id {}, dimension {}, metric {}", existing.collection_name,
        existing.collection_id, existing.dimension, existing.metric_type().as_str_name()
    )]
    CollectionExists { existing: Box<CollectionInfo> },
    /// The file is a segment already.
    #[error("{path} is segment {segment_id} of collection '{collection}' already")]
    SegmentExists { path: PathBuf, segment_id: String, collection: String },
    /// Others go on creating and dropping collections of the same name.
    #[error("collection '{name}' was created and dropped by others again and again")]
    Contended { name: String },
    /// The metadata cannot be read or written.
    #[error("the catalogue")]
    Store(#[from] Error),
    /// A change of the metadata was not answered.
    #[error("nobody knows whether the catalogue was changed, call again to see")]
    Unknown { source: Error },
    /// What is kept cannot be understood.
    #[error("{key} in the metadata")]
    Record { key: String, source: serde_json::Error },
}

impl CatalogueError {
    fn code(&self) -> Code {
        match self {
            Self::Name(_) | Self::Id { .. } | Self::Dimension { .. } | Self::Metric { .. } => Code::InvalidArgument,
            Self::NoSuchName { .. } | Self::NoSuchId { .. } | Self::Dropped { .. } => Code::NotFound,
            Self::CollectionExists { .. } | Self::SegmentExists { .. } => Code::AlreadyExists,
            Self::Contended { .. } => Code::Aborted,
            Self::Store(source) | Self::Unknown { source } => source.code(),
            Self::Record { .. } => Code::DataLoss,
        }
    }

    /// What is there already, for programs.
    fn details(&self) -> Option<ErrorDetails> {
        let (reason, pairs) = match self {
            Self::CollectionExists { existing } => (
                "COLLECTION_EXISTS",
                vec![
                    ("collection_id", existing.collection_id.to_string()),
                    ("collection_name", existing.collection_name.clone()),
                    ("dimension", existing.dimension.to_string()),
                    ("metric_type", existing.metric_type().as_str_name().to_owned()),
                ],
            ),
            Self::SegmentExists { segment_id, collection, .. } => {
                ("SEGMENT_EXISTS", vec![("segment_id", segment_id.clone()), ("collection_name", collection.clone())])
            }
            _ => return None,
        };
        let pairs: HashMap<_, _> = pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Some(ErrorDetails::with_error_info(reason, DOMAIN, pairs))
    }
}

impl From<CatalogueError> for Status {
    fn from(error: CatalogueError) -> Self {
        let text = chain(&error);
        // The host's reason goes along, so that a caller sees why.
        if let CatalogueError::Store(source) | CatalogueError::Unknown { source } = &error
            && let Some(reason) = source.reason()
        {
            return Error::new(source.code(), text).with_reason(reason).into();
        }
        match error.details() {
            Some(details) => Self::with_error_details(error.code(), text, details),
            None => Self::new(error.code(), text),
        }
    }
}
