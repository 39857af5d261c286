//! Reads of keys: at a revision, filtered, sorted and cut as etcd does.

use std::cmp::Ordering;
use std::sync::Arc;

use etcd_client::proto::{PbKeyValue, PbRangeRequest, PbRangeResponse};

use super::header;
use crate::refusal::Refusal;
use crate::store::{Interval, Store};

/// Values of `sort_order`; the crate of the client does not name them.
const NONE: i32 = 0;
const DESCEND: i32 = 2;

/// The value of `sort_target` that is the order of the store itself.
const KEY: i32 = 0;

/// Answers a read whose present is this revision, where revisions before `compacted` are gone.
///
/// # Errors
///
/// The revision that it wants is gone, or to come.
pub fn range(store: &Store, request: PbRangeRequest, present: i64, compacted: i64) -> Result<PbRangeResponse, Refusal> {
    if request.revision > present {
        return Err(Refusal::FutureRevision);
    }
    let revision = if request.revision <= 0 { present } else { request.revision };
    if revision < compacted {
        return Err(Refusal::Compacted);
    }
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let options = Options::of(&request);
    let interval = Interval::new(request.key, request.range_end);
    let mut found = store.range(&interval, revision);
    let (kvs, count, more) = if request.count_only {
        (Vec::new(), found.count(), false)
    } else {
        // What is sorted or filtered is read as a whole. Where a target is named and no order, etcd cuts before it sorts.
        let reads = limit.filter(|_| !options.reads_all()).map_or(usize::MAX, |limit| limit + 1);
        let mut kvs: Vec<_> = found.by_ref().take(reads).collect();
        let count = kvs.len() + found.count();
        options.apply(&mut kvs)?;
        let more = limit.is_some_and(|limit| kvs.len() > limit);
        kvs.truncate(limit.unwrap_or(usize::MAX));
        (kvs, count, more)
    };
    let kvs = kvs.into_iter().map(|kv| shown(kv, request.keys_only)).collect();
    let count = i64::try_from(count).expect("memory holds fewer keys");
    Ok(PbRangeResponse { header: header(present), kvs, more, count })
}

fn shown(kv: &Arc<PbKeyValue>, keys_only: bool) -> PbKeyValue {
    if !keys_only {
        return (**kv).clone();
    }
    let PbKeyValue { create_revision, mod_revision, version, lease, .. } = **kv;
    PbKeyValue { key: kv.key.clone(), value: Vec::new(), create_revision, mod_revision, version, lease }
}

/// What of a request goes beyond the keys.
struct Options {
    order: i32,
    target: i32,
    min_mod: i64,
    max_mod: i64,
    min_create: i64,
    max_create: i64,
}

impl Options {
    fn of(request: &PbRangeRequest) -> Self {
        Self {
            order: request.sort_order,
            target: request.sort_target,
            min_mod: request.min_mod_revision,
            max_mod: request.max_mod_revision,
            min_create: request.min_create_revision,
            max_create: request.max_create_revision,
        }
    }

    fn filters(&self) -> bool {
        [self.min_mod, self.max_mod, self.min_create, self.max_create].iter().any(|bound| *bound != 0)
    }

    fn reads_all(&self) -> bool {
        self.order != NONE || self.filters()
    }

    fn apply(&self, kvs: &mut Vec<&Arc<PbKeyValue>>) -> Result<(), Refusal> {
        let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
        if self.filters() {
            kvs.retain(|kv| {
                within(kv.mod_revision, self.min_mod, self.max_mod)
                    && within(kv.create_revision, self.min_create, self.max_create)
            });
        }
        // What is no order is none; and what is to be sorted by no order by anything but its name, is sorted all the same.
        if (self.order == NONE && self.target == KEY) || !(NONE..=DESCEND).contains(&self.order) {
            return Ok(());
        }
        let by: fn(&PbKeyValue, &PbKeyValue) -> Ordering = match self.target {
            0 => |a, b| a.key.cmp(&b.key),
            1 => |a, b| a.version.cmp(&b.version),
            2 => |a, b| a.create_revision.cmp(&b.create_revision),
            3 => |a, b| a.mod_revision.cmp(&b.mod_revision),
            4 => |a, b| a.value.cmp(&b.value),
            _ => return Err(Refusal::InvalidSortOption),
        };
        if self.order == DESCEND {
            kvs.sort_by(|a, b| by(b, a));
        } else {
            kvs.sort_by(|a, b| by(a, b));
        }
        Ok(())
    }
}
