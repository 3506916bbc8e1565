"""`qora-vision demo`: how the camera moves through a film, as a timeline and as a video."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import qora_vision
from qora_vision.cli.options import (
    DEFAULT_MODEL,
    UsageError,
    Verbs,
    add_json_option,
    default_model,
    is_pipe,
    load_classifier,
    new_parser,
    positive_float,
    positive_int,
)
from qora_vision.cli.output import count_of, format_bytes, format_seconds, print_json, print_note
from qora_vision.cli.progress import Progress
from qora_vision.cli.timeline import Timeline

DESCRIPTION = """\
Show how the camera moves in a video, over time: still, panning, tilting,
zooming, rolling, shaking, or cut. A window slides over the video, and
neighbouring windows with the same label share a line. Each window has a bar
whose height is its score. Without VIDEO: a clip of NASA that is part of the
package. Nothing is downloaded.
"""

EPILOG = """\
examples:
  qora-vision demo
  qora-vision demo my.mp4
  qora-vision demo my.mp4 -o annotated.mp4
  qora-vision demo my.mp4 --hop 4 --json | jq -c .segments[]

The annotated copy is MPEG-4 in .mp4, .m4v, .mov or .mkv, Motion JPEG in .avi,
or a .gif of at most 40 seconds; it has no sound. An existing file is replaced
only after the new one is complete.
"""


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the console script."""
    parser = new_parser(
        verbs, "demo", summary="show how the camera moves in a video", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument(
        "video", metavar="VIDEO", nargs="?", help="video file or folder of images (default: the bundled clip)"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=_output,
        help="write a copy of the video with labels and timeline in the picture",
    )
    add_json_option(parser, "windows and segments as a JSON object")
    parser.add_argument(
        "--model",
        metavar="M",
        help=f"another model, as for `classify` (default: {DEFAULT_MODEL}, which is bundled)",
    )
    window = parser.add_argument_group("windows")
    window.add_argument(
        "--stride",
        metavar="N",
        type=positive_int,
        help="step between the frames of a window (default: the model's; for the "
        "bundled clip 2); a wider step detects slower moves",
    )
    window.add_argument(
        "--hop", metavar="N", type=positive_int, help="frames between windows (default: half a window)"
    )
    window.add_argument(
        "--fps", metavar="F", type=positive_float, help="frames a second of a folder of images (default: 25)"
    )
    parser.add_argument(
        "--threads", metavar="N", type=positive_int, help="threads (default: one for each CPU)"
    )
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Classify window by window, print segments as they end, then write the copy."""
    if arguments.output and arguments.video and is_pipe(arguments.video):
        raise UsageError(
            f"{arguments.video} is a pipe, which cannot be read a second time for --output: "
            "save the video to a file and give that file"
        )
    clip = qora_vision.demo_clip()
    source = arguments.video or str(clip.path)
    bundled = arguments.video is None
    name = arguments.model or default_model()
    with Progress() as progress:
        model = load_classifier(name, threads=arguments.threads, progress=progress)
        progress.close()
        stride = arguments.stride or (clip.stride if bundled else model.preprocessing.stride)
        slide = model.classify_windows(source, top_k=1, stride=stride, hop=arguments.hop, fps=arguments.fps)
        windows: list[qora_vision.Window] = []
        segments: list[qora_vision.Segment] = []
        timeline = None if arguments.json else Timeline(model.labels)
        for segment in qora_vision.join_windows(_collect(slide, windows)):
            if timeline is not None:
                if not segments:
                    print(f"{clip.title if bundled else source}  ({name})")
                timeline.show(segment)
            segments.append(segment)
        if arguments.output:
            qora_vision.annotate(source, segments, arguments.output, fps=arguments.fps, progress=progress)
    seconds = sum(window.prediction.timings["forward"] for window in windows) / len(windows)
    if arguments.json:
        report: dict[str, Any] = {"source": source, "model": name}
        if bundled:
            report["credit"] = clip.credit
        report["segments"] = [segment.to_dict() for segment in segments]
        report["windows"] = [_fields(window) for window in windows]
        report["output"] = str(arguments.output) if arguments.output else None
        print_json(report)
        return 0
    count = count_of(len(windows), "window")
    step = "in a row" if stride == 1 else f"{stride} apart"
    print(f"{count} of {model.num_frames} frames {step}, {format_seconds(seconds)} each to classify")
    if bundled:
        print(f"Clip: {clip.credit}")
    if arguments.output:
        print_note(f"saved {arguments.output}, {format_bytes(arguments.output.stat().st_size)}")
    return 0


def _collect(
    slide: Iterable[qora_vision.Window], windows: list[qora_vision.Window]
) -> Iterator[qora_vision.Window]:
    """Yield the windows, and append each to `windows`; a window takes some hundred bytes."""
    for window in slide:
        windows.append(window)
        yield window


def _fields(window: qora_vision.Window) -> dict[str, Any]:
    label, score = next(iter(window.prediction))
    return {"start": window.start, "end": window.end, "label": label, "score": score}


def _output(text: str) -> Path:
    """Check the name of the output before any work."""
    path = Path(text)
    if path.suffix.lower() not in qora_vision.ANNOTATION_FORMATS:
        known = ", ".join(qora_vision.ANNOTATION_FORMATS)
        raise argparse.ArgumentTypeError(f"'{text}' must end in one of {known}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}': there is no folder '{path.parent}'")
    return path
