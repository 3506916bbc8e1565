#!/usr/bin/env bash
# Does all set-up and classifies the clip in examples/ with a ViViT-B of random weights, computed by our own kernels.
# Needs Python 3.10 or later and a C++17 compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/venv.sh

echo "== installing qora-vision" >&2
python -m pip install --quiet .

checkpoint=build/random-vivit-b
if [ ! -f "$checkpoint/model.safetensors" ]; then
    echo "== writing a ViViT-B checkpoint with random weights to $checkpoint" >&2
    python tools/make_random_vivit.py "$checkpoint"
fi

cat >&2 <<'NOTE'
== classifying examples/asl_eat.mkv
   The weights are random, so the labels below mean NOTHING: this shows the way from video to answer and its speed.
   For real answers give --model-path the directory of a trained ViViT checkpoint (config.json, model.safetensors).
NOTE
qora-vision vivit --video examples/asl_eat.mkv --model-path "$checkpoint"
