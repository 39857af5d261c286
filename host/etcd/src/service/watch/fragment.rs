//! Large answers in pieces, for clients that want that: no piece is larger than the largest request, unless one event is.

use etcd_client::proto::PbWatchResponse;
use prost::Message;

use crate::service::check::MAX_REQUEST_BYTES;

/// The answer, whole or in pieces.
pub(super) fn fragments(answer: PbWatchResponse, wanted: bool) -> Vec<PbWatchResponse> {
    if !wanted || answer.events.len() < 2 || answer.encoded_len() < MAX_REQUEST_BYTES {
        return vec![answer];
    }
    let PbWatchResponse { events, .. } = answer.clone();
    let empty = PbWatchResponse { events: Vec::new(), fragment: true, ..answer };
    let own = empty.encoded_len();
    let mut pieces = vec![empty.clone()];
    let mut size = own;
    for event in events {
        let bytes = event.encoded_len();
        // Its tag and its length go with it.
        let bytes = bytes + 1 + prost::length_delimiter_len(bytes);
        if size + bytes >= MAX_REQUEST_BYTES && pieces.last().is_some_and(|piece| !piece.events.is_empty()) {
            pieces.push(empty.clone());
            size = own;
        }
        size += bytes;
        if let Some(piece) = pieces.last_mut() {
            piece.events.push(event);
        }
    }
    if let Some(last) = pieces.last_mut() {
        last.fragment = false;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::{PbEvent, PbKeyValue};

    use super::*;

    fn answer(values: &[usize]) -> PbWatchResponse {
        let event = |size: &usize| {
            let kv = PbKeyValue { value: vec![7; *size], ..PbKeyValue::default() };
            PbEvent { kv: Some(kv), ..PbEvent::default() }
        };
        PbWatchResponse { events: values.iter().map(event).collect(), ..PbWatchResponse::default() }
    }

    #[test]
    fn large_answers_are_cut_between_events_and_only_where_that_is_wanted() {
        const MIB: usize = 1 << 20;
        let counts = |values: &[usize], wanted| {
            let pieces = fragments(answer(values), wanted);
            pieces.iter().map(|piece| (piece.events.len(), piece.fragment)).collect::<Vec<_>>()
        };
        assert_eq!(counts(&[MIB, MIB, MIB], false), [(3, false)]);
        assert_eq!(counts(&[MIB, MIB, MIB], true), [(1, true), (1, true), (1, false)]);
        assert_eq!(counts(&[MIB, 1, 2 * MIB], true), [(2, true), (1, false)]);
        assert_eq!(counts(&[2 * MIB], true), [(1, false)]);
    }
}
