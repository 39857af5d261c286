//! Metadata, read and written as a test asks.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use plugin_api::Context;
use plugin_api::error::Error;
use plugin_api::metadata::{KeyValue, MetadataEvent, Range, Transaction};
use tonic::Status;

use crate::v1::{self, MetaResponse, compare, meta_request, write};

/// Does one thing with metadata, and tells how it ended.
pub async fn ask(context: &Context, request: v1::MetaRequest) -> MetaResponse {
    carry_out(context, request).await.unwrap_or_else(|error| MetaResponse {
        code: error.code() as i32,
        message: error.message().to_owned(),
        reason: error.reason().map(|reason| reason.to_string()).unwrap_or_default(),
        ..MetaResponse::default()
    })
}

async fn carry_out(context: &Context, request: v1::MetaRequest) -> Result<MetaResponse, Error> {
    let metadata = context.metadata();
    match request.what {
        None => Ok(MetaResponse::default()),
        Some(meta_request::What::Get(key)) => {
            let entries = metadata.get(&key).await?.into_iter().map(entry).collect();
            Ok(MetaResponse { succeeded: true, entries, ..MetaResponse::default() })
        }
        Some(meta_request::What::Range(prefix)) => {
            let (entries, revision) = range(metadata.range(&prefix).await?);
            Ok(MetaResponse { succeeded: true, entries, revision, ..MetaResponse::default() })
        }
        Some(meta_request::What::Write(write)) => {
            let revision = match write.what {
                Some(write::What::Put(value)) => metadata.put(&write.key, value).await?,
                Some(write::What::Delete(_)) | None => metadata.delete(&write.key).await?,
            };
            Ok(MetaResponse { succeeded: true, revision, ..MetaResponse::default() })
        }
        Some(meta_request::What::Transact(asked)) => {
            let outcome = metadata.transact(transaction(asked)).await?;
            Ok(MetaResponse { succeeded: outcome.succeeded, revision: outcome.revision, ..MetaResponse::default() })
        }
    }
}

/// Follows metadata.
pub fn watch(context: &Context, prefix: &str) -> Result<BoxStream<'static, Result<v1::MetaEvent, Status>>, Status> {
    let events = context.metadata().watch(prefix)?;
    let told = events.map(|event| {
        let (change, entries, revision) = match event {
            MetadataEvent::Table(table) => {
                let (entries, revision) = range(table);
                ("table", entries, revision)
            }
            MetadataEvent::Put(pair) => ("put", vec![entry(pair.clone())], pair.mod_revision),
            MetadataEvent::Delete(key, revision) => {
                ("delete", vec![v1::KeyValue { key, ..v1::KeyValue::default() }], revision)
            }
        };
        Ok(v1::MetaEvent { change: change.to_owned(), entries, revision })
    });
    Ok(told.boxed())
}

fn transaction(asked: v1::Transaction) -> Transaction {
    let mut transaction = Transaction::new();
    for compare in asked.compares {
        transaction = match compare.what {
            Some(compare::What::Unchanged(revision)) => transaction.if_unchanged(compare.key, revision),
            Some(compare::What::Value(value)) => transaction.if_value(compare.key, value),
            Some(compare::What::Absent(_)) | None => transaction.if_absent(compare.key),
        };
    }
    for write in asked.writes {
        transaction = match write.what {
            Some(write::What::Put(value)) => transaction.put(write.key, value),
            Some(write::What::Delete(_)) | None => transaction.delete(write.key),
        };
    }
    transaction
}

fn range(range: Range) -> (Vec<v1::KeyValue>, i64) {
    (range.entries.into_iter().map(entry).collect(), range.revision)
}

fn entry(pair: KeyValue) -> v1::KeyValue {
    v1::KeyValue {
        key: pair.key,
        value: pair.value.to_vec(),
        create_revision: pair.create_revision,
        mod_revision: pair.mod_revision,
    }
}
