//! Makes Rust of the protos, and one encoded descriptor set for each component. No protoc is needed: protox reads them.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use protox::prost::Message;

const ROOT: &str = "proto";
const ROLES: [&str; 3] = ["rootcoord", "querycoord", "querynode"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let file_of = |role: &str| format!("componenthost/{role}/v1/{role}.proto");
    for role in ROLES {
        let set = protox::compile([file_of(role)], [ROOT])?;
        fs::write(out_dir.join(format!("{role}.bin")), set.encode_to_vec())?;
    }
    // A search's queries are up to 64 MB and go to many nodes: as `Bytes` they are taken from the message that brought them,
    // and each node's request shares them.
    let shared =
        ["querycoord", "querynode"].map(|role| format!(".componenthost.{role}.v1.SearchRequest.packed_vectors"));
    let builder = shared.iter().fold(tonic_prost_build::configure(), |builder, field| builder.bytes(field));
    builder.compile_fds(protox::compile(ROLES.map(file_of), [ROOT])?)?;
    Ok(())
}
