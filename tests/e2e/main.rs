//! Tests of what has a socket, a file or a process.

mod admin;
