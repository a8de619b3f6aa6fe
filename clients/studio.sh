#!/usr/bin/env bash
# Serves the bundled models and the web studio for them, and opens it in the browser; Ctrl-C ends both.
# Usage: clients/studio.sh [OPTION OF facegen studio]...
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p out
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export FACEGEN_SERVER=127.0.0.1:$port

echo "Serving models/ on $FACEGEN_SERVER, its log in out/server.log"
facegen serve --engine onnx:models --address "$FACEGEN_SERVER" >out/server.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true' EXIT

# Without a display there is no browser to open, or one that takes over the terminal.
open=--no-open
if [[ $(uname) == Darwin || -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]]; then open=--open; fi
# The page waits for the server by itself.
facegen studio "$open" "$@" &
studio=$!
trap 'kill $studio $server 2>/dev/null; wait $studio $server 2>/dev/null || true' EXIT
trap 'exit 0' INT TERM
wait $studio
