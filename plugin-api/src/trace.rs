//! W3C's trace context: which trace a call belongs to, and within which span it is made.
//!
//! Read from a call's `traceparent` and `tracestate`, and written to the calls that it leads to. What is not valid is as if
//! it were not there. Collects and exports nothing: the ids are for logs, and for the author's own tracing.
//! <https://www.w3.org/TR/trace-context-2/>

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Trace, span and flags.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What the participants of a trace add to it.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The length of version 00; later versions begin alike.
const LENGTH: usize = 55;
/// The flags that are known: *sampled* and *random trace id*. Others are reserved, and must be written as zero.
const KNOWN_FLAGS: u8 = 0b11;
/// What is carried on at most: as many entries, and for all of them as many characters, as each participant must carry.
const MOST_ENTRIES: usize = 32;
const MOST_STATE: usize = 512;

/// The number of a trace; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TraceId(u128);

/// The number of a span; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SpanId(u64);

/// A place in a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span within which calls are made: their parent.
    pub span_id: SpanId,
    flags: u8,
    state: Option<HeaderValue>,
}

impl TraceContext {
    /// The beginning of a trace.
    pub fn new() -> Self {
        // A number of 64 bits is zero once in 10^19 times.
        let high = u128::from(random());
        let trace_id = TraceId((high << 64 | u128::from(random())).max(1));
        Self { trace_id, span_id: SpanId::new(), flags: 0, state: None }
    }

    /// Where a call says that it was made; `None` where it says nothing, or nothing that is valid.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        // Of two nobody knows which is meant.
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let context: Self = parent.to_str().ok()?.parse().ok()?;
        Some(Self { state: read_state(headers), ..context })
    }

    /// Another span of the same trace, whose parent this one is.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: SpanId::new(), ..self.clone() }
    }

    /// Says where a call is made, in place of whatever its metadata said before.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.remove(TRACESTATE);
        headers.remove(TRACEPARENT);
        if let Ok(value) = HeaderValue::from_bytes(&self.traceparent()) {
            headers.insert(TRACEPARENT, value);
            headers.extend(self.state.clone().map(|state| (TRACESTATE, state)));
        }
    }

    /// As it is written. By hand: each call has one, and the formatter takes several times as long.
    fn traceparent(&self) -> [u8; LENGTH] {
        let mut text = [b'-'; LENGTH];
        write_hex(&mut text[..2], 0);
        write_hex(&mut text[3..35], self.trace_id.0);
        write_hex(&mut text[36..52], self.span_id.0.into());
        write_hex(&mut text[53..], self.flags.into());
        text
    }

    /// Does a call say where it was made?
    pub(crate) fn is_in(headers: &HeaderMap) -> bool {
        headers.contains_key(TRACEPARENT)
    }
}

impl Default for TraceContext {
    fn default() -> Self {
        Self::new()
    }
}

/// As `traceparent` has it.
impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// A `traceparent` that is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no traceparent of W3C's")]
pub struct BadTraceparent;

impl FromStr for TraceContext {
    type Err = BadTraceparent;

    fn from_str(text: &str) -> Result<Self, BadTraceparent> {
        let bytes = text.as_bytes();
        let dashes = [2, 35, 52].iter().all(|place| bytes.get(*place) == Some(&b'-'));
        let version = hex(text, 0, 2).ok_or(BadTraceparent)?;
        let length = match version {
            0 => bytes.len() == LENGTH,
            // A later version may say more, behind another dash.
            1..=0xfe => bytes.len() == LENGTH || bytes.get(LENGTH) == Some(&b'-'),
            _ => false,
        };
        let (trace_id, span_id, flags) = (hex(text, 3, 35), hex(text, 36, 52), hex(text, 53, LENGTH));
        match (trace_id, span_id, flags) {
            (Some(trace_id @ 1..), Some(span_id @ 1..), Some(flags)) if dashes && length => Ok(Self {
                trace_id: TraceId(trace_id),
                span_id: SpanId(u64::try_from(span_id).map_err(|_| BadTraceparent)?),
                flags: u8::try_from(flags).map_err(|_| BadTraceparent)? & KNOWN_FLAGS,
                state: None,
            }),
            _ => Err(BadTraceparent),
        }
    }
}

fn hex(text: &str, from: usize, to: usize) -> Option<u128> {
    text.get(from..to)?.bytes().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// As many digits as there is room for.
fn write_hex(room: &mut [u8], mut number: u128) {
    for digit in room.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::from(number.to_le_bytes()[0] & 0xf)];
        number >>= 4;
    }
}

/// All entries, in order; none where one of them is not valid.
fn read_state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut kept = String::new();
    let mut entries = 0;
    for value in headers.get_all(TRACESTATE) {
        for entry in value.to_str().ok()?.split(',').map(|entry| entry.trim_matches([' ', '\t'])) {
            if entry.is_empty() {
                continue;
            }
            entries += 1;
            if entries > MOST_ENTRIES || !is_entry(entry) {
                return None;
            }
            // The last entries are the oldest, and go first.
            if kept.len() + 1 + entry.len() <= MOST_STATE {
                kept.push_str(if kept.is_empty() { "" } else { "," });
                kept.push_str(entry);
            }
        }
    }
    (!kept.is_empty()).then(|| HeaderValue::try_from(kept).ok()).flatten()
}

fn is_entry(entry: &str) -> bool {
    let key = |key: &str| {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
        (1..=256).contains(&key.len()) && key.bytes().all(allowed)
    };
    let value = |value: &str| {
        let allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'=';
        (1..=256).contains(&value.len()) && value.bytes().all(allowed)
    };
    entry.split_once('=').is_some_and(|(left, right)| key(left) && value(right))
}

impl SpanId {
    fn new() -> Self {
        Self(random().max(1))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// Keys of the standard library's hash maps come from the system's random numbers, and no two are alike.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().expect("a value"));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn a_place_in_a_trace_survives_the_wire() {
        let sent = headers(&[("traceparent", VALID), ("tracestate", "a=1, b=2"), ("tracestate", "c@d=x y")]);
        let read = TraceContext::read(&sent).expect("it is valid");
        assert_eq!(read.to_string(), VALID);
        let child = read.child();
        let mut further = headers(&[("traceparent", "another"), ("tracestate", "another=1")]);
        child.write(&mut further);
        assert_eq!(further["tracestate"], "a=1,b=2,c@d=x y");
        assert_eq!(further["traceparent"], child.to_string());
        let again = TraceContext::read(&further).expect("it is valid");
        assert_eq!((again.trace_id, &again), (read.trace_id, &child));
        assert_ne!(again.span_id, read.span_id);
    }

    #[test]
    fn what_the_specification_refuses_is_no_place_in_a_trace() {
        for bad in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-éé",
        ] {
            assert_eq!(TraceContext::from_str(bad), Err(BadTraceparent), "{bad}");
        }
        assert_eq!(TraceContext::read(&headers(&[("traceparent", VALID), ("traceparent", VALID)])), None);
    }

    #[test]
    fn later_versions_and_unknown_flags_are_read_as_far_as_they_are_known() {
        for (text, flags) in [("cc-{}-01", "01"), ("cc-{}-01-what-comes", "01"), ("00-{}-ff", "03"), ("00-{}-00", "00")]
        {
            let text = text.replace("{}", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331");
            let read: TraceContext = text.parse().expect("it is valid");
            assert_eq!(read.to_string(), format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}"));
        }
    }

    #[test]
    fn a_bad_tracestate_goes_and_the_trace_stays() {
        let many = (0..33).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join(",");
        for bad in ["novalue", "A=1", "a=b=c", "=1", many.as_str()] {
            let read =
                TraceContext::read(&headers(&[("traceparent", VALID), ("tracestate", bad)])).expect("it is valid");
            assert_eq!(read.state, None, "{bad}");
        }
        let long = format!("first=1,long={},last=2", "x".repeat(256));
        let long = format!("{long},{}", long.replace("first", "second"));
        let read = TraceContext::read(&headers(&[("traceparent", VALID), ("tracestate", &long)])).expect("it is valid");
        let state = read.state.expect("what fits");
        assert!(state.len() <= MOST_STATE && state.to_str().is_ok_and(|state| state.starts_with("first=1,long=")));
    }

    #[test]
    fn new_traces_and_spans_differ() {
        let (one, other) = (TraceContext::new(), TraceContext::new());
        assert_ne!(one.trace_id, other.trace_id);
        assert_ne!(one.span_id, one.child().span_id);
        assert_eq!(one.to_string().parse(), Ok(one));
    }
}
