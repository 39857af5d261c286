//! Across the border, without a host: either version of a plugin takes the state of the other.

use plugin_api::Snapshot;
use tests::binary::second;
use tests::border::Bordered;

/// Of each: the plugin, the role, its configuration.
const PLUGINS: [(&str, &str, &str); 4] = [
    ("probe_plugin", "alpha", "kind = \"coordinator\""),
    ("rootcoord", "rootcoord", ""),
    ("querycoord", "querycoord", ""),
    ("querynode", "querynode", ""),
];

async fn snapshot(of: &Bordered) -> Snapshot {
    of.component().snapshot().await.expect("a snapshot")
}

#[tokio::test]
async fn either_version_takes_the_state_of_the_other() {
    for (plugin, role, config) in PLUGINS {
        let first = Bordered::loaded(plugin, role, config);
        let state = snapshot(first.start_only().await).await;
        assert_eq!(state.state_version, 1, "{plugin}");
        let newer = Bordered::loaded(&second(plugin), role, config);
        newer.component().restore(state).await.unwrap_or_else(|error| panic!("{plugin}: {error}"));
        let state = snapshot(newer.start_only().await).await;
        assert_eq!(state.state_version, 2, "{plugin}");
        let older = Bordered::loaded(plugin, role, config);
        older.component().restore(state).await.unwrap_or_else(|error| panic!("{plugin}: {error}"));
        older.start_only().await;
    }
}

#[tokio::test]
async fn a_state_that_is_none_is_refused_by_each() {
    for (plugin, role, config) in PLUGINS {
        for name in [plugin.to_owned(), second(plugin)] {
            let component = Bordered::loaded(&name, role, config);
            let none = Snapshot { state_version: 1, bytes: b"\0garbage".to_vec(), files: Vec::new() };
            component.component().restore(none).await.expect_err(&name);
        }
    }
}
