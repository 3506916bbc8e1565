"""ViViT-B/16x2 from checkpoint to logits: seconds, bytes, and PyTorch on the same clip in the same run.

    python -m benchmarks.vivit [--rounds 5] [--threads 2] [--json FILE]

Writes a checkpoint with random weights to build/, then measures loading (with quantisation), saving, opening
the saved file, decoding and preprocessing the example clip, and the forward pass. Forward passes of all
configurations are interleaved round by round, so that a change of the machine's speed meets all of them; the
table quotes the minimum and the median. Peak memory comes from one fresh process for each configuration.
PyTorch (with transformers) takes part if it is installed.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import qora_vision
from benchmarks.peaks import measure_peaks

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "build" / "random-vivit-b"
CLIP = ROOT / "examples" / "asl_eat.mkv"
# Name -> weights and compute of `qora_vision.load`.
CONFIGURATIONS = {
    "q4 auto": ("q4", "auto"),
    "q8 auto": ("q8", "auto"),
    "f16 auto": ("f16", "auto"),
    "q4 bf16": ("q4", "bf16"),
    "f32 exact": ("f32", "exact"),
}
# Embedding, linear layers and attention of all 12 layers; a multiply-add counts twice.
GFLOP = 903.05


def timed(action: Callable[[], object]) -> tuple[float, object]:
    """Return seconds and result of an action."""
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


def measure_steps(threads: int) -> dict[str, float]:
    """Return seconds of every step around the forward pass, and the size of the saved file; best of three."""
    saved = CHECKPOINT.parent / "benchmark.qora-vision"
    steps: dict[str, list[float]] = {}
    for _ in range(3):
        seconds, clf = timed(lambda: qora_vision.load(CHECKPOINT, threads=threads))
        steps.setdefault("load checkpoint, quantise to q4", []).append(seconds)
        steps.setdefault("save", []).append(timed(lambda clf=clf: clf.save(saved))[0])
        steps.setdefault("load saved file", []).append(
            timed(lambda: qora_vision.load(saved, threads=threads))[0]
        )
        steps.setdefault("decode and preprocess", []).append(timed(lambda clf=clf: clf.preprocess(CLIP))[0])
    result = {f"{name} [s]": min(seconds) for name, seconds in steps.items()}
    result["saved file [MB]"] = saved.stat().st_size / 1e6
    saved.unlink()
    return result


def torch_runner(threads: int, pixels: np.ndarray) -> Callable[[], np.ndarray] | None:
    """Return a forward pass of the reference implementation, None where it is not installed."""
    try:
        import torch
        from transformers import VivitForVideoClassification
    except ImportError:
        return None
    torch.set_num_threads(threads)
    model = VivitForVideoClassification.from_pretrained(CHECKPOINT).eval()
    clip = torch.from_numpy(pixels)

    def run() -> np.ndarray:
        with torch.inference_mode():
            return model(clip).logits.numpy()

    return run


def measure_forward(threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Time interleaved forward passes; errors are relative to the largest float32 logit."""
    exact = qora_vision.load(CHECKPOINT, weights="f32", compute="exact", threads=threads)
    pixels = exact.preprocess(CLIP)
    reference = exact.forward(pixels)
    runners: dict[str, Callable[[], np.ndarray]] = {}
    for name, (weights, compute) in CONFIGURATIONS.items():
        clf = qora_vision.load(CHECKPOINT, weights=weights, compute=compute, threads=threads)
        runners[name] = lambda clf=clf: clf.forward(pixels)
    peer = torch_runner(threads, pixels)
    if peer is not None:
        runners["PyTorch fp32"] = peer
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    errors = {}
    for name, run in runners.items():  # warms up, and is not counted
        errors[name] = float(np.abs(run() - reference).max() / np.abs(reference).max())
    for _ in range(rounds):
        for name, run in runners.items():
            seconds[name].append(timed(run)[0])
    return {
        name: {"min [s]": min(times), "median [s]": statistics.median(times), "logit error": errors[name]}
        for name, times in seconds.items()
    }


PEAK_PROGRAM = """
import sys
if sys.argv[1] == "PyTorch fp32":
    import torch
    from transformers import VivitForVideoClassification
    import numpy as np
    pixels = np.load(sys.argv[4])
    model = VivitForVideoClassification.from_pretrained(sys.argv[2]).eval()
    with torch.inference_mode():
        model(torch.from_numpy(pixels))
else:
    import qora_vision
    weights, compute = sys.argv[1].split()
    qora_vision.load(sys.argv[2], weights=weights, compute=compute).classify(sys.argv[3])
# Not ru_maxrss, which a process inherits from the one that started it.
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def measure_memory(names: list[str]) -> dict[str, float]:
    """Return the peak resident megabytes of a process that loads the checkpoint and classifies one clip.

    Read from /proc: on other systems than Linux there is no figure.
    """
    if not sys.platform.startswith("linux"):
        return {}
    pixels = CHECKPOINT.parent / "pixels.npy"
    np.save(pixels, qora_vision.load(CHECKPOINT).preprocess(CLIP))
    peaks = {}
    for name in names:
        command = [sys.executable, "-c", PEAK_PROGRAM, name, str(CHECKPOINT), str(CLIP), str(pixels)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks[name] = int(output.split()[-1]) * 1024 / 1e6
    pixels.unlink()
    return peaks


def report(results: dict) -> str:
    """Lay the results out as text."""
    machine = results["machine"]
    peaks = ", ".join(f"{family} {peak:.0f}" for family, peak in results["peaks"].items())
    lines = [f"{machine['cpu']}, {machine['threads']} threads, {machine['isa']}"]
    lines += [f"  {name:<34}{value:8.3f}" for name, value in results["steps"].items()]
    lines += [f"peak of each operand type [Gop/s]: {peaks}", ""]
    lines.append(f"{'forward pass':<16}{'min s':>8}{'median s':>10}{'GFLOP/s':>9}{'peak MB':>9}  logit error")
    for name, row in results["forward"].items():
        lines.append(
            f"{name:<16}{row['min [s]']:8.3f}{row['median [s]']:10.3f}{GFLOP / row['min [s]']:9.0f}"
            f"{results['memory [MB]'].get(name, math.nan):9.0f}  {row['logit error']:.1e}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="counted forward passes of each configuration")
    parser.add_argument("--threads", type=int, default=qora_vision.cpu_info()["threads"])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    if not (CHECKPOINT / "model.safetensors").exists():
        subprocess.run(
            [sys.executable, str(ROOT / "tools" / "make_random_vivit.py"), str(CHECKPOINT)], check=True
        )
    info = qora_vision.cpu_info()
    qora_vision.set_num_threads(args.threads)
    results = {
        "machine": {
            "cpu": info["name"],
            "isa": info["isa"],
            "threads": args.threads,
            "platform": platform.platform(),
            "python": platform.python_version(),
            "qora_vision": qora_vision.__version__,
        },
        "steps": measure_steps(args.threads),
        "peaks": measure_peaks(args.threads),
        "forward": measure_forward(args.threads, args.rounds),
    }
    results["memory [MB]"] = measure_memory(list(results["forward"]))
    print(report(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
