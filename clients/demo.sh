#!/usr/bin/env bash
# Serves the bundled models, calls every main RPC through the client, and leaves pictures in out/.
# Usage: clients/demo.sh [PHOTO]
set -euo pipefail
cd "$(dirname "$0")/.."

photo=${1:-docs/pictures/astronaut.jpg}

mkdir -p out
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export FACEGEN_SERVER=127.0.0.1:$port

echo "Serving models/ on $FACEGEN_SERVER"
facegen serve --engine onnx:models --address "$FACEGEN_SERVER" >out/server.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true' EXIT
facegen health --wait --timeout-s 60 >/dev/null || { cat out/server.log >&2; exit 1; }

facegen models
facegen generate --count 64 --seed 7 --out out/faces --grid out/faces.png
facegen reconstruct "$photo" --face --out out/reconstruction --side-by-side out/reconstruction.png
facegen interpolate --seeds 7,8 --count 9 --out out/path --strip out/path.png
facegen edit --seed 7 --traverse Smiling --from -1 --to 1 --count 9 --strip out/smile.png --animation out/smile.webp
facegen edit "$photo" --face --more Black_Hair --out out/black-hair.jpg
facegen transfer "$photo" --all --out out/expressions.jpg
facegen transfer "$photo" --expression neutral --out out/neutral.jpg
facegen mesh generate --count 4 --seed 7 --format ply --out out/meshes
facegen mesh reconstruct out/meshes/*.ply --format glb --out out/meshes-again
facegen mesh interpolate --seeds 7,8 --count 9 --format obj --out out/mesh-path

cat <<END

64 faces, one file each     out/faces/
the same faces as one grid  out/faces.png
a photo and what it became  out/reconstruction.png
from one face to another    out/path.png
a face, and its smile       out/smile.png, out/smile.webp
a photo, with black hair    out/black-hair.jpg
a photo, five expressions   out/expressions.jpg
the same photo, no smile    out/neutral.jpg
four heads as meshes, PLY   out/meshes/
the same by their latents   out/meshes-again/ (glTF)
from one head to another    out/mesh-path/ (OBJ)
END
