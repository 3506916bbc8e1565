"""Write RESULTS.md and confusion.png: ``python -m training.camera_motion.evaluate CHECKPOINT FILE``."""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

import qora_vision
from training.camera_motion.data import FRAMES, Split, evaluation_set
from training.camera_motion.labels import LABELS
from training.camera_motion.sources import CLIP_FOLDER, read_clip

HERE = Path(__file__).parent
SETS: dict[Split, tuple[str, float]] = {
    "photographs": ("held-out photographs", 95.0),
    "clips": ("held-out real clips with a camera move added", 90.0),
}
Matrix = npt.NDArray[np.int64]


def confusion(
    model: qora_vision.VideoClassifier, made: Iterable[tuple[npt.NDArray[np.uint8], int]]
) -> Matrix:
    """Count answers: (classes, classes), truth by row."""
    table = np.zeros((len(LABELS), len(LABELS)), np.int64)
    for clip, label in made:
        found = model.classify(clip, top_k=1, sampling=list(range(FRAMES)))
        table[label, int(found.indices[0])] += 1
    return table


def accuracy(table: Matrix) -> float:
    """Top-1 in percent."""
    return 100.0 * float(np.trace(table)) / float(table.sum())


def drawn(table: Matrix, title: str) -> npt.NDArray[np.uint8]:
    """Draw a confusion matrix, BGR: shares of each row, darker for more."""
    cell, left, top = 58, 230, 60
    size = cell * len(LABELS)
    picture = np.full((top + size + 190, left + size + 20, 3), 255, np.uint8)
    font, ink = cv2.FONT_HERSHEY_SIMPLEX, (30, 30, 30)
    cv2.putText(picture, title, (10, 32), font, 0.7, ink, 1, cv2.LINE_AA)
    for row, name in enumerate(LABELS):
        y = top + row * cell
        cv2.putText(picture, name, (10, y + 35), font, 0.55, ink, 1, cv2.LINE_AA)
        for column in range(len(LABELS)):
            share = table[row, column] / max(1, table[row].sum())
            x = left + column * cell
            tone = (255 - int(120 * share), 255 - int(170 * share), 255 - int(230 * share))
            cv2.rectangle(picture, (x, y), (x + cell - 2, y + cell - 2), tone, -1)
            if table[row, column]:
                white = (255, 255, 255) if share > 0.6 else ink
                cv2.putText(
                    picture, f"{100 * share:.0f}", (x + 14, y + 36), font, 0.55, white, 1, cv2.LINE_AA
                )
    names = np.full((size, 190, 3), 255, np.uint8)
    for row, name in enumerate(LABELS):
        cv2.putText(names, name, (4, row * cell + 35), font, 0.5, ink, 1, cv2.LINE_AA)
    picture[top + size :, left : left + size] = np.rot90(names[::1], 1)[:, ::-1][:, ::-1]
    return picture


def segment_rows(models: dict[str, qora_vision.VideoClassifier], stride: int) -> list[list[str]]:
    """Answers in the hand-labelled segments of real clips, windows side by side: rows of a table."""
    rows = []
    with (HERE / "segments.csv").open(encoding="utf-8", newline="") as stream:
        for entry in csv.DictReader(stream):
            first, last, span = int(entry["first"]), int(entry["last"]), (FRAMES - 1) * stride + 1
            last = min(last, first + 300)
            clip = read_clip(CLIP_FOLDER / entry["clip"], side=240, most=last + 1)
            starts = list(range(first, last - span + 2, span)) or [first]
            row = [entry["clip"], f"{first}-{last}", entry["label"]]
            for model in models.values():
                answers: list[str] = []
                for start in starts:
                    numbers = [min(start + i * stride, last) for i in range(FRAMES)]
                    answers += model.classify(clip, top_k=1, sampling=numbers).labels
                right = answers.count(entry["label"])
                wrong = ", ".join(sorted({answer for answer in answers if answer != entry["label"]}))
                row.append(f"{right} of {len(answers)}" + (f" (else {wrong})" if wrong else ""))
            rows.append(row)
    return rows


def table_of(heads: list[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Lay out a table in Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return lines + ["| " + " | ".join(str(value) for value in row) + " |" for row in rows]


def milliseconds(model: qora_vision.VideoClassifier) -> float:
    """Time the fastest of a few forward passes of one window."""
    clip = model.preprocess(np.zeros((FRAMES, 96, 96, 3), np.uint8), sampling=list(range(FRAMES)))
    times = []
    for _ in range(30):
        started = time.perf_counter()
        model.forward(clip[:1])
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


def main() -> None:
    """Read the command line, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="Hugging Face folder")
    parser.add_argument("file", type=Path, help=".qora-vision file that `package` made of it")
    parser.add_argument("--count", type=int, default=1100, help="windows of each set")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    models = {
        "F32 exact": qora_vision.load(args.checkpoint, weights="f32", compute="exact", threads=args.threads),
        "Q4 auto": qora_vision.load(args.file, threads=args.threads),
    }
    lines = [
        "# Results of the camera-motion model",
        "",
        "Written by `python -m training.camera_motion.evaluate`.",
    ]
    lines += ["Limits and how to read this: [README.md](README.md).", "", "## Top-1", ""]
    tables: dict[tuple[str, str], Matrix] = {}
    for split in SETS:
        made = list(evaluation_set(split, args.count))
        for name, model in models.items():
            tables[split, name] = confusion(model, made)
    rows = []
    for split, (title, goal) in SETS.items():
        found = [f"{accuracy(tables[split, name]):.2f} %" for name in models]
        rows.append([title, args.count, f"{goal:.0f} %", *found])
    lines += table_of(["set", "windows", "goal", *models], rows)
    for split, (title, _) in SETS.items():
        table = tables[split, "Q4 auto"]
        lines += ["", f"## Confusion on {title}, Q4", "", "Truth by row.", ""]
        numbers = [
            [label, *table[row], f"{100 * table[row, row] / table[row].sum():.1f}"]
            for row, label in enumerate(LABELS)
        ]
        lines += table_of(["", *LABELS, "right, %"], numbers)
    sheets = [
        drawn(tables[split, "Q4 auto"], f"{title}, Q4, % of each row") for split, (title, _) in SETS.items()
    ]
    cv2.imwrite(str(HERE / "confusion.png"), np.hstack(sheets))
    lines += [
        "",
        "![The confusion matrices as shares of each row](confusion.png)",
        "",
        "## Real segments",
        "",
    ]
    lines += [
        "Hand-labelled segments ([segments.csv](segments.csv)) of clips that training never saw, as they are."
    ]
    for stride in (1, 2):
        lines += ["", f"Every {'frame' if stride == 1 else 'second frame'}:", ""]
        lines += table_of(["clip", "frames", "label", *models], segment_rows(models, stride))
    lines += ["", "## Speed and size", ""]
    speeds = [[name, f"{milliseconds(m):.1f}", f"{m.weights_nbytes / 1e6:.2f}"] for name, m in models.items()]
    lines += table_of(["", f"ms a window, {args.threads} threads", "packed weights, MB"], speeds)
    (HERE / "RESULTS.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
