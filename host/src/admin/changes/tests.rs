use std::sync::Mutex;

use async_trait::async_trait;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::admin::{ComponentView, Feed, Past, View, over_socket, over_tcp};
use crate::metrics::Family;
use crate::swap::{Outcome, Phase, StateMode};

const QUERYNODE: &str = "/api/v1/components/querynode/swap";

/// A host with a querynode, which does what a test says.
struct Fake {
    swap: watch::Sender<SwapView>,
    asked: Mutex<Vec<Order>>,
    not_now: bool,
    /// A restart does not end.
    restarts_for_ever: bool,
}

#[async_trait]
impl Control for Fake {
    fn swap(&self, role: &Role, order: Order) -> Result<watch::Receiver<SwapView>, ControlError> {
        self.allow(role)?;
        self.asked.lock().expect("no test panics with it").push(order);
        Ok(self.swap.subscribe())
    }

    async fn restart(&self, role: &Role) -> Result<Restarted, ControlError> {
        self.allow(role)?;
        if self.restarts_for_ever {
            std::future::pending().await
        }
        Ok(Restarted { state_code: "Healthy".to_owned(), detail: "healthy".to_owned(), started: true })
    }
}

impl Fake {
    fn new() -> Self {
        Self { swap: watch::Sender::new(waiting()), asked: Mutex::default(), not_now: false, restarts_for_ever: false }
    }

    fn allow(&self, role: &Role) -> Result<(), ControlError> {
        if self.not_now {
            return Err(ControlError::NotNow("the host stops".to_owned()));
        }
        if role.as_str() == "querynode" {
            return Ok(());
        }
        Err(ControlError::NoSuchRole { role: role.clone(), roles: vec!["querynode".to_owned()] })
    }
}

impl View for Fake {
    fn components(&self) -> Vec<ComponentView> {
        Vec::new()
    }

    fn connections(&self, _: Past) -> Value {
        Value::Null
    }

    fn measured(&self) -> Vec<Family> {
        Vec::new()
    }

    fn feed(&self) -> &Feed {
        unreachable!("nobody asks for events")
    }
}

fn waiting() -> SwapView {
    SwapView {
        number: 1,
        order: order(),
        asked_at_ms: 0,
        from: 1,
        to: None,
        phase: Some(Phase::Wait),
        phases: Vec::new(),
        outcome: None,
        passing: false,
        reason: String::new(),
    }
}

fn order() -> Order {
    Order { plugin: "/p/libquerynode.so".to_owned(), state: StateMode::Keep, probation: None }
}

/// The routes of the socket, and what ends its answers.
fn socket(fake: &Arc<Fake>) -> (Router, CancellationToken) {
    let shutdown = CancellationToken::new();
    (over_socket(fake.clone(), fake.clone(), shutdown.clone()), shutdown)
}

async fn ask(routes: &Router, method: Method, path: &str, body: impl Into<Body>) -> (u16, HeaderMap, Body) {
    let request = Request::builder().method(method).uri(path).body(body.into()).expect("a request");
    let (head, body) = routes.clone().oneshot(request).await.expect("an answer").into_parts();
    (head.status.as_u16(), head.headers, body)
}

async fn text(body: Body) -> String {
    String::from_utf8(body.collect().await.expect("a body").to_bytes().to_vec()).expect("UTF-8")
}

/// Status and error of an order that is refused.
async fn refusal(fake: Fake, path: &str, order: impl Into<Body>) -> (u16, String) {
    let (status, _, body) = ask(&socket(&Arc::new(fake)).0, Method::POST, path, order).await;
    let body: Value = serde_json::from_str(&text(body).await).expect("JSON");
    (status, body["error"].as_str().expect("a text").to_owned())
}

async fn line(body: &mut Body) -> Option<SwapView> {
    let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.expect("a line or the end");
    let line = frame?.expect("no error").into_data().expect("data");
    assert!(line.ends_with(b"\n"), "{line:?}");
    Some(serde_json::from_slice(&line).expect("a swap"))
}

#[tokio::test]
async fn each_change_of_a_swap_is_a_line_until_its_outcome() {
    let fake = Arc::new(Fake::new());
    let (routes, _shutdown) = socket(&fake);
    let (status, headers, mut body) =
        ask(&routes, Method::POST, QUERYNODE, r#"{"plugin": "/p/libquerynode.so"}"#).await;
    assert_eq!((status, &headers[CONTENT_TYPE]), (200, &"application/x-ndjson".parse().expect("a value")));
    assert_eq!(*fake.asked.lock().expect("no test panics with it"), [order()], "keep, and what is configured");

    assert_eq!(line(&mut body).await, Some(waiting()), "how it stands, at once");
    fake.swap.send_modify(|swap| swap.phase = Some(Phase::Gate));
    assert_eq!(line(&mut body).await.and_then(|swap| swap.phase), Some(Phase::Gate));
    fake.swap.send_modify(|swap| swap.outcome = Some(Outcome::Refused));
    assert_eq!(line(&mut body).await.and_then(|swap| swap.outcome), Some(Outcome::Refused));
    assert_eq!(line(&mut body).await, None, "the outcome is the last line");
}

#[tokio::test]
async fn the_stop_ends_an_answer_behind_what_was_told_before_it() {
    let fake = Arc::new(Fake::new());
    let (routes, shutdown) = socket(&fake);
    let (_, _, mut body) = ask(&routes, Method::POST, QUERYNODE, serde_json::to_string(&order()).expect("JSON")).await;
    shutdown.cancel();
    assert_eq!(line(&mut body).await, Some(waiting()));
    assert_eq!(line(&mut body).await, None);
}

#[tokio::test]
async fn a_swap_that_nobody_makes_any_longer_has_no_more_lines() {
    let fake = Arc::new(Fake::new());
    let (routes, _shutdown) = socket(&fake);
    let (_, _, mut body) = ask(&routes, Method::POST, QUERYNODE, serde_json::to_string(&order()).expect("JSON")).await;
    drop(routes);
    drop(fake);
    assert_eq!(line(&mut body).await, Some(waiting()));
    assert_eq!(line(&mut body).await, None);
}

#[tokio::test]
async fn an_order_that_cannot_be_understood_changes_nothing() {
    let orders = ["", "{", "null", "[]", "{}", r#"{"plugin": 7}"#, r#"{"plugin": "a", "stat": "keep"}"#];
    let orders =
        orders.into_iter().chain([r#"{"plugin": "a", "state": "all"}"#, r#"{"plugin": "a", "probation": "x"}"#]);
    for order in orders {
        let (status, error) = refusal(Fake::new(), QUERYNODE, order).await;
        assert!(status == 400 && error.starts_with("the order cannot be understood: "), "{order}: {status} {error}");
    }
    let (status, error) = refusal(Fake::new(), QUERYNODE, vec![b' '; LARGEST_ORDER + 1]).await;
    assert!(status == 413 && error.contains("32768"), "{status} {error}");
    let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
    assert_eq!(refusal(Fake::new(), QUERYNODE, Body::from_stream(broken)).await.0, 400);
}

#[tokio::test]
async fn an_order_that_does_not_come_is_not_waited_for() {
    let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let refused = read_order(never, Duration::from_millis(1)).await.expect_err("it never comes");
    assert!(refused.status() == 408 && refused.to_string().contains("1ms"), "{refused}");
}

#[tokio::test]
async fn what_control_refuses_has_its_status() {
    let order = serde_json::to_string(&order()).expect("JSON");
    for change in ["swap", "restart"] {
        let path = |role: &str| format!("/api/v1/components/{role}/{change}");
        let (status, error) = refusal(Fake::new(), &path("rootcoord"), order.clone()).await;
        assert!(status == 404 && error.contains("it has querynode"), "{status} {error}");
        let (status, error) = refusal(Fake::new(), &path("QueryNode"), order.clone()).await;
        assert!(status == 404 && error.contains("'QueryNode' is no role"), "{status} {error}");
        let not_now = refusal(Fake { not_now: true, ..Fake::new() }, &path("querynode"), order.clone()).await;
        assert_eq!(not_now, (409, "the host stops".to_owned()));
    }
}

#[tokio::test]
async fn a_restart_answers_what_came_of_it() {
    let (routes, _shutdown) = socket(&Arc::new(Fake::new()));
    let (status, _, body) = ask(&routes, Method::POST, "/api/v1/components/querynode/restart", "").await;
    let restarted: Restarted = serde_json::from_str(&text(body).await).expect("what came of it");
    assert_eq!((status, restarted.started), (200, true));
}

#[tokio::test]
async fn a_restart_that_does_not_end_is_not_waited_for_at_the_stop() {
    let (routes, shutdown) = socket(&Arc::new(Fake { restarts_for_ever: true, ..Fake::new() }));
    shutdown.cancel();
    let (status, _, body) = ask(&routes, Method::POST, "/api/v1/components/querynode/restart", "").await;
    assert!(status == 409 && text(body).await.contains("the host stops"), "{status}");
}

#[tokio::test]
async fn nothing_changes_over_tcp_nor_with_another_method() {
    let fake = Arc::new(Fake::new());
    let (over_socket, shutdown) = socket(&fake);
    let over_tcp = over_tcp(fake.clone(), shutdown);
    for path in [QUERYNODE, "/api/v1/components/querynode/restart"] {
        for method in [Method::POST, Method::PUT, Method::GET] {
            let (status, headers, body) = ask(&over_tcp, method.clone(), path, "{}").await;
            assert!(status == 405 && text(body).await.contains("admin socket"), "{method} {path}");
            assert!(headers[ALLOW].is_empty(), "{headers:?}");
        }
        for method in [Method::PUT, Method::GET, Method::DELETE] {
            let (status, headers, _) = ask(&over_socket, method.clone(), path, "{}").await;
            assert_eq!((status, &headers[ALLOW]), (405, &"POST".parse().expect("a value")), "{method} {path}");
        }
    }
    for routes in [&over_tcp, &over_socket] {
        assert_eq!(ask(routes, Method::POST, "/api/v1/components/querynode", "{}").await.0, 405);
        assert_eq!(ask(routes, Method::GET, "/livez", "").await.0, 200);
    }
    assert_eq!(*fake.asked.lock().expect("no test panics with it"), [], "nothing was asked for");
}
