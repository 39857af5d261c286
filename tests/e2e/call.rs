//! `componenthost call` against a small server with reflection: the host's own service, with answers a test can tell.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use componenthost::cli::call::{CallError, call};
use componenthost::cli::{self, Command};
use componenthost::cluster::{Keys, Record};
use componenthost::wire::v1::host_server::{Host, HostServer};
use componenthost::wire::v1::{
    ComponentInfo, ComponentStates, FILE_DESCRIPTOR_SET, GetComponentStatesRequest, GetIdentityRequest,
    GetIdentityResponse, KeyValuePair, RoleState, StateCode,
};
use plugin_api::identity::Role;
use plugin_api::refusal::{Reason, Refusal};
use serde_json::{Value, json};
use tests::etcd;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};

/// Answers its requests' own words.
struct Mirror;

#[tonic::async_trait]
impl Host for Mirror {
    /// The role `refused` is refused, `never` is not answered; any other comes back.
    async fn get_identity(
        &self,
        request: Request<GetIdentityRequest>,
    ) -> Result<Response<GetIdentityResponse>, Status> {
        let request = request.into_inner();
        match request.role.as_str() {
            "refused" => Err(Refusal::new(Reason::Standby, "in standby").with("state_code", "StandBy").into_status()),
            "never" => std::future::pending().await,
            role => {
                let role =
                    RoleState { role: role.to_owned(), state_code: StateCode::Healthy.into(), ..RoleState::default() };
                let server_id = request.wait_ms;
                Ok(Response::new(GetIdentityResponse {
                    server_id,
                    roles: vec![role],
                    ..GetIdentityResponse::default()
                }))
            }
        }
    }

    /// The request's metadata, as the extra info of the host's state.
    async fn get_component_states(
        &self,
        request: Request<GetComponentStatesRequest>,
    ) -> Result<Response<ComponentStates>, Status> {
        let pair = |name: &str| {
            let value = request.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            KeyValuePair { key: name.to_owned(), value: value.to_owned() }
        };
        let names = ["cluster", "serverid", "componenthost-role", "componenthost-wait-ms"];
        let extra_info = names.map(pair).to_vec();
        let state = ComponentInfo { extra_info, ..ComponentInfo::default() };
        Ok(Response::new(ComponentStates { state: Some(state), ..ComponentStates::default() }))
    }
}

/// A server that ends with the test.
struct Server {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(true).await
    }

    async fn start_with(reflection: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let reflection = reflection.then(|| {
            let builder = tonic_reflection::server::Builder::configure();
            let builder = builder.register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET);
            let builder = builder.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
            builder.build_v1().expect("descriptors")
        });
        let (_, health) = tonic_health::server::health_reporter();
        let server = tonic::transport::Server::builder()
            .add_service(HostServer::new(Mirror))
            .add_service(health)
            .add_optional_service(reflection)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { server.await.expect("it serves") });
        Self { address, _task: AbortOnDropHandle::new(task) }
    }

    async fn call(&self, method: &str, json: &str) -> Result<String, CallError> {
        let address = self.address.to_string();
        run(&["rootcoord", method, "--address", &address, "--json", json]).await
    }
}

/// What the command prints.
async fn run(arguments: &[&str]) -> Result<String, CallError> {
    let arguments = ["componenthost", "call"].iter().chain(arguments).map(OsString::from);
    let Ok(Command::Call(arguments)) = cli::parse(arguments) else { panic!("not understood") };
    let mut out = Vec::new();
    call(&arguments, &mut out).await?;
    Ok(String::from_utf8(out).expect("JSON is UTF-8"))
}

fn text(result: Result<String, CallError>) -> (u8, String) {
    let error = result.expect_err("no answer");
    (error.exit_code(), error.to_string())
}

#[tokio::test]
async fn a_method_is_found_by_each_of_its_names() {
    let server = Server::start().await;
    for name in [
        "GetIdentity",
        "Host/GetIdentity",
        "Host.GetIdentity",
        "componenthost.v1.Host/GetIdentity",
        "componenthost.v1.Host.GetIdentity",
        "/componenthost.v1.Host/GetIdentity",
    ] {
        let answer = server.call(name, r#"{"role": "a", "wait_ms": "9007199254740993"}"#).await.expect(name);
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["serverId"], "9007199254740993", "{name}");
        assert_eq!(
            answer["roles"][0],
            json!({ "role": "a", "stateCode": "Healthy", "fenced": false, "generation": "0" })
        );
    }
}

#[tokio::test]
async fn an_unknown_method_lists_those_that_there_are() {
    let server = Server::start().await;
    for name in ["Serach", "Nobody/Check", "Health/Search"] {
        let (code, text) = text(server.call(name, "{}").await);
        let lists = text.contains("\n  componenthost.v1.Host/GetIdentity\n")
            && text.contains("\n  grpc.health.v1.Health/Check");
        assert!(code == 64 && lists, "{code} {text}");
    }
}

#[tokio::test]
async fn a_refusal_shows_its_details_and_ends_with_1() {
    let server = Server::start().await;
    let shown = text(server.call("GetIdentity", r#"{"role": "refused"}"#).await);
    let expected =
        "UNAVAILABLE: in standby\n  reason: STANDBY\n  domain: componenthost\n  executed: no\n  state_code: StandBy";
    assert_eq!(shown, (1, expected.to_owned()));
    let (code, text) = text(server.call("Health/Check", r#"{"service": "none"}"#).await);
    assert!(code == 1 && text.starts_with("NOT_FOUND: "), "{code} {text}");
}

#[tokio::test]
async fn bad_json_names_every_wrong_field() {
    let server = Server::start().await;
    let (code, shown) = text(server.call("GetIdentity", r#"{"wait_ms": "long", "rol": "a", "role": 3}"#).await);
    assert_eq!(code, 64);
    for part in ["componenthost.v1.GetIdentityRequest:", "\n  wait_ms: ", "\n  rol: no field of", "\n  role: "] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    for (json, part) in
        [("{", "EOF"), ("3", "GetIdentityRequest: invalid type"), ("{} {}", "2 values"), ("", "0 values")]
    {
        let (code, shown) = text(server.call("GetIdentity", json).await);
        assert!(code == 64 && shown.contains(part), "{json}: {shown}");
    }
}

#[tokio::test]
async fn a_nested_mistake_is_named_with_its_path() {
    let server = Server::start().await;
    let json = r#"{"fileContainingExtension": {"containingType": "a", "extensionNumber": "x"}}"#;
    let (_, shown) = text(server.call("ServerReflectionInfo", json).await);
    assert!(shown.contains("\n  fileContainingExtension.extensionNumber: "), "{shown}");
}

#[tokio::test]
async fn a_stream_goes_in_as_many_values_and_comes_out_one_a_line() {
    let server = Server::start().await;
    let json = r#"{"listServices": ""} {"fileContainingSymbol": "nothing"}"#;
    let answer = server.call("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", json).await;
    // The server ends the stream with an error at the second question; the first answer is out by then.
    let (code, _) = text(answer);
    assert_eq!(code, 1);
    let twice = r#"{"listServices": ""}
                   {"listServices": ""}"#;
    let answer = server.call("ServerReflectionInfo", twice).await.expect("two answers");
    assert_eq!(answer.lines().count(), 2, "{answer}");
    for line in answer.lines() {
        let line: Value = serde_json::from_str(line).expect("a message in a line");
        assert!(line["listServicesResponse"]["service"].as_array().is_some_and(|all| all.len() == 3), "{line}");
    }
}

#[tokio::test]
async fn a_call_ends_at_its_timeout() {
    let server = Server::start().await;
    let address = server.address.to_string();
    let json = r#"{"role": "never"}"#;
    let arguments = ["rootcoord", "GetIdentity", "--address", &address, "--json", json, "--timeout", "200ms"];
    let ended = tokio::time::timeout(Duration::from_secs(5), run(&arguments)).await.expect("it ends by itself");
    let (code, shown) = text(ended);
    assert!(code == 1, "{shown}");
    assert!(shown.contains("200ms"), "{shown}");
}

#[tokio::test]
async fn a_server_without_reflection_and_an_address_without_a_server_say_so() {
    let server = Server::start_with(false).await;
    let (code, shown) = text(server.call("GetIdentity", "{}").await);
    assert!(code == 1 && shown.contains("gRPC reflection"), "{code} {shown}");
    let (code, shown) = text(run(&["rootcoord", "GetIdentity", "--address", "127.0.0.1:1"]).await);
    assert!(code == 1 && shown.contains("cannot connect to 127.0.0.1:1"), "{code} {shown}");
    let (code, _) = text(run(&["rootcoord", "GetIdentity", "--address", "no address"]).await);
    assert_eq!(code, 64);
}

#[tokio::test]
async fn the_role_is_found_in_etcd_and_its_host_is_addressed() {
    let (etcd, server) = (etcd::shared().await, Server::start().await);
    let (endpoint, prefix) = (etcd.endpoint(), etcd.prefix());
    let find = ["--etcd", endpoint.as_str(), "--root-path", prefix.as_str()];
    let ask = |role: &'static str, more: &'static [&'static str]| {
        let arguments = [&[role, "GetComponentStates"][..], &find, more].concat();
        async move { run(&arguments).await }
    };
    let (code, shown) = text(ask("rootcoord", &[]).await);
    assert!(code == 1 && shown.ends_with("registered are: none"), "{code} {shown}");

    let keys = Keys::new(&prefix, "meta");
    let nodes = [("querynode", 7, false), ("querynode", 8, false), ("rootcoord", 9, true)];
    for (role, server_id, exclusive) in nodes {
        let address = server.address.to_string();
        let record = Record { server_id, server_name: role.to_owned(), address, exclusive, ..Record::default() };
        let role = Role::new(role).expect("a role");
        etcd.put_session(&keys, &role, &record, Duration::from_secs(60)).await;
    }
    let answer: Value =
        serde_json::from_str(&ask("rootcoord", &["--wait", "2s"]).await.expect("an answer")).expect("JSON");
    let sent: Vec<_> =
        answer["state"]["extraInfo"].as_array().expect("pairs").iter().map(|pair| &pair["value"]).collect();
    assert_eq!(sent, ["", "9", "rootcoord", ""], "whom the call means; the wait is for etcd alone");

    let (code, shown) = text(ask("querycoord", &[]).await);
    assert!(code == 1 && shown.contains("\n  rootcoord (server id 9) at"), "{code} {shown}");
    let (code, shown) = text(ask("querynode", &[]).await);
    assert!(code == 64 && shown.contains("querynode (server id 8) at"), "{code} {shown}");
    ask("querynode", &["--server-id", "8"]).await.expect("the chosen one answers");
    let (code, shown) = text(ask("querynode", &["--server-id", "5"]).await);
    assert!(code == 1 && shown.contains("server id 5"), "{code} {shown}");
}

#[tokio::test]
async fn the_configuration_says_where_etcd_is_and_what_the_cluster_is_called() {
    let (etcd, server) = (etcd::shared().await, Server::start().await);
    let prefix = etcd.prefix();
    let address = server.address.to_string();
    let record =
        Record { server_id: 3, server_name: "rootcoord".to_owned(), address, exclusive: true, ..Record::default() };
    let role = Role::new("rootcoord").expect("a role");
    etcd.put_session(&Keys::new(&prefix, "meta"), &role, &record, Duration::from_secs(60)).await;
    let config = tests::HostConfig::new()
        .set("etcd.endpoints", vec![etcd.endpoint()])
        .set("etcd.root_path", prefix)
        .set("cluster.name", "mine")
        .set("component.rootcoord.plugin", "rootcoord");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("host.toml");
    config.write(&file);
    let file = file.to_str().expect("UTF-8");
    let answer = run(&["rootcoord", "GetComponentStates", "--config", file]).await.expect("an answer");
    assert!(answer.contains("\"mine\""), "{answer}");
    config.set("etcd.root_pth", "x").write(std::path::Path::new(file));
    let (code, shown) = text(run(&["rootcoord", "GetComponentStates", "--config", file]).await);
    assert!(code == 64 && shown.contains("etcd.root_path"), "{code} {shown}");
}

#[tokio::test]
async fn a_call_that_waits_is_answered_after_a_takeover_and_by_whoever_comes() {
    let cluster = tests::Cluster::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let data = json!({ "data_dirs": [directory.path()] });
    let config = cluster.config().component("rootcoord", "rootcoord", data);
    let file = directory.path().join("host.toml");
    config.write(&file);
    let file = file.to_str().expect("UTF-8").to_owned();
    let ask = |wait: &'static str| {
        let file = file.clone();
        async move { run(&["rootcoord", "ShowCollections", "--config", &file, "--wait", wait]).await }
    };
    let early = tokio::spawn(ask("60s"));
    let active = cluster.host(config.clone()).await;
    early.await.expect("no panic").expect("whoever comes answers when it has started");
    let standby = cluster.host(config).await;
    standby.in_state("rootcoord", "StandBy").await;
    active.kill9();
    // Its key is there for as long as its lease, and then the standby has not served yet.
    let (code, shown) = text(ask("0s").await);
    assert!(code == 1, "{code} {shown}");
    ask("60s").await.expect("the other one answers when it has taken over");
    standby.assert_running();
}

/// What the program prints on standard output and standard error, as people see it.
async fn printed(arguments: &[&str], input: std::process::Stdio) -> (String, String) {
    let mut command = std::process::Command::new(tests::binary::binary());
    command.arg("call").args(arguments).env_clear().stdin(input);
    // The server that it calls is served by this very thread.
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.expect("it can be started");
    let text = |bytes| String::from_utf8(bytes).expect("it writes UTF-8");
    (text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn each_cause_is_printed_once() {
    let error = async |arguments: &[&str]| {
        let check = [&["rootcoord", "Check"], arguments].concat();
        printed(&check, std::process::Stdio::null()).await.1
    };
    let refused = error(&["--address", "127.0.0.1:1"]).await;
    assert_eq!(refused, "cannot connect to 127.0.0.1:1: Connection refused (os error 111)\n");
    let server = Server::start_with(false).await;
    let address = server.address.to_string();
    let untold = error(&["--address", &address]).await;
    let expected = "does not tell its types by gRPC reflection (grpc.reflection.v1): UNIMPLEMENTED: \n";
    assert_eq!(untold, format!("{address} {expected}"));
    let unread = error(&["--address", &address, "--ca", "/none.pem"]).await;
    let system = "No such file or directory (os error 2)";
    assert_eq!(unread, format!("no TLS ([tls], --ca, --cert, --key): \"/none.pem\" cannot be read: {system}\n"));
    let request = error(&["--address", &address, "--json", "@/none.json"]).await;
    assert_eq!(request, format!("cannot read the request from '@/none.json': {system}\n"));
}

#[tokio::test]
async fn a_request_is_taken_from_a_file_and_from_standard_input() {
    let server = Server::start().await;
    let address = server.address.to_string();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("request.json");
    std::fs::write(&file, r#"{"role": "of-a-file"}"#).expect("it is writable");
    let named = format!("@{}", file.display());
    for json in [named.as_str(), "-", "@-"] {
        let input = std::fs::File::open(&file).expect("it is readable");
        let arguments = ["rootcoord", "GetIdentity", "--address", &address, "--json", json];
        let (answer, error) = printed(&arguments, input.into()).await;
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{json}: {error}"));
        assert_eq!(answer["roles"][0]["role"], "of-a-file", "{json}");
    }
}
