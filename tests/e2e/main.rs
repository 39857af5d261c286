//! Tests with a real etcd and real processes: one binary.

mod admin;
mod border;
mod call;
mod calls;
mod config;
mod connections;
mod context;
mod discovery;
mod etcd;
mod fence;
mod gate;
mod metadata;
mod outage;
mod panics;
mod recovery;
mod scenarios;
mod search;
mod seen;
mod session;
mod simulation;
mod standby;
mod startup;
mod static_linking;
mod tidy;
mod tls;
