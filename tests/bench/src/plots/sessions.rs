//! More and more sessions of a role that is followed, beside the bare list of their keys.

use tests::etcd::Etcd;

use super::{Growth, Line, Point, counts};
use crate::interval::median;
use crate::row::Effort;
use crate::rows::first_table::{bare_list, first_table};
use crate::rows::memory::held;
use crate::rows::sessions::Sessions;

/// How many.
const COUNTS: [usize; 6] = [10, 100, 1000, 10_000, 30_000, 100_000];

/// Of so many the median is drawn.
const TIMES: usize = 5;

/// Measures it.
pub async fn measure(effort: Effort) -> Growth {
    let etcd = Etcd::start().await;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for count in counts(&COUNTS, effort) {
        let sessions = Sessions::of(&etcd, *count).await;
        let (mut tables, mut lists) = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            tables.push(first_table(&sessions).await);
            lists.push(bare_list(&sessions).await);
        }
        let count = *count as f64;
        ours.push(Point { count, seconds: median(&tables), bytes: Some(held(&sessions).await) });
        bare.push(Point { count, seconds: median(&lists), bytes: None });
    }
    Growth {
        file: "sessions",
        of: "sessions of a role",
        time: "until the first table",
        memory: "what the table holds",
        lines: vec![Line { name: "table", points: ours }, Line { name: "bare list", points: bare }],
    }
}
