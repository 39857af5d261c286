//! What happens in a host, as it tells it: server-sent events.

use serde_json::Value;

use crate::cli::host::{Answer, HostError, RunningHost};

/// What happens from now on.
pub(super) struct Events(Answer);

/// One event.
pub(super) struct Event {
    /// What of.
    pub kind: String,
    /// What.
    pub data: Value,
}

impl Events {
    /// Begins to read.
    pub async fn read(host: &RunningHost) -> Result<Self, HostError> {
        Ok(Self(host.follow("/api/v1/events").await?))
    }

    /// The next one; none once the host has ended.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.0.until(b"\n\n").await.ok()??;
            if let Some(event) = parse(&String::from_utf8_lossy(&event)) {
                return Some(event);
            }
        }
    }
}

/// One event of a stream; none for a comment.
fn parse(text: &str) -> Option<Event> {
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        lines.next().map(str::trim_start)
    };
    let data = serde_json::from_str(field("data")?).ok()?;
    Some(Event { kind: field("event")?.to_owned(), data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_events() {
        assert!(parse(":\n\n").is_none());
        let event = parse("retry:1000\nid: a-1\nevent: peer\ndata: {\"a\":\"b: c\"}\n\n").expect("an event");
        assert_eq!((event.kind.as_str(), event.data["a"].as_str()), ("peer", Some("b: c")));
    }
}
