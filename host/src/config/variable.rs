//! The environment: which variables are ours, which key each means, and what its text may mean.
//!
//! A variable is `COMPONENTHOST_<SECTION>_<KEY>`; sections are single words, so no name has two meanings. Its text is taken
//! as it is where the key takes a text, else it is read as a number, a truth value or a list (`a,b`).

use figment::value::{Dict, Value};

pub(super) const PREFIX: &str = "COMPONENTHOST_";

/// A variable with our prefix.
pub(super) struct Variable {
    pub(super) name: String,
    /// The name after the prefix, in lower case.
    pub(super) rest: String,
    pub(super) value: String,
}

/// Those of the environment that have our prefix, but for the one that names the file.
pub(super) fn ours(environment: impl IntoIterator<Item = (String, String)>) -> Vec<Variable> {
    let variables = environment.into_iter().filter(|(name, _)| name != super::FILE_VARIABLE);
    let ours = variables.filter_map(|(name, value)| {
        let rest = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
        Some(Variable { name, rest, value })
    });
    ours.collect()
}

/// The variable of a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// The path of a variable's key: `labels_zone` is `labels.zone` where the defaults have a table `labels`.
pub(super) fn resolve(key: &str, defaults: &Dict) -> Vec<String> {
    if !defaults.contains_key(key) {
        for (name, value) in defaults {
            if let (Value::Dict(_, inner), Some(rest)) = (value, key.strip_prefix(&format!("{name}_"))) {
                return [vec![name.clone()], resolve(rest, inner)].concat();
            }
        }
    }
    vec![key.to_owned()]
}

/// What a variable's text may mean: itself; a number or a truth value; or, where the default is a list, a list of texts.
pub(super) fn meanings(text: &str, default: Option<&Value>) -> Vec<Value> {
    let itself = Value::from(text.to_owned());
    if let Some(Value::Array(..)) = default {
        let items: Vec<Value> = text.split(',').map(|item| Value::from(item.trim().to_owned())).collect();
        return vec![if text.is_empty() { Value::from(Vec::<Value>::new()) } else { Value::from(items) }];
    }
    match scalar(text) {
        toml::Value::String(_) => vec![itself],
        other => vec![itself, Value::serialize(other).expect("a scalar")],
    }
}

/// A number or a truth value where the text is one in TOML, else the text.
pub(super) fn scalar(text: &str) -> toml::Value {
    let value = text.parse::<toml::Value>().ok();
    let value = value.filter(|value| value.is_integer() || value.is_float() || value.is_bool());
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}
