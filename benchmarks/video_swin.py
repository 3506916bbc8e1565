"""Video Swin compared with torchvision's: same random weights, clip and threads, in one run.

    python -m benchmarks.video_swin [--model t] [--threads 2] [--rounds 5]

torchvision's model runs in PyTorch, in float32. Needs torch and torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import qora_vision
from benchmarks.measuring import (
    BUILD,
    describe_machine,
    figure,
    finish,
    interleave,
    machine_line,
    make_parser,
    summary,
    table,
)

OURS = ("q4", "q8")
THEIRS = "torchvision fp32"


def measure(arguments: Any) -> dict[str, Any]:
    """Run everything and return the results."""
    import torch
    from tools.torchvision_swin import import_swin

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    theirs = getattr(import_swin(), f"swin3d_{arguments.model}")().eval()
    BUILD.mkdir(parents=True, exist_ok=True)
    checkpoint = BUILD / f"swin3d_{arguments.model}.pth"
    torch.save(theirs.state_dict(), checkpoint)
    models = {
        f"qora-vision {weights} auto": qora_vision.load(
            checkpoint, weights=weights, threads=arguments.threads
        )
        for weights in OURS
    }
    clip = np.random.default_rng(0).standard_normal((1, 32, 3, 224, 224), np.float32)
    pixels = torch.from_numpy(clip).transpose(1, 2).contiguous()

    def forward() -> Any:
        with torch.inference_mode():
            return theirs(pixels).numpy()

    actions = {name: lambda model=model: model.forward(clip) for name, model in models.items()}
    actions[THEIRS] = forward
    expected = forward()
    errors = {
        name: float(np.abs(action() - expected).max() / np.abs(expected).max())
        for name, action in actions.items()
    }
    runs = interleave(actions, arguments.rounds)
    return {
        "command": f"python -m benchmarks.video_swin --model {arguments.model}",
        "machine": describe_machine(arguments.threads),
        "model": f"Video Swin-{arguments.model.upper()}, 32 frames",
        "versions": {"torch": torch.__version__},
        "forward": {name: summary(run) | {"logit error": errors[name]} for name, run in runs.items()},
    }


def report(results: dict[str, Any]) -> str:
    """Lay the results out as text."""
    theirs = results["forward"][THEIRS]["median [s]"]
    rows = [
        [
            name,
            figure(row["min [s]"]),
            figure(row["median [s]"]),
            figure(row["median [s]"] / theirs),
            f"{row['logit error']:.1e}",
        ]
        for name, row in results["forward"].items()
    ]
    header = ["", "min s", "median s", "time / torchvision", "logit error"]
    return "\n".join([results["model"], machine_line(results["machine"]), "", table(header, rows)])


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the times."""
    from benchmarks.charts import Bar, Panel, draw_bars, machine_subtitle

    bars = [
        Bar(name, row["median [s]"], f"{figure(row['median [s]'])} s", name != THEIRS)
        for name, row in results["forward"].items()
    ]
    draw_bars(results["model"], machine_subtitle(results), [Panel("Forward pass, median", bars)], path)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", choices=["t", "s", "b"], default="t", help="size (default: %(default)s)")
    arguments = parser.parse_args(argv)
    results = measure(arguments)
    finish(results, report(results), arguments, draw)


if __name__ == "__main__":
    main()
