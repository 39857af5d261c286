//! Numbers that no probe of the role gives out twice: its state.
//!
//! They are given out of a range that is reserved in the metadata, as RootCoord's ids are. A generation goes on with the
//! range of the one before it where it was handed its state; where it was not, it reserves the next one, so that numbers are
//! skipped and none is repeated.

use std::ops::Range;

use plugin_api::error::Error;
use plugin_api::metadata::{Metadata, Transaction};
use tokio::sync::Mutex;
use tonic::Code;

/// Where the first number that is not reserved lies.
const KEY: &str = "count/next";

/// How many are reserved at once: few, so that a test crosses a border often.
const RESERVED: u64 = 100;

/// Who lost so often against another writer has met no other probe of its role.
const TRIES: usize = 20;

/// The numbers of one generation.
#[derive(Default)]
pub struct Counter {
    range: Mutex<Range<u64>>,
}

impl Counter {
    /// The next number.
    pub async fn next(&self, metadata: &Metadata) -> Result<u64, Error> {
        let mut range = self.range.lock().await;
        if range.is_empty() {
            *range = reserve(metadata).await?;
        }
        let next = range.start;
        range.start += 1;
        Ok(next)
    }

    /// What it may still give out.
    pub async fn left(&self) -> Range<u64> {
        self.range.lock().await.clone()
    }

    /// It goes on with this range; an empty one is none.
    pub async fn go_on_with(&self, range: Range<u64>) {
        *self.range.lock().await = range;
    }
}

async fn reserve(metadata: &Metadata) -> Result<Range<u64>, Error> {
    for _ in 0..TRIES {
        let known = metadata.get(KEY).await?;
        let next = known.as_ref().map(|pair| number(&pair.value)).transpose()?.unwrap_or(1);
        let transaction = match &known {
            Some(pair) => Transaction::new().if_unchanged(KEY, pair.mod_revision),
            None => Transaction::new().if_absent(KEY),
        };
        let end = next + RESERVED;
        if metadata.transact(transaction.put(KEY, end.to_string())).await?.succeeded {
            return Ok(next..end);
        }
    }
    Err(Error::new(Code::Aborted, "others reserve numbers all the time"))
}

fn number(value: &[u8]) -> Result<u64, Error> {
    let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    text.ok_or_else(|| Error::new(Code::DataLoss, format!("{KEY} holds no number")))
}
