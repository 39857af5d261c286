//! The answers: three for probes, as text, and the rest as JSON.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::events::events;
use super::guard;
use super::view::{Past, View};
use crate::metrics::{Exposition, expose};

const PATHS: &str = "\
/livez
/healthz
/readyz
/api/v1/components
/api/v1/components/{role}
/api/v1/connections[?events=false]
/api/v1/events
/metrics
and over the admin socket, with POST:
/api/v1/components/{role}/swap
/api/v1/components/{role}/restart
";

/// What all answers are made of.
#[derive(Clone)]
pub(super) struct Answers {
    pub view: Arc<dyn View>,
    /// Ends the answers that have no end of their own.
    pub shutdown: CancellationToken,
}

/// All routes.
pub(super) fn router(answers: Answers) -> Router {
    Router::new()
        // The process answers, so it lives.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/api/v1/components", get(components))
        .route("/api/v1/components/{role}", get(component))
        .route("/api/v1/connections", get(connections))
        .route("/api/v1/events", get(events))
        .route("/metrics", get(metrics))
        .fallback(|| async { (StatusCode::NOT_FOUND, format!("there are:\n{PATHS}")) })
        .with_state(answers)
        .layer(from_fn(only_reading))
}

/// The same for a listener that is bound to `own`, where web pages may try to ask.
pub(super) fn guarded(router: Router, own: SocketAddr) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| admit(own, request, next)))
}

async fn admit(own: SocketAddr, request: Request, next: Next) -> Response {
    match guard::admit(request.uri(), request.headers(), own) {
        Ok(()) => next.run(request).await,
        Err(text) => (StatusCode::FORBIDDEN, format!("{text}\n")).into_response(),
    }
}

async fn only_reading(request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "these answers are read-only: GET and HEAD\n";
        return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")], text).into_response();
    }
    next.run(request).await
}

async fn healthz(State(Answers { view, .. }): State<Answers>) -> Response {
    verdict(view.components().iter().filter_map(|component| component.unhealthy()).collect())
}

async fn readyz(State(Answers { view, .. }): State<Answers>) -> Response {
    verdict(view.components().iter().flat_map(|component| component.unready()).collect())
}

/// 200, or 503 with one line for each thing that is wrong.
fn verdict(wrong: Vec<String>) -> Response {
    if wrong.is_empty() {
        return "ok\n".into_response();
    }
    let lines: String = wrong.iter().map(|line| format!("{line}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn components(State(Answers { view, .. }): State<Answers>) -> Response {
    let mut components = view.components();
    components.iter_mut().for_each(|component| component.swaps.clear());
    Json(json!({ "components": components })).into_response()
}

async fn component(State(Answers { view, .. }): State<Answers>, Path(role): Path<String>) -> Response {
    let components = view.components();
    match components.iter().find(|component| component.role.as_str() == role) {
        Some(component) => Json(component).into_response(),
        None => {
            let roles: Vec<_> = components.iter().map(|component| &component.role).collect();
            let body = json!({ "error": format!("no component of the role {role} in this host"), "roles": roles });
            (StatusCode::NOT_FOUND, Json(body)).into_response()
        }
    }
}

async fn metrics(State(Answers { view, .. }): State<Answers>, headers: HeaderMap) -> Response {
    let accepted: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    match expose(view.measured(), &accepted.join(",")) {
        Ok(Exposition { content_type, text }) => ([(CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// What is asked of the connections.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// With the last events of each peer.
    #[serde(default = "yes")]
    events: bool,
}

fn yes() -> bool {
    true
}

async fn connections(State(Answers { view, .. }): State<Answers>, Query(asked): Query<Asked>) -> Response {
    Json(view.connections(if asked.events { Past::With } else { Past::Without })).into_response()
}
