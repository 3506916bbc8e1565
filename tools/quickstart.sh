#!/usr/bin/env bash
# Does all set-up and shows how the camera moves in the film that ships with the package, then in the clip in examples/.
# Needs Python 3.10 or later and a C++17 compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/venv.sh

echo "== installing qora-vision" >&2
python -m pip install --quiet .

echo "== classifying examples/asl_eat.mkv, whose camera stands still while a man signs" >&2
qora-vision classify examples/asl_eat.mkv --top-k 2

echo "== how the camera moves in the bundled film" >&2
mkdir -p build
qora-vision demo -o build/demo.mp4
