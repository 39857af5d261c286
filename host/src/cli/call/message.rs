//! JSON to a message whose type came by reflection, and back.

use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use serde_json::{Map, Value};

use super::failure::CallError;

/// The messages of a request: one, or, where the method takes a stream, as many as there are JSON values.
pub(super) fn parse(text: &str, method: &MethodDescriptor) -> Result<Vec<DynamicMessage>, CallError> {
    let input = method.input();
    let wrong = |expected: &str, mistakes| CallError::Json { expected: expected.to_owned(), mistakes };
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
    let values = values.map_err(|error| wrong("JSON", vec![error.to_string()]))?;
    if !method.is_client_streaming() && values.len() != 1 {
        let count = format!("{} values are given, {} takes one", values.len(), method.name());
        return Err(wrong("one JSON value", vec![count]));
    }
    let mut mistakes = Vec::new();
    let messages = values.iter().filter_map(|value| match read(&input, value) {
        Ok(message) => Some(message),
        Err(error) => {
            blame(&input, value, "", &error, &mut mistakes);
            None
        }
    });
    let messages: Vec<_> = messages.collect();
    if mistakes.is_empty() { Ok(messages) } else { Err(wrong(input.full_name(), mistakes)) }
}

/// A message as JSON, with all its fields; `pretty` over several lines.
pub(super) fn to_json(message: &DynamicMessage, pretty: bool) -> String {
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut text = Vec::new();
    let written = if pretty {
        message.serialize_with_options(&mut serde_json::Serializer::pretty(&mut text), &options)
    } else {
        message.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options)
    };
    match written {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        // Such as an Any whose type the host does not tell: better shown raw than not at all.
        Err(_) => message.to_string(),
    }
}

fn read(descriptor: &MessageDescriptor, value: &Value) -> Result<DynamicMessage, serde_json::Error> {
    DynamicMessage::deserialize_with_options(descriptor.clone(), value, &DeserializeOptions::new())
}

/// Finds the fields that `error` comes from: serde does not name them, so each is tried alone.
fn blame(
    descriptor: &MessageDescriptor,
    value: &Value,
    path: &str,
    error: &serde_json::Error,
    mistakes: &mut Vec<String>,
) {
    let before = mistakes.len();
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            blame_field(descriptor, name, value, &path, mistakes);
        }
    }
    if mistakes.len() == before {
        let whole = if path.is_empty() { descriptor.name() } else { path };
        mistakes.push(format!("{whole}: {error}"));
    }
}

fn blame_field(descriptor: &MessageDescriptor, name: &str, value: &Value, path: &str, mistakes: &mut Vec<String>) {
    let alone = |value: &Value| read(descriptor, &Value::Object(Map::from_iter([(name.to_owned(), value.clone())])));
    let Err(error) = alone(value) else { return };
    let field = descriptor.get_field_by_json_name(name).or_else(|| descriptor.get_field_by_name(name));
    let Some(field) = field else {
        let known: Vec<String> = descriptor.fields().map(|field| field.name().to_owned()).collect();
        mistakes.push(format!("{path}: no field of {}; there are: {}", descriptor.full_name(), known.join(", ")));
        return;
    };
    match value {
        Value::Array(items) if field.is_list() => {
            for (index, item) in items.iter().enumerate() {
                if let Err(error) = alone(&Value::Array(vec![item.clone()])) {
                    blame_value(&field, item, &format!("{path}[{index}]"), &error, mistakes);
                }
            }
        }
        value => blame_value(&field, value, path, &error, mistakes),
    }
}

fn blame_value(
    field: &FieldDescriptor,
    value: &Value,
    path: &str,
    error: &serde_json::Error,
    mistakes: &mut Vec<String>,
) {
    match field.kind() {
        Kind::Message(inner) if value.is_object() && !field.is_map() && inner.package_name() != "google.protobuf" => {
            blame(&inner, value, path, error, mistakes);
        }
        _ => mistakes.push(format!("{path}: {error}")),
    }
}
