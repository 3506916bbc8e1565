"""The cost of quantised weights in a trained model: top-1, logits, agreement with float32.

    python -m benchmarks.quantisation drifting-gratings CHECKPOINT [--clips 4000] [--layers]
    python -m benchmarks.quantisation camera-motion training/camera_motion/checkpoint

Every form of the weights is compared, on the same held-out clips of the task that the checkpoint was trained
for, with float32 weights and float32 arithmetic. "largest" is the rule that the search replaced, here for
comparison: the value of largest magnitude alone decides a group's scale. Calibrated weights have seen clips
that are neither in the training set of the task's recipe nor among those they are judged on. --layers
quantises one kind of layer at a time to 4 bits, everything else staying float32: which of them matter.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import qora_vision
from qora_vision import VideoClassifier
from qora_vision.engine.ops import Compute, Engine, quantize
from qora_vision.engine.tensors import QuantizedTensor, Tensor
from qora_vision.loading.calibration import calibrate
from qora_vision.loading.model import LoadedModel
from qora_vision.loading.options import LoadOptions
from qora_vision.loading.resolve import load_network
from qora_vision.video import as_frames

# (T, H, W, 3) uint8 and the number of its class.
Example = tuple[NDArray[np.uint8], int]


def gratings(split: str, count: int) -> Iterator[Example]:
    """Yield clips of training/drifting_gratings, of other seeds than the recipe's own."""
    from training.drifting_gratings.data import make_clips

    for i in range(count):
        clips, labels = make_clips({"calibrate": 11, "judge": 12}[split], i, 1)
        yield clips[0], int(labels[0])


def camera_motion(split: str, count: int) -> Iterator[Example]:
    """Yield windows of training/camera_motion over held-out photographs; the splits have disjoint numbers."""
    from training.camera_motion.data import sample

    first = 0 if split == "judge" else 1_000_000
    for i in range(first, first + count):
        made = sample("photographs", i)
        yield made.clip, int(made.label)


TASKS: dict[str, Callable[[str, int], Iterator[Example]]] = {
    "drifting-gratings": gratings,
    "camera-motion": camera_motion,
}


@dataclass(frozen=True)
class Row:
    """One form of a model on all clips."""

    name: str
    compute: str
    megabytes: float
    logits: NDArray[np.float32]


def by_largest_value(weight: NDArray[np.float32], kind: str) -> QuantizedTensor:
    """Quantise with the scale that the value of largest magnitude gives: it becomes -8, or ±127."""
    rows, columns = len(weight), math.prod(weight.shape[1:])
    groups = np.zeros((rows, -(-columns // 32) * 32), np.float32)
    groups[:, :columns] = weight.reshape(rows, columns)
    groups = groups.reshape(rows, -1, 32)
    peak = np.take_along_axis(groups, np.abs(groups).argmax(axis=-1)[..., None], axis=-1)
    low, high = (-8, 7) if kind == "q4" else (-127, 127)
    scales = (peak / low if kind == "q4" else np.abs(peak) / high).astype(np.float16)
    wide = scales.astype(np.float32)
    levels = np.divide(groups, wide, out=np.zeros_like(groups), where=wide != 0)
    q = np.clip(np.rint(levels), low, high).astype(np.int8).reshape(rows, -1)
    biased = (q + 8).astype(np.uint8)
    data = q if kind == "q8" else biased[:, 0::2] | biased[:, 1::2] << 4
    return QuantizedTensor(kind, weight.shape, data, scales[..., 0])


def with_weights(
    model: LoadedModel, change: Callable[[str, NDArray[np.float32]], Tensor], name: str
) -> LoadedModel:
    """Return the model with each large weight replaced, and tables in half precision."""
    specs = model.config.tensor_specs()
    tensors: dict[str, Tensor] = {}
    for key, tensor in model.file.tensors.items():
        values = np.asarray(tensor)
        storage = specs[key].storage
        tensors[key] = (
            change(key, values)
            if storage == "weight"
            else values.astype(np.float16)
            if storage == "table"
            else values
        )
    return replace(model, file=replace(model.file, quantization=name, tensors=tensors))


def measure(name: str, model: LoadedModel, compute: Compute, clips: NDArray[np.float32]) -> Row:
    """Run one form of a model over all clips."""
    classifier = VideoClassifier(model, Engine(compute))
    logits = np.concatenate([classifier.forward(clip[None]) for clip in clips])
    size = sum(tensor.nbytes for tensor in model.file.tensors.values())
    return Row(name, compute, size / 1e6, logits)


def report(rows: list[Row], labels: NDArray[np.int64]) -> None:
    """Print a table; the first row is what the others are compared with."""
    exact = rows[0].logits
    right = exact.argmax(axis=1) == labels
    spread = np.abs(exact - exact.mean(axis=1, keepdims=True)).mean()
    print(f"\n{len(labels)} clips; mean |logit| about the clip's mean: {spread:.3f}\n")
    print("| weights | arithmetic | MB | top-1 | change, points | same class as exact | mean logit error |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        found = row.logits.argmax(axis=1)
        now_right = found == labels
        gained, lost = int((now_right & ~right).sum()), int((right & ~now_right).sum())
        # Only clips that change sides carry the difference: its standard error is that of their number.
        error = 100 * math.sqrt(gained + lost) / len(labels)
        change = f"{100 * (gained - lost) / len(labels):+.2f} ± {error:.2f}"
        same = 100 * (found == exact.argmax(axis=1)).mean()
        print(
            f"| {row.name} | {row.compute} | {row.megabytes:.2f} | {100 * now_right.mean():.2f} % | {change} "
            f"| {same:.2f} % | {np.abs(row.logits - exact).mean():.4f} |"
        )


def forms(
    model: LoadedModel, clips: NDArray[np.float32], calibration: list[NDArray[np.uint8]]
) -> Iterator[Row]:
    """Yield every form of the weights."""
    yield measure("float32", model, "exact", clips)
    half = with_weights(model, lambda _, values: values.astype(np.float16), "f16")
    yield measure("half precision", half, "auto", clips)
    yield measure("half precision", half, "int8", clips)
    sources = [as_frames(clip) for clip in calibration]
    for kind in ("q8", "q4"):
        made: Mapping[str, LoadedModel] = {
            "largest": with_weights(model, lambda _, w, kind=kind: by_largest_value(w, kind), kind),
            "search": with_weights(model, lambda _, w, kind=kind: quantize(w, kind), kind),
            "calibrated": calibrate(model, sources, LoadOptions(kind)),
        }
        yield measure(f"{kind}, search", made["search"], "exact", clips)
        for rule, form in made.items():
            yield measure(f"{kind}, {rule}", form, "auto", clips)
        yield measure(f"{kind}, calibrated", made["calibrated"], "int8", clips)


def by_layer(model: LoadedModel, clips: NDArray[np.float32]) -> Iterator[Row]:
    """Yield the model with one kind of layer in 4 bits, the others in float32."""
    yield measure("float32", model, "exact", clips)
    specs = model.config.tensor_specs()
    kinds = dict.fromkeys(
        name.removesuffix(".weight").split(".", 2)[-1] if name.startswith("blocks.") else name[:-7]
        for name, spec in specs.items()
        if spec.storage == "weight"
    )
    joint = {"attn.q", "attn.k", "attn.v"}  # packed together, so of one kind
    for kind in dict.fromkeys("attn.qkv" if kind in joint else kind for kind in kinds):
        endings = [f"{name}.weight" for name in (sorted(joint) if kind == "attn.qkv" else [kind])]

        def change(name: str, values: NDArray[np.float32], endings: list[str] = endings) -> Tensor:
            return quantize(values, "q4") if name.endswith(tuple(endings)) else values

        yield measure(f"only {kind} in q4", with_weights(model, change, "q4"), "exact", clips)


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("checkpoint", type=Path, help="Hugging Face directory of the trained model")
    parser.add_argument("--clips", type=int, default=4000, help="held-out clips (default: %(default)s)")
    parser.add_argument("--calibrate", type=int, default=32, help="clips to calibrate on (default: 32)")
    parser.add_argument("--layers", action="store_true", help="one kind of layer at a time instead")
    arguments = parser.parse_args()
    started = time.perf_counter()
    model = load_network(arguments.checkpoint, LoadOptions("f32"))
    reader = VideoClassifier(model, Engine("exact"))
    examples = list(TASKS[arguments.task]("judge", arguments.clips))
    labels = np.array([label for _, label in examples])
    clips = np.concatenate([reader.preprocess(clip) for clip, _ in examples])
    del examples
    print(f"{arguments.task}: {arguments.checkpoint.name}, {reader.isa}, {qora_vision.cpu_info()['name']}")
    if arguments.layers:
        rows = list(by_layer(model, clips))
    else:
        seen = [clip for clip, _ in TASKS[arguments.task]("calibrate", arguments.calibrate)]
        rows = list(forms(model, clips, seen))
    report(rows, labels)
    print(f"\n{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
