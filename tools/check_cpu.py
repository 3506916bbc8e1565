"""Import the package on this CPU, real or emulated, classify a tiny clip, and compare with another CPU.

Run it once on a trusted CPU, which writes the logits, and then on each CPU with its instruction sets:

    python tools/check_cpu.py build/logits.npz
    qemu-x86_64 -cpu Nehalem .venv/bin/python tools/check_cpu.py build/logits.npz --isas scalar
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from tiny_vivit import write_tiny_vivit  # noqa: E402

import qora_vision  # noqa: E402

# Largest difference of a logit between CPUs, as a part of the largest logit: float32 sums in another order,
# and integer or bf16 operands that an instruction set chooses for itself.
TOLERANCE = {"exact": 1e-4, "auto": 0.1}


def classify() -> dict[str, np.ndarray]:
    """Return the logits of a tiny model in float32 and as `auto` computes it with 4-bit weights."""
    clip = np.random.default_rng(3).integers(0, 256, (4, 40, 48, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Path(directory) / "tiny"
        write_tiny_vivit(checkpoint)
        return {
            compute: qora_vision.load(checkpoint, weights=weights, compute=compute).classify(clip).logits
            for weights, compute in (("f32", "exact"), ("q4", "auto"))
        }


def faults(logits: dict[str, np.ndarray], trusted: dict[str, np.ndarray]) -> list[str]:
    """Say what differs from the trusted logits by more than it may."""
    found = []
    for compute, values in logits.items():
        allowed = TOLERANCE[compute] * np.abs(trusted[compute]).max()
        difference = np.abs(values - trusted[compute]).max()
        if not difference <= allowed:
            found.append(f"compute={compute!r}: logits differ by {difference:.2g}, allowed {allowed:.2g}")
    return found


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("logits", type=Path, help="file of the trusted logits (.npz)")
    parser.add_argument("--isas", help="instruction sets that have to be found, plainest first; then compare")
    arguments = parser.parse_args()
    cpu = qora_vision.cpu_info()
    logits = classify()
    if arguments.isas is None:
        arguments.logits.parent.mkdir(parents=True, exist_ok=True)
        np.savez(arguments.logits, **logits)
        return 0
    with np.load(arguments.logits) as trusted:
        wrong = faults(logits, dict(trusted))
    if cpu["isas"] != arguments.isas.split(","):
        wrong.append(f"found the instruction sets {', '.join(cpu['isas'])}, not {arguments.isas}")
    for fault in wrong:
        print(f"{cpu['name'] or 'this CPU'}: {fault}", file=sys.stderr)
    if not wrong:
        print(f"classified with {cpu['isa']}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
