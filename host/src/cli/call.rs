//! `componenthost call`: one call of any method of any component, with JSON in and out.
//!
//! It finds the role in etcd, asks the host found there for its types (gRPC reflection), and calls. It is a client like
//! any other: it has no session and no link, so what it gets is what the called host answers.

mod codec;
mod failure;
mod lookup;
mod message;
mod method;
mod reflection;
mod way;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::stream;
use http::uri::PathAndQuery;
use plugin_api::identity::{Role, ServerId};
use plugin_api::refusal::Refusal;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

pub use failure::CallError;

use crate::config::Config;
use crate::etcd::EtcdConfig;
use crate::wire::Addressee;
use codec::DynamicCodec;

/// How long a call that is to be made again waits before that.
const PAUSE: Duration = Duration::from_millis(100);

/// What takes too long in [`CallError::Late`].
const CALL: &str = "the call";

const EXAMPLES: &str = r#"Examples:
  componenthost call rootcoord ShowCollections
  componenthost call querycoord ShowLoadedCollections --config config/querycoord.toml
  componenthost call querynode GetSegmentInfo --server-id 4 --json '{}'
  componenthost call querynode LoadSegments --address 127.0.0.1:21123 --json @request.json
  make-queries | componenthost call querycoord Search --timeout 30s --json -
  componenthost call querynode GetSegmentInfo --address node-4:21123 --ca ca.pem --cert me.pem --key me.key
  componenthost call rootcoord grpc.health.v1.Health/Check --etcd 10.0.0.5:2379 --root-path by-dev

Request and answer are the canonical JSON of protobuf, the answer with all fields: 64-bit integers
are texts, enums names, bytes base64. A field is called collection_name or collectionName. A search
takes {"vectors": [{"values": [1.5, 2]}]}, or many in {"packed_vectors": "<base64>"}: float32,
little-endian, one query after another; plugins/README.md shows both. Of a stream, each message
is one line. A method that takes a stream takes several JSON values, one after another.

Exit codes: 0 answered; 1 refused or failed, the reason is on standard error; 64 wrong command
line, request or configuration."#;

/// Call a method of a component, with JSON in and out
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CallArguments {
    /// The role, such as querycoord
    pub role: Role,
    /// The method: `Search`, `QueryCoord/Search`, or with the whole name of its service
    pub method: String,
    /// The request; `@FILE` reads a file, `-` or `@-` standard input
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub json: String,
    /// A configuration, for its sections etcd, cluster and tls; without it etcd's defaults
    #[arg(long, value_name = "FILE", env = crate::config::FILE_VARIABLE)]
    pub config: Option<PathBuf>,
    /// etcd's addresses, with commas; go before the configuration's
    #[arg(long, value_name = "ENDPOINTS", value_delimiter = ',')]
    pub etcd: Vec<String>,
    /// The first part of the keys in etcd; goes before the configuration's
    #[arg(long, value_name = "PATH")]
    pub root_path: Option<String>,
    /// The second part of the keys in etcd; goes before the configuration's
    #[arg(long, value_name = "PATH")]
    pub meta_sub_path: Option<String>,
    /// Call this address, and do not ask etcd
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["etcd", "root_path", "meta_sub_path"])]
    pub address: Option<String>,
    /// The authorities that vouch for the host, PEM; goes before the configuration's tls.ca
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The certificate to show, PEM; goes before the configuration's tls.cert
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its key, PEM; goes before the configuration's tls.key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// The DNS name of a role's certificate, such as {role}.blue.example; goes before the configuration's tls.names
    #[arg(long, value_name = "TEMPLATE")]
    pub names: Option<String>,
    /// Call another machine without TLS
    #[arg(long, conflicts_with_all = ["ca", "cert"])]
    pub plain_text: bool,
    /// Which of several hosts with the role
    #[arg(long, value_name = "ID")]
    pub server_id: Option<ServerId>,
    /// How long the call may last, and each step before it
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub timeout: Duration,
    /// Wait so long for a host with the role that takes the call: until one is registered, has started, or has taken over
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub wait: Option<Duration>,
}

/// Whom to call.
#[derive(Clone, Debug)]
struct Target {
    address: String,
    addressee: Addressee,
}

/// Makes the call, prints the answer or what is wrong, and says with which code to exit.
pub async fn run(arguments: CallArguments) -> u8 {
    match call(&arguments, &mut std::io::stdout()).await {
        Ok(()) => 0,
        Err(error) => {
            super::report(&mut std::io::stderr(), &error);
            error.exit_code()
        }
    }
}

/// Makes the call and writes the answer to `out`.
///
/// # Errors
///
/// See [`CallError`]; its text is for the user, [`CallError::exit_code`] for the shell.
pub async fn call(arguments: &CallArguments, out: &mut (dyn Write + Send)) -> Result<(), CallError> {
    let text = request_text(&arguments.json)?;
    let config = arguments.config.as_deref().map(Config::load).transpose()?;
    let until = Instant::now() + arguments.wait.unwrap_or_default();
    loop {
        let failed = match attempt(arguments, config.as_ref(), &text, until, out).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        // Nobody has executed it, and the next one may be found elsewhere.
        if !failed.may_pass(arguments.role.as_str()) || Instant::now() + PAUSE >= until {
            return Err(failed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Makes the call once, at the host that is found now.
async fn attempt(
    arguments: &CallArguments,
    config: Option<&Config>,
    text: &str,
    until: Instant,
    out: &mut (dyn Write + Send),
) -> Result<(), CallError> {
    let target = find(arguments, config, until).await?;
    let (channel, trace) = way::connect(arguments, config, &target.address).await?;
    let services = limited(arguments, "asking for the types", reflection::services(channel.clone())).await?;
    let services = services.map_err(|source| match trace.told() {
        // A certificate is refused after the handshake.
        Some(fault) => CallError::Tls { address: target.address.clone(), fault },
        None => CallError::Reflection { address: target.address.clone(), source },
    })?;
    let method = match method::find(&services, &arguments.role, &arguments.method) {
        Ok(method) => method,
        Err(unknown) if services.iter().any(|service| method::is_of(service, arguments.role.as_str())) => {
            return Err(unknown);
        }
        // A component that has never started has told nobody its types; its host knows how it stands.
        Err(unknown) => {
            let refused = limited(arguments, CALL, refusal(arguments, &target.addressee, channel)).await?;
            return Err(refused.map_or(unknown, |status| CallError::Refused(Box::new(status))));
        }
    };
    let messages = message::parse(text, &method)?;
    let request = request(arguments, &target.addressee, stream::iter(messages));
    let since = Instant::now();
    let sent = limited(arguments, CALL, send(channel, method, request, out)).await?;
    sent.map_err(|error| match error {
        // The same limit, seen by tonic or the called host a moment before it is seen here.
        CallError::Refused(status) if is_deadline(status.code()) && since.elapsed() >= arguments.timeout => {
            CallError::Late { doing: CALL, limit: arguments.timeout }
        }
        other => other,
    })
}

/// The codes of an expired time limit: gRPC's, and the one that tonic gives in its place.
fn is_deadline(code: Code) -> bool {
    matches!(code, Code::DeadlineExceeded | Code::Cancelled)
}

/// The JSON text that `--json` means.
fn request_text(json: &str) -> Result<String, CallError> {
    let unreadable = |source| CallError::Request { from: json.to_owned(), source };
    if json == "-" || json == "@-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
        return Ok(text);
    }
    match json.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).map_err(unreadable),
        None => Ok(json.to_owned()),
    }
}

async fn find(arguments: &CallArguments, config: Option<&Config>, until: Instant) -> Result<Target, CallError> {
    let role = arguments.role.clone();
    if let Some(address) = arguments.address.clone() {
        let addressee = Addressee { cluster: None, server_id: arguments.server_id, role: Some(role) };
        return Ok(Target { address, addressee });
    }
    let etcd = etcd_config(arguments, config);
    let host = lookup::find(&etcd, &role, arguments.server_id, until).await?;
    // Without the configuration the cluster's name is not known: it need not be the root path.
    let cluster = config.map(|config| config.cluster_name().to_owned());
    let addressee = Addressee { cluster, server_id: Some(host.server_id), role: Some(role) };
    Ok(Target { address: host.address, addressee })
}

fn etcd_config(arguments: &CallArguments, config: Option<&Config>) -> EtcdConfig {
    let mut etcd = config.map(|config| config.etcd.clone()).unwrap_or_default();
    if !arguments.etcd.is_empty() {
        etcd.endpoints = arguments.etcd.clone();
    }
    if let Some(path) = &arguments.root_path {
        etcd.root_path = path.clone();
    }
    if let Some(path) = &arguments.meta_sub_path {
        etcd.meta_sub_path = path.clone();
    }
    etcd
}

type Messages = stream::Iter<std::vec::IntoIter<DynamicMessage>>;

fn request<T>(arguments: &CallArguments, addressee: &Addressee, messages: T) -> Request<T> {
    let mut request = Request::new(messages);
    request.set_timeout(arguments.timeout);
    let mut headers = std::mem::take(request.metadata_mut()).into_headers();
    addressee.metadata().write(&mut headers);
    *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
    request
}

/// The refusal with which the host answers any call of the role, where it refuses them all.
async fn refusal(arguments: &CallArguments, addressee: &Addressee, channel: Channel) -> Option<Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.ok()?;
    // No service has this name: only the metadata says who is meant.
    let path = PathAndQuery::from_static("/componenthost/State");
    let answer = grpc.unary(request(arguments, addressee, ()), path, ProstCodec::<(), ()>::default()).await;
    answer.err().filter(|status| Refusal::from_status(status).is_some())
}

/// Sends every kind of call as a stream of requests with a stream of answers: on the wire they are the same.
async fn send(
    channel: Channel,
    method: MethodDescriptor,
    request: Request<Messages>,
    out: &mut (dyn Write + Send),
) -> Result<(), CallError> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let path = path.parse().expect("names of protobuf make a path");
    let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    grpc.ready().await.map_err(|source| CallError::Broken { source })?;
    let answer = grpc.streaming(request, path, DynamicCodec(method.output())).await;
    let mut answers = answer.map_err(|status| CallError::Refused(Box::new(status)))?.into_inner();
    while let Some(answer) = answers.message().await.map_err(|status| CallError::Refused(Box::new(status)))? {
        let text = message::to_json(&answer, !method.is_server_streaming());
        writeln!(out, "{text}").map_err(|source| CallError::Output { source })?;
    }
    Ok(())
}

/// The same, for at most `--timeout`.
async fn limited<T>(
    arguments: &CallArguments,
    doing: &'static str,
    future: impl Future<Output = T>,
) -> Result<T, CallError> {
    let late = |_| CallError::Late { doing, limit: arguments.timeout };
    tokio::time::timeout(arguments.timeout, future).await.map_err(late)
}
