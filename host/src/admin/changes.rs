//! What changes the host: `POST /api/v1/components/{role}/swap` and `…/restart`, over the Unix socket alone.
//!
//! Over TCP the same paths say where to ask ([`elsewhere`]): there nobody is asked who they are. A swap is answered with a
//! line of JSON for each change of it, until its outcome; it goes on where nobody reads. What is asked for is done by a
//! [`Control`].

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use http::header::{ALLOW, CONTENT_TYPE};
use http_body_util::LengthLimitError;
use plugin_api::error::chain;
use plugin_api::identity::{InvalidRole, Role};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::control::{Control, ControlError, Restarted};
use crate::swap::{Order, SwapView};

const SWAP: &str = "/api/v1/components/{role}/swap";
const RESTART: &str = "/api/v1/components/{role}/restart";

/// The longest path has 4 KiB, and JSON may need six characters for one of its bytes.
const LARGEST_ORDER: usize = 32 * 1024;

/// How long an order may take to come, as with the head of a request.
const ORDER_TIMEOUT: Duration = Duration::from_secs(10);

/// Who makes the changes, and when there are no more.
#[derive(Clone)]
struct Changes {
    control: Arc<dyn Control>,
    shutdown: CancellationToken,
}

/// Why a change was not begun.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Role(#[from] InvalidRole),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("the order did not come within {}", humantime::format_duration(*.0))]
    Late(Duration),
    #[error("an order has {LARGEST_ORDER} bytes at most")]
    Large,
    #[error("the order broke off")]
    Broken(#[source] axum::Error),
    #[error("the order cannot be understood")]
    Order(#[source] serde_json::Error),
    #[error("the host stops")]
    Stopping,
}

/// The changes, for a socket that only the host's user can open.
pub(super) fn router(control: Arc<dyn Control>, shutdown: CancellationToken) -> Router {
    let only_post = || async { (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "POST")], "this is asked for with POST\n") };
    Router::new()
        .route(SWAP, post(swap).fallback(only_post))
        .route(RESTART, post(restart).fallback(only_post))
        .with_state(Changes { control, shutdown })
}

/// What says over TCP where the changes are asked for.
pub(super) fn elsewhere() -> Router {
    // A resource that allows no method has an empty `Allow` (RFC 9110, 10.2.1).
    let refused = || async {
        let text = "nothing is changed over TCP: ask over the admin socket of this host, as `componenthost swap` and \
                    `componenthost restart` do\n";
        (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "")], text)
    };
    Router::new().route(SWAP, any(refused)).route(RESTART, any(refused))
}

async fn swap(
    State(Changes { control, shutdown }): State<Changes>,
    Path(role): Path<String>,
    body: Body,
) -> Result<Response, Refused> {
    let role = Role::new(role)?;
    let swap = control.swap(&role, read_order(body, ORDER_TIMEOUT).await?)?;
    let lines = futures_util::stream::unfold(Lines::new(swap, shutdown), Lines::next);
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

async fn restart(
    State(Changes { control, shutdown }): State<Changes>,
    Path(role): Path<String>,
) -> Result<Json<Restarted>, Refused> {
    let role = Role::new(role)?;
    tokio::select! {
        biased;
        restarted = control.restart(&role) => Ok(Json(restarted?)),
        () = shutdown.cancelled() => Err(Refused::Stopping),
    }
}

async fn read_order(body: Body, limit: Duration) -> Result<Order, Refused> {
    let body = tokio::time::timeout(limit, to_bytes(body, LARGEST_ORDER)).await.map_err(|_| Refused::Late(limit))?;
    let body = body.map_err(|error| match std::error::Error::source(&error) {
        Some(source) if source.is::<LengthLimitError>() => Refused::Large,
        _ => Refused::Broken(error),
    })?;
    serde_json::from_slice(&body).map_err(Refused::Order)
}

/// The lines of one swap that were not sent yet.
struct Lines {
    swap: watch::Receiver<SwapView>,
    /// Its outcome was sent.
    over: bool,
    shutdown: CancellationToken,
}

impl Lines {
    fn new(mut swap: watch::Receiver<SwapView>, shutdown: CancellationToken) -> Self {
        // How it stands now is the first line.
        swap.mark_changed();
        Self { swap, over: false, shutdown }
    }

    async fn next(mut self) -> Option<(Result<Bytes, serde_json::Error>, Self)> {
        if self.over {
            return None;
        }
        tokio::select! {
            biased;
            // Where whoever swaps has gone without an outcome, there will be none.
            changed = self.swap.changed() => changed.ok()?,
            // What was told before the stop has gone out.
            () = self.shutdown.cancelled() => return None,
        }
        let view = self.swap.borrow_and_update().clone();
        self.over = view.outcome.is_some();
        Some((serde_json::to_string(&view).map(|line| Bytes::from(line + "\n")), self))
    }
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Role(_) | Self::Control(ControlError::NoSuchRole { .. }) => StatusCode::NOT_FOUND,
            Self::Control(ControlError::NotNow(_)) | Self::Stopping => StatusCode::CONFLICT,
            Self::Late(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Large => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken(_) | Self::Order(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status(), Json(json!({ "error": chain(&self) }))).into_response()
    }
}

#[cfg(test)]
mod tests;
