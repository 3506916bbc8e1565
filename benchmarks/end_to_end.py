"""From a video file to labels: the time of each step, and of preparing frames by itself.

    python -m benchmarks.end_to_end [--model vivit-b] [--video FILE] [--threads 2] [--rounds 5]

Decoding and preprocessing are measured together and, with decoding done beforehand, preprocessing alone. The
second table prepares frames that lie in memory: what the resizer, the crop and the table of values take.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import qora_vision
from benchmarks.cases import CASES, make_checkpoint
from benchmarks.measuring import (
    CLIP,
    describe_machine,
    figure,
    finish,
    interleave,
    machine_line,
    make_parser,
    summary,
    table,
)
from qora_vision.video import VideoReader

# Width and height of frames in memory.
SIZES = ((320, 240), (1280, 720), (1920, 1080))


def measure_clip(clf: qora_vision.VideoClassifier, video: Path, rounds: int) -> dict[str, Any]:
    """Return seconds of the steps of one clip, from the file to the labels."""
    with VideoReader(video) as reader:
        total = reader.info().frame_count
        indices = np.linspace(0, total - 1, clf.num_frames).round().astype(int).tolist()
        frames = reader.read(indices)
    pixels = clf.preprocess(video)

    def decode() -> None:
        with VideoReader(video) as reader:
            reader.read(indices)

    actions = {
        "decode": decode,
        "preprocess decoded frames": lambda: clf.preprocess(frames),
        "decode and preprocess": lambda: clf.preprocess(video),
        "forward": lambda: clf.forward(pixels),
        "file to labels": lambda: clf.classify(video),
    }
    return {name: summary(runs) for name, runs in interleave(actions, rounds, turn_seconds=0.2).items()}


def measure_frames(clf: qora_vision.VideoClassifier, rounds: int) -> dict[str, Any]:
    """Return seconds of preparing as many frames in memory as the model takes, for several sizes."""
    rng = np.random.default_rng(0)
    clips = {
        f"{width} x {height}": rng.integers(0, 256, (clf.num_frames, height, width, 3), np.uint8)
        for width, height in SIZES
    }
    actions = {name: lambda clip=clip: clf.preprocess(clip) for name, clip in clips.items()}
    return {name: summary(runs) for name, runs in interleave(actions, rounds, turn_seconds=0.2).items()}


def report(results: dict[str, Any]) -> str:
    """Lay the results out as text."""

    def rows(part: str) -> list[list[str]]:
        return [
            [name, figure(1e3 * row["min [s]"]), figure(1e3 * row["median [s]"])]
            for name, row in results[part].items()
        ]

    return "\n".join(
        [
            results["model"],
            machine_line(results["machine"]),
            "",
            table([Path(results["video"]).name, "min ms", "median ms"], rows("clip")),
            "",
            table([f"prepare {results['num_frames']} frames of", "min ms", "median ms"], rows("frames")),
        ]
    )


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the steps."""
    from benchmarks.charts import Bar, Panel, draw_bars, machine_subtitle

    bars = [
        Bar(name, row["median [s]"], f"{figure(1e3 * row['median [s]'])} ms")
        for name, row in results["clip"].items()
    ]
    draw_bars(
        f"{results['model']}: from a file to labels", machine_subtitle(results), [Panel("Median", bars)], path
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", choices=CASES, default="vivit-b", help="default: %(default)s")
    parser.add_argument("--video", type=Path, default=CLIP, help="default: the example clip")
    arguments = parser.parse_args(argv)
    case = CASES[arguments.model]
    clf = qora_vision.load(make_checkpoint(case), weights="q4", threads=arguments.threads)
    results = {
        "command": f"python -m benchmarks.end_to_end --model {case.name}",
        "machine": describe_machine(arguments.threads),
        "model": case.title,
        "video": arguments.video.name,
        "num_frames": clf.num_frames,
        "clip": measure_clip(clf, arguments.video, arguments.rounds),
        "frames": measure_frames(clf, arguments.rounds),
    }
    finish(results, report(results), arguments, draw)


if __name__ == "__main__":
    main()
