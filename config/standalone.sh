#!/usr/bin/env bash
# Does all set-up and runs the main job: installs etcd where there is none, builds everything, starts etcd where none answers
# and runs RootCoord, QueryCoord and a QueryNode in one host, until Ctrl-C. Data is kept in `data/`.
set -euo pipefail
cd "$(dirname "$0")/.."

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/2379") 2>/dev/null
}

packages=()
command -v etcd >/dev/null || packages+=(etcd-server)
command -v cc >/dev/null || packages+=(gcc libc6-dev)
if [ "${#packages[@]}" -gt 0 ]; then
    as_root apt-get update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
fi

cargo build --release --workspace

mkdir -p data
chmod go-w data
if answers; then
    echo "taking the etcd that answers at 127.0.0.1:2379"
else
    # In a session of its own, so that Ctrl-C does not reach it: the host gives its sessions up first.
    setsid etcd --data-dir data/etcd --logger zap --log-level error >data/etcd.log 2>&1 &
    etcd=$!
    trap 'kill "$etcd" 2>/dev/null; wait "$etcd" 2>/dev/null || true' EXIT
    for _ in $(seq 100); do
        answers && break
        kill -0 "$etcd" 2>/dev/null || { cat data/etcd.log >&2; exit 1; }
        sleep 0.1
    done
    answers || { echo "etcd does not answer at 127.0.0.1:2379; see data/etcd.log" >&2; exit 1; }
fi

# Ctrl-C reaches the host by itself; what a service manager sends to this script is handed on.
target/release/componenthost --config config/standalone.toml &
host=$!
trap 'kill -TERM "$host" 2>/dev/null || true' TERM
trap '' INT
code=0
wait "$host" || code=$?
while kill -0 "$host" 2>/dev/null; do wait "$host" || code=$?; done
exit "$code"
