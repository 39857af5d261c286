//! Log records across the border: copied strings. Plugins have no subscriber of their own but [`Forward`].

use std::fmt::Write as _;

use abi_stable::StableAbi;
use abi_stable::std_types::RStr;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// One event of `tracing`, borrowed for the time of the call that hands it over.
#[repr(C)]
#[derive(StableAbi)]
pub struct FfiRecord<'a> {
    level: u8,
    /// The event's target: the module, unless the author named another.
    pub target: RStr<'a>,
    /// The spans that it happened in, outermost first: `search{collection=3}:merge`.
    pub spans: RStr<'a>,
    /// Its message.
    pub message: RStr<'a>,
    /// Its other fields: `rows=7 path="a.npy"`.
    pub fields: RStr<'a>,
}

impl FfiRecord<'_> {
    /// The event's level.
    pub fn level(&self) -> Level {
        level_from_number(self.level).unwrap_or(Level::ERROR)
    }
}

/// `ERROR` is 1, `TRACE` is 5.
pub fn level_number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// The level with that number; none for 0, which is *off*.
pub fn level_from_number(number: u8) -> Option<Level> {
    [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE]
        .get(usize::from(number).checked_sub(1)?)
        .copied()
}

/// A layer that hands every event to `sink`.
pub struct Forward<S> {
    sink: S,
}

impl<S> Forward<S> {
    /// Hands events to this sink.
    pub fn new(sink: S) -> Self {
        Self { sink }
    }
}

/// A span's fields, written when it began and when it recorded more.
struct SpanFields(String);

impl<S, R> Layer<R> for Forward<S>
where
    S: Fn(&FfiRecord<'_>) + 'static,
    R: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, R>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields.others));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, R>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(SpanFields(written)) = extensions.get_mut::<SpanFields>() {
            let mut fields = Fields { others: std::mem::take(written), ..Fields::default() };
            values.record(&mut fields);
            *written = fields.others;
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, R>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut spans = String::new();
        for span in context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            if !spans.is_empty() {
                spans.push(':');
            }
            spans.push_str(span.name());
            if let Some(SpanFields(fields)) =
                span.extensions().get::<SpanFields>().filter(|fields| !fields.0.is_empty())
            {
                // Writing to a `String` cannot fail.
                let _ = write!(spans, "{{{fields}}}");
            }
        }
        (self.sink)(&FfiRecord {
            level: level_number(*event.metadata().level()),
            target: event.metadata().target().into(),
            spans: spans.as_str().into(),
            message: fields.message.as_str().into(),
            fields: fields.others.as_str().into(),
        });
    }
}

/// What an event or a span carries, as text.
#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a `String` cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            let separator = if self.others.is_empty() { "" } else { " " };
            write!(self.others, "{separator}{}={value:?}", field.name())
        };
    }
}
