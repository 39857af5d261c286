//! The line of a call that was served: at level debug, under a target of its own, so that it can be switched on alone with
//! `telemetry.log = "info,componenthost::calls=debug"`.

use std::time::Instant;

use http::HeaderMap;
use plugin_api::identity::Role;
use plugin_api::trace::{SpanId, TraceContext, TraceId};
use tonic::{Code, Status};
use tracing::Level;

const TARGET: &str = "componenthost::calls";

/// A call that is being served; it is logged when this is dropped. Costs nothing where nobody wants the line.
#[derive(Default)]
pub(super) struct CallLog(Option<Box<Line>>);

struct Line {
    role: Role,
    method: String,
    trace_id: TraceId,
    span_id: SpanId,
    parent_span_id: Option<SpanId>,
    began: Instant,
    /// None where the caller has gone before the end.
    status: Option<Code>,
}

impl CallLog {
    /// Begins with the place of the call in its trace, and where it was made.
    pub fn begin(role: &Role, path: &str, trace: &TraceContext, parent: Option<&TraceContext>) -> Self {
        Self(tracing::enabled!(target: TARGET, Level::DEBUG).then(|| {
            Box::new(Line {
                role: role.clone(),
                method: path.trim_start_matches('/').to_owned(),
                trace_id: trace.trace_id,
                span_id: trace.span_id,
                parent_span_id: parent.map(|parent| parent.span_id),
                began: Instant::now(),
                status: None,
            })
        }))
    }

    /// The call ends so.
    pub fn status(&mut self, status: &Status) {
        if let Some(line) = &mut self.0 {
            line.status = Some(status.code());
        }
    }

    /// The call ends as these headers or trailers say, if they do.
    pub fn head(&mut self, headers: &HeaderMap) {
        if let Some(line) = &mut self.0
            && let Some(code) = headers.get(Status::GRPC_STATUS)
        {
            line.status = Some(Code::from_bytes(code.as_bytes()));
        }
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        let Some(Line { role, method, trace_id, span_id, parent_span_id, began, status }) =
            self.0.take().map(|line| *line)
        else {
            return;
        };
        let status = status.unwrap_or(Code::Cancelled);
        tracing::debug!(
            target: TARGET,
            %role,
            method,
            %trace_id,
            %span_id,
            parent_span_id = parent_span_id.map(display),
            ?status,
            took_us = began.elapsed().as_micros(),
            "served"
        );
    }
}
