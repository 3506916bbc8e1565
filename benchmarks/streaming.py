"""TRecViT-B frame by frame: time a frame, size of the state, and whether memory grows.

    python -m benchmarks.streaming [--frames 300] [--size 224] [--weights q4] [--threads 2]

The weights are random. Frames are of noise, a new one each time; memory is read after the first tenth of them
and at the end. A stream of any length costs the same a frame, so `--size 64 --frames 10000` shows in minutes
what a stream of hours does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import (
    describe_machine,
    figure,
    finish,
    machine_line,
    make_parser,
    resident,
    summary,
    table,
    timed,
)
from qora_vision.engine.ops import Engine
from qora_vision.loading.conversion import store
from qora_vision.models.trecvit.network import Trecvit, TrecvitConfig


def random_model(config: TrecvitConfig, weights: Any, threads: int) -> Trecvit:
    """Return a TRecViT with normal weights of deviation 0.02, stored as asked."""
    rng = np.random.default_rng(0)
    tensors = {
        name: store(rng.standard_normal(spec.shape, np.float32) * np.float32(0.02), spec, weights, threads)
        for name, spec in config.tensor_specs().items()
    }
    return Trecvit(config).with_weights(tensors, Engine("auto", threads=threads))


def measure(arguments: Any) -> dict[str, Any]:
    """Run the stream and return the results."""
    config = TrecvitConfig(num_classes=400, image_size=(arguments.size, arguments.size))
    model = random_model(config, arguments.weights, arguments.threads)
    state = model.new_state()
    rng = np.random.default_rng(1)
    warm = arguments.frames // 10
    runs, early = [], None
    for number in range(arguments.frames):
        if number == warm:
            early = resident()
        frame = rng.random((1, *config.clip_shape[1:]), np.float32)
        runs.append(timed(lambda frame=frame: model.step(frame, state))[0])
    late = resident()
    return {
        "command": f"python -m benchmarks.streaming --size {arguments.size} --frames {arguments.frames}",
        "machine": describe_machine(arguments.threads),
        "model": f"TRecViT-B, frames of {arguments.size} px, {arguments.weights}",
        "step": summary(runs[warm:]),
        "state [MB]": state.nbytes / 1e6,
        "weights [MB]": model.nbytes / 1e6,
        "resident [MB]": {"after a tenth": early, "at the end": late},
    }


def report(results: dict[str, Any]) -> str:
    """Lay the results out as text."""
    step, memory = results["step"], results["resident [MB]"]
    rows = [
        ["ms a frame, min", figure(step["min [s]"] * 1e3)],
        ["ms a frame, median", figure(step["median [s]"] * 1e3)],
        ["frames a second, by the median", figure(1 / step["median [s]"])],
        ["state, MB", figure(results["state [MB]"])],
        ["weights in memory, MB", figure(results["weights [MB]"])],
        ["resident after a tenth, MB", figure(memory["after a tenth"], 4)],
        ["resident at the end, MB", figure(memory["at the end"], 4)],
    ]
    return "\n".join([results["model"], machine_line(results["machine"]), "", table(["", ""], rows)])


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the time a frame beside what real time allows."""
    from benchmarks.charts import Bar, Panel, draw_bars, machine_subtitle

    step = results["step"]["median [s]"] * 1e3
    bars = [
        Bar("qora-vision", step, f"{figure(step)} ms", True),
        Bar("25 frames a second", 40.0, "40 ms", False),
    ]
    draw_bars(
        results["model"], machine_subtitle(results), [Panel("Milliseconds a frame, median", bars)], path
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--frames", type=int, default=300, help="default: %(default)s")
    parser.add_argument("--size", type=int, default=224, help="of frames, in pixels (default: %(default)s)")
    parser.add_argument("--weights", choices=["q4", "q8", "f16", "f32"], default="q4")
    arguments = parser.parse_args(argv)
    results = measure(arguments)
    finish(results, report(results), arguments, draw)


if __name__ == "__main__":
    main()
