//! What a call asks to be loaded, checked, and completed by what RootCoord knows.

use std::collections::HashMap;

use proto::batch::MAX_DIMENSION;
use proto::querynode::v1::LoadSegmentsRequest;
use proto::rootcoord::v1::{CollectionInfo, MetricType, SegmentInfo};
use tonic::Status;

use crate::catalogue::Catalogue;

/// Segments of one collection, each once, in the order of their ids; at least one.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) collection: CollectionInfo,
    pub(crate) segments: Vec<SegmentInfo>,
}

impl Wanted {
    /// What this call asks for.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` where the call contradicts itself, `NOT_FOUND` where RootCoord does not know what it names, and
    /// whatever else RootCoord answers.
    pub(crate) async fn of(request: LoadSegmentsRequest, catalogue: &impl Catalogue) -> Result<Self, Status> {
        let LoadSegmentsRequest { collection_id, collection, segments } = request;
        let segments = each_once(segments)?;
        if let Some(collection) = &collection {
            check(collection_id, collection)?;
        } else if collection_id == 0 {
            return Err(Status::invalid_argument("collection_id is missing, and so is collection"));
        }
        let collection = match collection {
            Some(collection) => collection,
            None => {
                let collection = catalogue.collection(collection_id).await?;
                check(collection_id, &collection)?;
                collection
            }
        };
        let segments = completed(collection.collection_id, segments, catalogue).await?;
        Ok(Self { collection, segments })
    }
}

fn check(collection_id: i64, collection: &CollectionInfo) -> Result<(), Status> {
    let id = collection.collection_id;
    let text = if collection_id != 0 && collection_id != id {
        format!("collection_id is {collection_id}, and the collection's own is {id}")
    } else if !(1..=MAX_DIMENSION).contains(&collection.dimension) {
        format!("collection {id}: dimension is {}, has to be 1 to {MAX_DIMENSION}", collection.dimension)
    } else if collection.metric_type() == MetricType::MetricUnspecified {
        format!("collection {id}: metric_type is {}, has to be L2, IP or COSINE", collection.metric_type)
    } else {
        return Ok(());
    };
    Err(Status::invalid_argument(text))
}

fn each_once(mut segments: Vec<SegmentInfo>) -> Result<Vec<SegmentInfo>, Status> {
    if segments.is_empty() {
        return Err(Status::invalid_argument("segments is empty"));
    }
    segments.sort_by_key(|info| info.segment_id);
    let contradict = |pair: &&[SegmentInfo]| pair[0].segment_id == pair[1].segment_id && pair[0] != pair[1];
    if let Some(pair) = segments.windows(2).find(contradict) {
        let (id, one, other) = (pair[0].segment_id, describe(&pair[0]), describe(&pair[1]));
        return Err(Status::invalid_argument(format!("segment {id} is in the call twice: {one}, and {other}")));
    }
    segments.dedup();
    Ok(segments)
}

/// What a segment is made of, for people.
pub(crate) fn describe(info: &SegmentInfo) -> String {
    let SegmentInfo { path, num_rows, first_id, collection_id, .. } = info;
    format!("'{path}' of collection {collection_id} with {num_rows} rows from id {first_id}")
}

/// The segments, those without a path as RootCoord has them.
async fn completed(
    collection_id: i64,
    segments: Vec<SegmentInfo>,
    catalogue: &impl Catalogue,
) -> Result<Vec<SegmentInfo>, Status> {
    let mut known = HashMap::new();
    if segments.iter().any(|info| info.path.is_empty()) {
        let all = catalogue.segments(collection_id).await?;
        known.extend(all.into_iter().map(|info| (info.segment_id, info)));
    }
    let complete = |info: SegmentInfo| {
        let id = info.segment_id;
        if info.path.is_empty() {
            let found = known.remove(&id);
            return found.ok_or_else(|| Status::not_found(format!("collection {collection_id} has no segment {id}")));
        }
        if info.collection_id != collection_id {
            let text = format!("segment {id}: collection_id is {}, has to be {collection_id}", info.collection_id);
            return Err(Status::invalid_argument(text));
        }
        if info.num_rows == 0 {
            return Err(Status::invalid_argument(format!("segment {id}: num_rows is 0, has to be at least 1")));
        }
        Ok(info)
    };
    segments.into_iter().map(complete).collect()
}

#[cfg(test)]
mod tests {
    use plugin_api::async_trait;
    use tonic::Code;

    use super::*;

    /// RootCoord with collection 5 and its segment 8.
    struct Fake;

    #[async_trait]
    impl Catalogue for Fake {
        async fn collection(&self, collection_id: i64) -> Result<CollectionInfo, Status> {
            if collection_id == 5 { Ok(collection()) } else { Err(Status::not_found("no such collection")) }
        }

        async fn segments(&self, _: i64) -> Result<Vec<SegmentInfo>, Status> {
            Ok(vec![info(8)])
        }
    }

    fn collection() -> CollectionInfo {
        let metric_type = MetricType::L2.into();
        CollectionInfo { collection_id: 5, dimension: 2, metric_type, ..CollectionInfo::default() }
    }

    fn info(segment_id: i64) -> SegmentInfo {
        SegmentInfo { segment_id, collection_id: 5, path: "file".to_owned(), num_rows: 3, first_id: 100 }
    }

    async fn wanted(
        collection: Option<CollectionInfo>,
        segments: Vec<SegmentInfo>,
    ) -> Result<Vec<SegmentInfo>, Status> {
        let request = LoadSegmentsRequest { collection_id: 5, collection, segments };
        Ok(Wanted::of(request, &Fake).await?.segments)
    }

    #[tokio::test]
    async fn each_segment_is_wanted_once_and_what_is_not_said_rootcoord_is_asked_for() {
        let bare = SegmentInfo { segment_id: 8, ..SegmentInfo::default() };
        assert_eq!(wanted(None, vec![bare.clone(), bare]).await.unwrap(), [info(8)]);
        assert_eq!(wanted(Some(collection()), vec![info(9), info(7), info(9)]).await.unwrap(), [info(7), info(9)]);
    }

    #[tokio::test]
    async fn a_call_that_contradicts_itself_is_refused_with_where() {
        let collection = |change: fn(&mut CollectionInfo)| {
            let mut collection = collection();
            change(&mut collection);
            Some(collection)
        };
        let segments = |change: fn(&mut SegmentInfo)| {
            let mut other = info(7);
            change(&mut other);
            vec![info(7), info(8), other]
        };
        let (whole, same) = (collection(|_| ()), segments(|_| ()));
        let cases = [
            (collection(|it| it.collection_id = 6), same.clone(), "collection_id is 5, and the collection's own is 6"),
            (collection(|it| it.dimension = 0), same.clone(), "dimension is 0, has to be 1 to 32768"),
            (collection(|it| it.dimension = 40_000), same.clone(), "dimension is 40000"),
            (collection(|it| it.metric_type = 0), same.clone(), "metric_type is 0, has to be L2, IP or COSINE"),
            (collection(|it| it.metric_type = 77), same, "metric_type is 77"),
            (whole.clone(), vec![], "segments is empty"),
            (whole.clone(), segments(|it| it.path = "x".to_owned()), "segment 7 is in the call twice: 'file' of"),
            (whole.clone(), segments(|it| it.first_id = 1), "with 3 rows from id 100, and 'file' of collection 5 with"),
            (whole.clone(), vec![SegmentInfo { collection_id: 6, ..info(7) }], "segment 7: collection_id is 6"),
            (whole, vec![SegmentInfo { num_rows: 0, ..info(7) }], "segment 7: num_rows is 0"),
        ];
        for (collection, segments, text) in cases {
            let error = wanted(collection, segments).await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
            assert!(error.message().contains(text), "{error}");
        }
        let nothing =
            Wanted::of(LoadSegmentsRequest { segments: vec![info(7)], ..LoadSegmentsRequest::default() }, &Fake);
        assert_eq!(nothing.await.unwrap_err().code(), Code::InvalidArgument);
    }

    #[tokio::test]
    async fn what_rootcoord_does_not_know_is_not_found() {
        let bare = SegmentInfo { segment_id: 9, ..SegmentInfo::default() };
        let error = wanted(None, vec![info(7), bare]).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::NotFound, "collection 5 has no segment 9"));
        let request = LoadSegmentsRequest { collection_id: 6, collection: None, segments: vec![info(7)] };
        assert_eq!(Wanted::of(request, &Fake).await.unwrap_err().code(), Code::NotFound);
    }
}
