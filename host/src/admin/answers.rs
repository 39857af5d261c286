//! The answers: three for probes, as text, and the rest as JSON.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::ALLOW;
use http::{Method, StatusCode};
use serde_json::json;

use super::guard;
use super::view::View;

const PATHS: &str = "/livez\n/healthz\n/readyz\n/api/v1/components\n/api/v1/components/{role}\n/api/v1/connections\n";

type Answers = State<Arc<dyn View>>;

/// All routes.
pub(super) fn router(view: Arc<dyn View>) -> Router {
    Router::new()
        // The process answers, so it lives.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/api/v1/components", get(components))
        .route("/api/v1/components/{role}", get(component))
        .route("/api/v1/connections", get(connections))
        .fallback(|| async { (StatusCode::NOT_FOUND, format!("there are:\n{PATHS}")) })
        .with_state(view)
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

async fn healthz(State(view): Answers) -> Response {
    verdict(view.components().iter().filter_map(|component| component.unhealthy()).collect())
}

async fn readyz(State(view): Answers) -> Response {
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

async fn components(State(view): Answers) -> Response {
    Json(json!({ "components": view.components() })).into_response()
}

async fn component(State(view): Answers, Path(role): Path<String>) -> Response {
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

async fn connections(State(view): Answers) -> Response {
    Json(view.connections()).into_response()
}
