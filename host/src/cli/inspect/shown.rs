//! What a plugin file is, as lines of text: one for each thing, with what is wrong at the end.

use plugin_api::descriptor::{Dependency, Kind, WaitPolicy};
use plugin_api::identity::Role;
use serde_json::Value;

use crate::plugin::inspect::{ComponentFound, FileFound, Inspection};

/// So many symbols say enough; `--json` has all.
const SYMBOLS: usize = 8;

/// Everything that was found out. `asked` is the role that it was asked as.
pub(super) fn lines(found: &Inspection, asked: Option<&Role>) -> Vec<String> {
    let mut lines = vec![found.path.display().to_string()];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<12} {text}"));
    if let Some(built) = &found.fingerprint {
        line("built", format!("{} {}, with plugin-api {}", built.package, built.version, built.plugin_api));
        line("for", format!("{}, panic = {}", built.target, built.panic));
        let numbers: Vec<String> = built.interfaces.iter().map(u32::to_string).collect();
        let used = found.interface.map(|number| format!("; this host takes {number}")).unwrap_or_default();
        line("interfaces", format!("{}{used}", numbers.join(", ")));
    }
    if let Some(component) = &found.component {
        of_component(component, asked, &mut line);
    }
    if let Some(error) = &found.not_created {
        let text = "not known, since its constructor refuses an empty configuration";
        line("component", format!("{text}: {error}"));
    }
    if let Some(schema) = &found.schema {
        keys(schema).into_iter().for_each(|key| line("config", key));
    }
    if let Some(FileFound { sha256, size, mapped_bytes, exported, .. }) = &found.file {
        line("sha256", sha256.clone());
        line("size", format!("{size} bytes; takes {mapped_bytes} bytes of memory, for ever"));
        let more = exported.len().saturating_sub(SYMBOLS);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        line("exports", exported.iter().take(SYMBOLS).cloned().collect::<Vec<_>>().join(", ") + &more);
        line("place", found.place.clone().unwrap_or_else(|| "a host would open it there".to_owned()));
    }
    if let Some(wrote) = &found.wrote {
        line("writes", format!("to standard output, which is the host's: '{wrote}'"));
    }
    if let Some(refused) = &found.refused {
        line("refused", refused.clone());
    }
    lines
}

fn of_component(component: &ComponentFound, asked: Option<&Role>, line: &mut impl FnMut(&str, String)) {
    let ComponentFound { role, kind, version, dependencies, gated, lease_policy } = component;
    let role = match (role, asked) {
        (Some(role), Some(asked)) if role != asked => format!("{role}: a host refuses it as {asked}"),
        (Some(role), _) => role.to_string(),
        (None, _) => "any; --role asks it as one that plays that".to_owned(),
    };
    line("role", format!("{role} ({})", name(*kind)));
    line("version", version.clone().unwrap_or_else(|| "none".to_owned()));
    let dependencies: Vec<String> = dependencies.iter().map(dependency).collect();
    line("depends on", or_none(dependencies.join(", "), "nobody"));
    line("gated", or_none(gated.join(", "), "no method"));
    line("lease policy", lease_policy.to_string());
}

/// The keys of a configuration with their defaults and what they are for, one in each line; where the schema has none, it.
fn keys(schema: &Value) -> Vec<String> {
    let Some(properties) = schema["properties"].as_object().filter(|keys| !keys.is_empty()) else {
        return vec![if *schema == true { "no schema: anything".to_owned() } else { schema.to_string() }];
    };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let key = |(name, about): (&String, &Value)| {
        let default = match about.get("default") {
            Some(default) => format!(" = {default}"),
            None if required.contains(&name.as_str()) => ", required".to_owned(),
            None => String::new(),
        };
        let purpose = about["description"].as_str().unwrap_or_default().replace('\n', " ");
        let first = purpose.split_inclusive(". ").next().unwrap_or_default().trim();
        if first.is_empty() { format!("{name}{default}") } else { format!("{name}{default}: {first}") }
    };
    properties.iter().map(key).collect()
}

fn dependency(Dependency { role, kind, required, wait, call_wait }: &Dependency) -> String {
    let mut text = format!("{role} ({}, {}", name(*kind), if *required { "required" } else { "optional" });
    let time = |duration| humantime::format_duration(duration);
    match *wait {
        WaitPolicy::No => {}
        WaitPolicy::AtLeast { count, timeout } => {
            text.push_str(&format!(", a start waits {} for {count}", time(timeout)));
        }
        WaitPolicy::All { timeout } => text.push_str(&format!(", a start waits {} for all", time(timeout))),
    }
    if !call_wait.is_zero() {
        text.push_str(&format!(", calls wait {}", time(*call_wait)));
    }
    text + ")"
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Coordinator => "coordinator",
        Kind::Node => "node",
    }
}

fn or_none(text: String, none: &str) -> String {
    if text.is_empty() { none.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use plugin_api::descriptor::LeasePolicy;
    use serde_json::json;

    use super::*;

    fn role(name: &str) -> Role {
        Role::new(name).expect("a role")
    }

    fn component(plays: Option<Role>) -> ComponentFound {
        let slow = WaitPolicy::AtLeast { count: 2, timeout: Duration::from_secs(5) };
        ComponentFound {
            role: plays,
            kind: Kind::Node,
            version: Some("1.2.3".to_owned()),
            dependencies: vec![
                Dependency::coordinator("rootcoord"),
                Dependency::nodes("querynode").optional().wait(slow).call_wait(Duration::from_secs(1)),
            ],
            gated: Vec::new(),
            lease_policy: LeasePolicy::Serve,
        }
    }

    fn text(found: &Inspection, asked: Option<&str>) -> String {
        lines(found, asked.map(role).as_ref()).join("\n")
    }

    #[test]
    fn a_component_is_told_with_all_that_it_says() {
        let found = Inspection { component: Some(component(None)), ..Inspection::default() };
        let text = text(&found, None);
        for part in [
            "  role         any; --role asks it as one that plays that (node)",
            "  version      1.2.3",
            "  depends on   rootcoord (coordinator, required), \
             querynode (node, optional, a start waits 5s for 2, calls wait 1s)",
            "  gated        no method",
            "  lease policy serve",
        ] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
    }

    #[test]
    fn another_role_than_was_asked_for_is_told() {
        let found = Inspection { component: Some(component(Some(role("alpha")))), ..Inspection::default() };
        assert!(text(&found, Some("beta")).contains("alpha: a host refuses it as beta"));
        assert!(!text(&found, Some("alpha")).contains("refuses"));
    }

    #[test]
    fn each_key_of_the_configuration_is_a_line() {
        let schema = json!({
            "properties": {
                "limit": { "default": 64, "description": "How many.\nMore are\nrefused. And so on." },
                "name": { "type": "string" },
                "other": {},
            },
            "required": ["name"],
        });
        assert_eq!(keys(&schema), ["limit = 64: How many.", "name, required", "other"]);
        assert_eq!(keys(&json!({ "type": "object" })), [r#"{"type":"object"}"#]);
    }

    #[test]
    fn what_was_not_found_out_is_left_out_and_what_is_wrong_is_told() {
        let nothing = Inspection { path: PathBuf::from("/p/lib.so"), ..Inspection::default() };
        assert_eq!((text(&nothing, None).as_str(), nothing.is_wrong()), ("/p/lib.so", false));
        let exported: Vec<String> = (0..10).map(|n| format!("symbol_{n}")).collect();
        let (sha256, entry_symbol) = ("00".repeat(32), "symbol_0".to_owned());
        let file = FileFound { sha256, size: 9, mapped_bytes: 4096, entry_symbol, exported };
        let found = Inspection {
            file: Some(file),
            place: Some("it is outside".to_owned()),
            schema: Some(true.into()),
            not_created: Some("missing field `a`".to_owned()),
            ..nothing
        };
        let all = text(&found, None);
        for part in ["symbol_7 and 2 more", "it is outside", "anything", "empty configuration: missing field `a`"] {
            assert!(all.contains(part), "'{part}' is not in:\n{all}");
        }
        assert!(!found.is_wrong(), "a host may have another configuration");
        assert!(Inspection { wrote: Some("hello".to_owned()), ..found.clone() }.is_wrong());
        assert!(Inspection { refused: Some("no plugin".to_owned()), ..found }.is_wrong());
    }
}
