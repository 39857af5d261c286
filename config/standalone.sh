#!/usr/bin/env bash
# Does all set-up and runs the main job: builds everything and runs RootCoord, QueryCoord and a QueryNode in one host, with an
# etcd within it, until Ctrl-C. Needs Rust alone, and the C linker that Rust needs. Data is kept in `data/`.
set -euo pipefail
cd "$(dirname "$0")/.."

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

if ! command -v cc >/dev/null; then
    as_root apt-get update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev
fi

cargo build --release --workspace

mkdir -p data
chmod go-w data
# Debian's package of etcd starts one, and a machine's own is as good; the port is taken in any case.
if (exec 3<>"/dev/tcp/127.0.0.1/2379") 2>/dev/null; then
    echo "something listens at 127.0.0.1:2379: it is used as the etcd, and none runs within the host"
    export COMPONENTHOST_ETCD_EMBEDDED=false COMPONENTHOST_ETCD_DATA_DIR=
fi
exec target/release/componenthost --config config/standalone.toml
