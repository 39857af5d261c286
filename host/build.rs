//! Generates the host's own gRPC service, without a protoc, and the id of this build.

use std::error::Error;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use protox::prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let mut sources = DefaultHasher::new();
    for source in ["src", "proto", "build.rs", "../plugin-api/src", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={source}");
        hash(Path::new(source), &mut sources)?;
    }
    println!("cargo::rustc-env=BUILD_ID={:016x}", sources.finish());
    let descriptors = protox::compile(["componenthost/v1/host.proto"], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Kept for reflection: comments are of no use there.
    let mut for_reflection = descriptors.clone();
    for file in &mut for_reflection.file {
        file.source_code_info = None;
    }
    std::fs::write(out.join("host_descriptors.bin"), for_reflection.encode_to_vec())?;
    tonic_prost_build::configure().build_transport(false).compile_fds(descriptors)?;
    Ok(())
}

/// Names and contents of all files at or below a path, in order.
fn hash(path: &Path, hasher: &mut DefaultHasher) -> Result<(), Box<dyn Error>> {
    if path.is_dir() {
        let mut entries =
            std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| hash(entry, hasher));
    }
    path.hash(hasher);
    std::fs::read(path)?.hash(hasher);
    Ok(())
}
