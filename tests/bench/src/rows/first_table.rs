//! How long the first table of very many sessions takes, compared with the bare list of the same keys.

use std::time::Instant;

use componenthost::discovery::table::Table;
use etcd_client::GetOptions;
use tests::etcd::Etcd;

use super::sessions::{MANY, Sessions, all_stored, keys, role, until_revision};
use crate::row::{Effort, Measuring, Row, Subject, Target, Unit};

/// The subject.
pub const SUBJECT: Subject = Subject {
    name: "first table",
    about: "the first table of 10,000 sessions, to the bare list of their keys",
    measure: |effort| -> Measuring { Box::pin(measure(effort)) },
};

/// More than all sessions have.
const LARGEST_ANSWER: usize = 128 << 20;

async fn measure(effort: Effort) -> Vec<Row> {
    let etcd = Etcd::start().await;
    let sessions = Sessions::of(&etcd, MANY).await;
    let rounds = effort.pick(10, 40);
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        // Whoever comes second finds the caches warm: each does so as often.
        let pair = if round % 2 == 0 {
            let ours = first_table(&sessions).await;
            (ours, bare_list(&sessions).await)
        } else {
            let baseline = bare_list(&sessions).await;
            (first_table(&sessions).await, baseline)
        };
        if round > 0 {
            pairs.push(pair);
        }
    }
    let counts = format!("{rounds} pairs of {MANY} sessions, one pair of warm-up");
    vec![
        Row::compared("first table", Unit::Seconds, &pairs, Target::RatioAtMost(2.0), counts.clone()),
        Row::alone("first table: the table alone", Unit::Seconds, &table_alone(rounds), Target::None, counts),
    ]
}

/// What reading the values and making the table takes, without any etcd.
fn table_alone(rounds: usize) -> Vec<f64> {
    let all = all_stored(MANY);
    let measure = |_| {
        let mut table = Table::new(role(), keys());
        let begin = Instant::now();
        table.replace(&all, 1, begin);
        begin.elapsed().as_secs_f64()
    };
    (0..=rounds).map(measure).skip(1).collect()
}

/// Seconds until the first table of a new discovery.
pub async fn first_table(sessions: &Sessions) -> f64 {
    let begin = Instant::now();
    let (discovery, mut table) = sessions.follow();
    until_revision(&mut table, 1).await;
    let took = begin.elapsed();
    assert_eq!(table.borrow().sessions.size(), sessions.count());
    discovery.stop().await;
    took.as_secs_f64()
}

/// Seconds for the list of their keys.
pub async fn bare_list(sessions: &Sessions) -> f64 {
    let mut client = sessions.client.kv_client().max_decoding_message_size(LARGEST_ANSWER);
    let begin = Instant::now();
    let answer = client.get(sessions.prefix(), Some(GetOptions::new().with_prefix())).await.expect("etcd lists");
    let took = begin.elapsed();
    assert_eq!(answer.kvs().len(), sessions.count());
    took.as_secs_f64()
}
