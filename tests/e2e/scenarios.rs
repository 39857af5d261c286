//! Recovery: what has to hold while hosts, etcd and the ways between them fail again and again, after faults that Milvus had.
//!
//! Each test is a row of one table, which is printed at the end of `tests/run` and line by line by the tests. Moments and
//! choices come by chance from a seed, which each row shows: `SCENARIO_SEED=… tests/run scenarios` gives the same again. The
//! faults go on for some seconds here, and with `FULL=1` for as long as they did in the reports. Beside each runs
//! [`tests::truth`]. Latencies count from a bare watcher's receipt of the event.

mod black_holes;
mod caller;
mod calls;
mod compacted;
mod cut;
mod isolation;
mod killed;
mod outage;
mod refused;
mod replaced;
mod row;
mod scaled;
mod searched;
mod stopped;
mod takeover;
mod trap;
