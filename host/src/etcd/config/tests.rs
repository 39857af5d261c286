//! Each mistake in `[etcd]`, and that all are told together.

use super::*;

fn keys(config: &EtcdConfig) -> Vec<&'static str> {
    config.mistakes().into_iter().map(|(key, _)| key).collect()
}

fn file(directory: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, text).expect("a temporary directory is writable");
    path
}

#[test]
fn the_defaults_have_no_mistake() {
    assert_eq!(EtcdConfig::default().mistakes(), []);
}

#[test]
fn every_mistake_is_told() {
    let config = EtcdConfig {
        endpoints: vec!["127.0.0.1".to_owned(), "ftp://etcd:2379".to_owned(), "etcd:2379".to_owned()],
        root_path: String::new(),
        meta_sub_path: "meta/".to_owned(),
        connect_timeout: Duration::ZERO,
        request_timeout: Duration::ZERO,
        user: "me".to_owned(),
        tls: TlsConfig { key: PathBuf::from("/none"), ..TlsConfig::default() },
        ..EtcdConfig::default()
    };
    let of_values = ["endpoints", "endpoints", "root_path", "meta_sub_path", "connect_timeout", "request_timeout"];
    assert_eq!(keys(&config), [&of_values[..], &["user", "tls.cert", "tls.key"]].concat());
    assert_eq!(keys(&EtcdConfig { endpoints: vec![], ..EtcdConfig::default() }), ["endpoints"]);
}

#[test]
fn an_embedded_etcd_has_neither_members_nor_users_nor_tls() {
    let embedded = EtcdConfig { embedded: true, ..EtcdConfig::default() };
    assert_eq!(keys(&EtcdConfig { data_dir: PathBuf::from("data"), ..embedded.clone() }), <[&str; 0]>::default());
    assert_eq!(keys(&EtcdConfig { endpoints: vec!["etcd:2379".to_owned()], ..embedded.clone() }), ["endpoints"]);
    let password = Password::from("secret");
    assert_eq!(keys(&EtcdConfig { user: "me".to_owned(), password, ..embedded.clone() }), ["user"]);
    let tls = TlsConfig { server_name: "etcd".to_owned(), ..TlsConfig::default() };
    assert_eq!(keys(&EtcdConfig { tls, ..embedded }), ["tls"]);
    let kept = EtcdConfig { data_dir: PathBuf::from("data"), ..EtcdConfig::default() };
    assert_eq!(keys(&kept), ["data_dir"]);
}

#[test]
fn a_password_in_an_endpoint_is_not_shown() {
    for endpoint in ["https://me:secret@etcd:2379", "me:secret@etcd:2379", "ftp://me:sec@ret@etcd:2379", "me:secret@"] {
        let config = EtcdConfig { endpoints: vec![endpoint.to_owned()], ..EtcdConfig::default() };
        let mistakes = config.mistakes();
        assert!(mistakes.len() == 1 && !format!("{mistakes:?}").contains("sec"), "{mistakes:?}");
    }
}

#[test]
fn a_user_has_one_password() {
    let directory = tempfile::tempdir().expect("a directory");
    let password_file = file(&directory, "password", "secret\n");
    let user = EtcdConfig { user: "me".to_owned(), ..EtcdConfig::default() };
    let by_value = EtcdConfig { password: Password::from("secret"), ..user.clone() };
    let by_file = EtcdConfig { password_file: password_file.clone(), ..user.clone() };
    assert_eq!(keys(&by_value), Vec::<&str>::new());
    assert_eq!(keys(&by_file), Vec::<&str>::new());
    assert_eq!(by_file.read_password().expect("it is read"), Password::from("secret"));

    assert_eq!(keys(&user), ["user"]);
    assert_eq!(keys(&EtcdConfig { user: String::new(), ..by_value.clone() }), ["user"]);
    assert_eq!(keys(&EtcdConfig { password_file, ..by_value }), ["password_file"]);
    for wrong in [file(&directory, "empty", "\n"), directory.path().join("absent")] {
        assert_eq!(keys(&EtcdConfig { password_file: wrong, ..user.clone() }), ["password_file"]);
    }
}

#[test]
fn files_of_tls_are_what_they_should_be() {
    let directory = tempfile::tempdir().expect("a directory");
    let (absent, text) = (directory.path().join("absent"), file(&directory, "text", "no PEM"));
    let of = |tls: TlsConfig| EtcdConfig { tls, ..EtcdConfig::default() };
    let tls = |ca: &PathBuf, cert: &PathBuf, key: &PathBuf| TlsConfig {
        ca: ca.clone(),
        cert: cert.clone(),
        key: key.clone(),
        server_name: String::new(),
    };
    assert_eq!(keys(&of(tls(&absent, &text, &absent))), ["tls.ca", "tls.cert", "tls.key"]);
    let unset = PathBuf::new();
    assert_eq!(keys(&of(tls(&text, &text, &unset))), ["tls.ca", "tls.cert", "tls.key"]);
    let wrong_name = TlsConfig { server_name: "no name".to_owned(), ..TlsConfig::default() };
    assert_eq!(keys(&of(wrong_name)), ["tls.server_name"]);
}

#[test]
fn a_scheme_that_is_left_out_is_what_tls_says() {
    let plain = EtcdConfig::default();
    let tls = TlsConfig { server_name: "etcd".to_owned(), ..TlsConfig::default() };
    let secure = EtcdConfig { tls, ..EtcdConfig::default() };
    assert_eq!(plain.url("a:1"), "http://a:1");
    assert_eq!(secure.url("a:1"), "https://a:1");
    assert_eq!(plain.url("https://a:1"), "https://a:1");
    let mixed = EtcdConfig { endpoints: vec!["http://a:1".to_owned()], ..secure };
    assert_eq!(keys(&mixed), ["endpoints"]);
}
