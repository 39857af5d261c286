//! What a host has written to its standard error: one JSON object a line, as `telemetry.format = "json"` has it.

use std::fmt;
use std::path::Path;

use serde_json::Value;

/// One line.
#[derive(Clone)]
pub struct LogLine {
    json: Value,
}

impl LogLine {
    /// The lines of a file. What is no JSON (a panic's text, a line half written) becomes a line with a message alone.
    pub fn read(path: &Path) -> Vec<Self> {
        let text = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().map(Self::parse).collect()
    }

    fn parse(line: &str) -> Self {
        let plain = || serde_json::json!({ "fields": { "message": line } });
        Self { json: serde_json::from_str(line).ok().filter(Value::is_object).unwrap_or_else(plain) }
    }

    /// The message.
    pub fn message(&self) -> &str {
        let own = self.json.get("fields").and_then(|fields| fields.get("message"));
        own.and_then(Value::as_str).unwrap_or_default()
    }

    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`; empty for what is no line of `tracing`.
    pub fn level(&self) -> &str {
        self.json.get("level").and_then(Value::as_str).unwrap_or_default()
    }

    /// A field of the event; of a plugin's event, whose fields have crossed the border as one text; or else of the spans
    /// around it, the innermost first.
    pub fn field(&self, name: &str) -> Option<Value> {
        let fields = self.json.get("fields");
        let own = fields.and_then(|fields| fields.get(name)).or_else(|| self.json.get(name));
        let crossed = || find(fields?.get("fields")?.as_str()?, name);
        let spans = self.json.get("spans").and_then(Value::as_array);
        let of_spans = || spans.into_iter().flatten().rev().find_map(|span| span.get(name)).cloned();
        own.cloned().or_else(crossed).or_else(of_spans)
    }

    /// A field as text, also where it is a number.
    pub fn text(&self, name: &str) -> Option<String> {
        self.field(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }
}

/// A field of `rows=7 path="a b.npy"`.
fn find(fields: &str, name: &str) -> Option<Value> {
    let wanted = format!(" {name}=");
    let fields = format!(" {fields}");
    let value = &fields[fields.find(&wanted)? + wanted.len()..];
    if value.starts_with('"') {
        // Debug's quotes and escapes are those of JSON but for rare characters.
        return serde_json::Deserializer::from_str(value).into_iter().next()?.ok();
    }
    value.split(' ').next().map(Value::from)
}

impl fmt::Debug for LogLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.json.fmt(formatter)
    }
}
