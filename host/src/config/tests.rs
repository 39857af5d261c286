//! The rules of the configuration as a whole, on texts and on the files that are shipped.

use std::path::PathBuf;

use std::time::Duration;

use plugin_api::descriptor::{Descriptor, LeasePolicy};

use super::*;

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(Path::new("a.toml"), text, variables)
}

/// The mistakes of a text with one component in its first line, so that this is none.
fn mistakes(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let text = format!("component.rootcoord = {{}}\n{text}");
    parse(&text, variables).expect_err("mistakes").0.iter().map(Mistake::to_string).collect()
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(name)
}

fn role(name: &str) -> Role {
    Role::new(name).expect("a role")
}

/// All keys of a table, with dots; an empty table counts as a key.
fn keys(table: &toml::Table) -> Vec<String> {
    let mut all = Vec::new();
    for (key, value) in table {
        match value.as_table().filter(|inner| !inner.is_empty()) {
            Some(inner) => all.extend(keys(inner).into_iter().map(|rest| format!("{key}.{rest}"))),
            None => all.push(key.clone()),
        }
    }
    all
}

fn default_with_rootcoord() -> Config {
    Config { component: [(role("rootcoord"), ComponentConfig::default())].into(), ..Config::default() }
}

#[test]
fn the_reference_is_the_defaults_and_names_every_key() {
    let file = shipped("reference.toml");
    let loaded = Config::load_with(&file, []).expect("it loads");
    assert_eq!(Config { places: Places::default(), ..loaded }, default_with_rootcoord());
    let text = std::fs::read_to_string(file).expect("the reference");
    let named = keys(&text.parse().expect("TOML"));
    let known = keys(&toml::Table::try_from(default_with_rootcoord()).expect("the defaults"));
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all
    };
    assert_eq!(sorted(named), sorted(known));
}

#[test]
fn each_key_of_the_reference_says_what_it_is() {
    let text = std::fs::read_to_string(shipped("reference.toml")).expect("the reference");
    let lines: Vec<&str> = text.lines().collect();
    for (before, line) in lines.iter().zip(&lines[1..]) {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(before.starts_with("# "), "nothing is said of {line}");
        }
    }
}

#[test]
fn the_shipped_files_load_and_their_ports_do_not_collide() {
    let mut ports = BTreeSet::new();
    for name in ["standalone.toml", "rootcoord.toml", "querycoord.toml", "querynode.toml"] {
        let config = Config::load_with(&shipped(name), []).expect(name);
        for port in [config.server.listen.port(), config.admin.listen.port()] {
            assert!(port == 0 || ports.insert(port), "{port} of {name} is in another file too");
            assert!(port != 0 || name == "querynode.toml", "{name} has port 0");
        }
    }
    assert_eq!(Config::load_with(&shipped("standalone.toml"), []).expect("it loads").roles().len(), 3);
}

#[test]
fn a_bad_value_of_each_key_is_reported_and_all_at_once() {
    let mut bad = toml::Table::try_from(default_with_rootcoord()).expect("the defaults");
    fn spoil(value: &mut toml::Value) {
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => inner.iter_mut().for_each(|(_, value)| spoil(value)),
            toml::Value::Array(_) | toml::Value::Table(_) => *value = toml::Value::Boolean(true),
            // No key takes a list of lists.
            _ => *value = toml::Value::Array(vec![toml::Value::Array(Vec::new())]),
        }
    }
    bad.iter_mut().for_each(|(_, value)| spoil(value));
    let found = parse(&bad.to_string(), &[]).expect_err("all is wrong");
    let found: BTreeSet<String> = found.0.into_iter().map(|mistake| mistake.key).collect();
    let known = keys(&toml::Table::try_from(default_with_rootcoord()).expect("the defaults"));
    assert_eq!(found, known.into_iter().collect());
}

#[test]
fn mistakes_name_line_key_expected_and_found() {
    let text = "[etcd]\nroot_pth = 'a'\nrequest_timeout = 5\n[admin]\nlisten = '0.0.0.0:1'\n[telemetry]\nformat = 'xml'\n\
                [shutdwn]\nlimit = '1s'\n[server]\nlisten = 'here'\ncolour = 1";
    assert_eq!(
        mistakes(text, &[]),
        [
            "a.toml:9: shutdwn: unknown; the nearest known one is [shutdown]",
            "a.toml:4: etcd.request_timeout: expected a duration such as \"5s\", found 5",
            "a.toml:3: etcd.root_pth: unknown; the nearest known one is etcd.root_path",
            "a.toml:13: server.colour: unknown; known are server.listen, server.advertise",
            "a.toml:12: server.listen: expected ip:port such as 127.0.0.1:0, found \"here\"",
            "a.toml:6: admin.listen: expected a loopback address such as 127.0.0.1:9091, found 0.0.0.0:1",
            "a.toml:8: telemetry.format: expected \"text\" or \"json\", found \"xml\"",
        ]
    );
}

#[test]
fn a_password_is_never_shown() {
    for text in [
        "[etcd]\npassword = 4711\nuser = 'me'",
        "[etcd]\npassword = ['4711']",
        "[etcd]\npassword = { a = 4711 }",
        "[etcd]\npassword = 4711x",
        "[etcd]\npasswort = '4711'",
        "[etcd]\npassword = '4711'",
        "[etcd]\nuser = 'me'\npassword = '4711'\npassword_file = '/none'",
        "[etcd.password]\nis = 4711",
    ] {
        let told = mistakes(text, &[]);
        assert!(told.iter().all(|line| !line.contains("4711")), "{told:?}");
    }
    let variables = [("COMPONENTHOST_ETCD_USER", "me"), ("COMPONENTHOST_ETCD_PASSWORD", "4711")];
    let config = parse("component.a = {}", &variables).expect("a number is a password too");
    assert_eq!(config.etcd.password, crate::etcd::password::Password::from("4711"));
    let dump = format!("{config:?} {}", toml::Table::try_from(&config).expect("TOML"));
    assert!(!dump.contains("4711"), "{dump}");
}

#[test]
fn the_files_of_tls_can_be_given_by_variables() {
    let variables = [("COMPONENTHOST_ETCD_TLS_CA", "/none/ca.pem"), ("COMPONENTHOST_ETCD_TLS_SERVER_NAME", "etcd")];
    let told = mistakes("", &variables);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("COMPONENTHOST_ETCD_TLS_CA: etcd.tls.ca: \"/none/ca.pem\" cannot be read"), "{told:?}");
}

#[test]
fn plain_text_leaves_this_machine_only_where_the_user_says_so() {
    let beyond = "[server]\nlisten = '0.0.0.0:5'\nadvertise = 'here:5'\n";
    let told = mistakes(beyond, &[]);
    assert!(told[0].starts_with("a.toml:3: server.listen: 0.0.0.0:5 can be reached from other machines"), "{told:?}");
    assert!(told[1].starts_with("a.toml:4: server.advertise: here:5 can be reached"), "{told:?}");
    assert!(told.iter().all(|text| text.contains("set tls.ca, tls.cert and tls.key, or tls.plain_text = true")));
    parse(&format!("component.a = {{}}\n{beyond}[tls]\nplain_text = true"), &[]).expect("the user has said so");
    parse("component.a = {}\n[server]\nadvertise = 'localhost:5'", &[]).expect("it stays on this machine");
}

#[test]
fn values_out_of_range_are_reported() {
    for (text, key) in [
        ("[cluster]\nname = ' b'", "cluster.name"),
        ("[etcd]\nendpoints = []", "etcd.endpoints"),
        ("[server]\nlisten = '0.0.0.0:1'", "server.advertise"),
        ("[server]\nadvertise = 'here'", "server.advertise"),
        ("[server]\nadvertise = 'here:0'", "server.advertise"),
        ("[server]\nadvertise = '0.0.0.0:5'", "server.advertise"),
        ("[server]\nlisten = '10.0.0.5:1'", "server.listen"),
        ("[server]\nadvertise = 'here:5'", "server.advertise"),
        ("[tls]\nca = '/none'", "tls.ca"),
        ("[tls]\nnames = 'blue.example'", "tls.names"),
        ("[etcd]\nroot_path = '/'", "etcd.root_path"),
        ("[session]\nttl = '1s'", "session.ttl"),
        ("[discovery]\nask_after = '0s'", "discovery.ask_after"),
        ("[connections]\njitter = 2.0", "connections.jitter"),
        ("[plugins]\ndirs = ['']", "plugins.dirs"),
        ("[plugins]\ntrusted_root = 'here'", "plugins.trusted_root"),
        ("[supervision]\nbackoff_min = '0s'", "supervision.backoff_min"),
        ("[supervision]\nbackoff_min = '2m'", "supervision.backoff_max"),
        ("[supervision]\nquarantine_after = 0", "supervision.quarantine_after"),
        ("[supervision]\nquarantine_window = '0s'", "supervision.quarantine_window"),
        ("[shutdown]\ngrace = '25s'", "shutdown.limit"),
        ("[shutdown]\ngrace = '20s'", "shutdown.limit"),
        ("[shutdown]\ngrace = '18446744073709551615s'", "shutdown.limit"),
        ("[telemetry]\nlog = 'a=b=c'", "telemetry.log"),
        ("[admin]\nlisten = '[::]:1'", "admin.listen"),
        ("[component.a]\nsha256 = 'xyz'", "component.a.sha256"),
        ("[component.a]\nstart_timeout = '0s'", "component.a.start_timeout"),
        ("[component.a]\nactivate_timeout = '0s'", "component.a.activate_timeout"),
        ("[component.a]\non_peer_timeout = '0s'", "component.a.on_peer_timeout"),
        ("[component.a]\ndeactivate_timeout = '0s'", "component.a.deactivate_timeout"),
        ("[component.a]\nstop_timeout = '0s'", "component.a.stop_timeout"),
        ("[component.a]\nversion = 'new'", "component.a.version"),
        ("[component.a]\nstandby = 'no'", "component.a.standby"),
        ("[component.a]\nlease_policy = 'wait'", "component.a.lease_policy"),
        ("[component.a]\nconfig = 3", "component.a.config"),
        ("[component.a]\ncolour = 3", "component.a.colour"),
        ("[component]\na = 3", "component.a"),
        ("component = 3", "component"),
        ("etcd = 3", "etcd"),
    ] {
        let with_component =
            if text.contains("component") { text.to_owned() } else { format!("{text}\n[component.a]") };
        let found = parse(&with_component, &[]).expect_err(text);
        assert!(found.0.iter().any(|mistake| mistake.key == key), "{text}: {found}");
    }
}

#[test]
fn no_component_is_a_mistake() {
    let text = parse("", &[]).expect_err("no component").to_string();
    assert!(text.contains("a.toml: component: no component"), "{text}");
}

#[test]
fn the_places_of_authors_keys_are_known() {
    let text = "[component.a]\n[component.a.config]\nx = 1\n[component.a.config.deep]\ny = 2\n";
    let config = parse(text, &[("COMPONENTHOST_COMPONENT_B_CONFIG_X_Y", "1")]).expect("no mistakes");
    let place = |key| config.places.of(key).map(ToString::to_string).unwrap_or_default();
    assert_eq!(place("component.a.config.x"), "a.toml:3");
    assert_eq!(place("component.a.config.deep.y[2].z"), "a.toml:5");
    assert_eq!(place("component.a.config.missing"), "a.toml:2");
    assert_eq!(place("component.b.config.x_y"), "COMPONENTHOST_COMPONENT_B_CONFIG_X_Y");
    assert_eq!(place("component.b.config.other"), "a.toml:1");
}

#[test]
fn a_role_twice_and_a_role_in_capitals_are_refused() {
    let twice = parse("[component.a]\n\n[component.a]\n", &[]).expect_err("twice").to_string();
    assert!(twice.contains("a.toml:3: not valid TOML: duplicate key"), "{twice}");
    let capitals = parse("[component.rootcoord]\n[component.RootCoord]", &[]).expect_err("capitals").to_string();
    assert!(capitals.contains("a.toml:2: component.RootCoord: differs from component.rootcoord"), "{capitals}");
    let alone = parse("[component.RootCoord]", &[]).expect_err("no role").to_string();
    assert!(alone.contains("'RootCoord' is no role"), "{alone}");
    let reserved = parse("[component.id]", &[]).expect_err("no role").to_string();
    assert!(reserved.contains("'id' is no role"), "{reserved}");
}

#[test]
fn all_errors_of_the_text_are_shown_with_their_lines() {
    let found = parse("a = \n[b\nc = 1", &[]).expect_err("no TOML").to_string();
    assert!(found.contains("a.toml:1: not valid TOML") && found.contains("a.toml:2: not valid TOML"), "{found}");
}

#[test]
fn a_file_that_is_not_there_is_a_mistake() {
    let found = Config::load_with(Path::new("/none/such.toml"), []).expect_err("no file").to_string();
    assert!(found.contains("/none/such.toml: cannot be read: No such file"), "{found}");
}

#[test]
fn a_variable_goes_before_the_file() {
    let text = "[etcd]\nroot_path = 'file'\n[component.rootcoord]\nplugin = 'file'\nconfig = { size = 1, name = 'x' }";
    let config = parse(
        text,
        &[
            ("COMPONENTHOST_ETCD_ROOT_PATH", "by-dev"),
            ("COMPONENTHOST_ETCD_ENDPOINTS", "http://a:1, http://b:2"),
            ("COMPONENTHOST_SUPERVISION_QUARANTINE_AFTER", "7"),
            ("COMPONENTHOST_CLUSTER_NAME", "123"),
            ("COMPONENTHOST_SHUTDOWN_LIMIT", "1h"),
            ("COMPONENTHOST_HOST_LABELS_ZONE", "1"),
            ("COMPONENTHOST_COMPONENT_ROOTCOORD_STOP_TIMEOUT", "2s"),
            ("COMPONENTHOST_COMPONENT_ROOTCOORD_VERSION", "1.10"),
            ("COMPONENTHOST_COMPONENT_ROOTCOORD_CONFIG_SIZE", "2"),
            ("COMPONENTHOST_COMPONENT_ROOTCOORD_CONFIG_NAME", "3"),
            ("COMPONENTHOST_COMPONENT_ROOTCOORD_CONFIG_FRESH_KEY", "true"),
            ("COMPONENTHOST_COMPONENT_QUERYNODE_PLUGIN", "./q.so"),
            ("COMPONENTHOST_CONFIG", "other.toml"),
            ("PATH", "/bin"),
        ],
    )
    .expect("good variables");
    assert_eq!(config.etcd.root_path, "by-dev");
    assert_eq!(config.etcd.endpoints, ["http://a:1", "http://b:2"]);
    assert_eq!((config.supervision.quarantine_after, config.cluster_name()), (7, "123"));
    assert_eq!(config.host.labels["zone"], "1");
    let component = &config.component[&role("rootcoord")];
    assert_eq!((component.plugin.as_str(), component.stop_timeout), ("file", Duration::from_secs(2)));
    assert_eq!(component.version, "1.10".parse().ok());
    assert_eq!(component.config, "size = 2\nname = '3'\nfresh_key = true".parse().expect("TOML"));
    assert_eq!(config.component[&role("querynode")].plugin, "./q.so");
}

#[test]
fn mistakes_in_variables_name_the_variable() {
    let found = mistakes(
        "",
        &[
            ("COMPONENTHOST_ETCD_ROOT_PTH", "a"),
            ("COMPONENTHOST_ETDC_ROOT_PATH", "a"),
            ("COMPONENTHOST_ADMIN", "a"),
            ("COMPONENTHOST_SUPERVISION_QUARANTINE_AFTER", "many"),
            ("COMPONENTHOST_COMPONENT_ROOTCOORD_PLUGN", "a"),
            ("COMPONENTHOST_COMPONENT_ROOTCOORD", "a"),
            ("COMPONENTHOST_SHUTDOWN_GRACE", "1h"),
        ],
    );
    assert_eq!(
        found,
        [
            "COMPONENTHOST_ETDC_ROOT_PATH: unknown; the nearest known one is COMPONENTHOST_ETCD_ROOT_PATH",
            "COMPONENTHOST_ADMIN: unknown; the nearest known one is COMPONENTHOST_ADMIN_<KEY>",
            "COMPONENTHOST_COMPONENT_ROOTCOORD: unknown; the nearest known one is COMPONENTHOST_COMPONENT_<ROLE>_<KEY>",
            "COMPONENTHOST_ETCD_ROOT_PTH: etcd.root_pth: unknown; the nearest known one is COMPONENTHOST_ETCD_ROOT_PATH",
            "COMPONENTHOST_SUPERVISION_QUARANTINE_AFTER: supervision.quarantine_after: expected a whole number, found \"many\"",
            "a.toml: shutdown.limit: expected more than shutdown.grace + shutdown.drain (1h 5s), found 30s",
            "COMPONENTHOST_COMPONENT_ROOTCOORD_PLUGN: component.rootcoord.plugn: unknown; \
             the nearest known one is COMPONENTHOST_COMPONENT_ROOTCOORD_PLUGIN",
        ]
    );
}

#[test]
fn a_plugin_is_called_as_its_role_and_a_cluster_as_its_root_path() {
    let config = parse("[component.rootcoord]\nconfig = { a = 1 }", &[]).expect("good");
    let role = role("rootcoord");
    assert_eq!(config.component[&role].plugin(&role), "rootcoord");
    assert_eq!(config.component[&role].config_toml(), "a = 1\n");
    assert_eq!(config.cluster_name(), "componenthost");
}

#[test]
fn the_lease_policy_of_the_configuration_goes_before_the_descriptors() {
    let policy = |text: &str| {
        let config = parse(&format!("[component.a]\n{text}"), &[]).expect("good");
        config.component[&role("a")].lease_policy(&Descriptor::coordinator("a"))
    };
    assert_eq!(policy(""), LeasePolicy::Fence);
    assert_eq!(policy("lease_policy = ''"), LeasePolicy::Fence);
    assert_eq!(policy("lease_policy = 'serve'"), LeasePolicy::Serve);
}
