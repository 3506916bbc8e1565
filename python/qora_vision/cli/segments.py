"""`qora-vision segments`: the labelled segments of any number of videos."""

from __future__ import annotations

import argparse

import qora_vision
from qora_vision.cli.options import (
    DEFAULT_MODEL,
    Verbs,
    add_conversion_options,
    add_engine_options,
    add_json_option,
    default_model,
    load_model,
    new_parser,
    positive_float,
    positive_int,
)
from qora_vision.cli.output import print_error, print_json
from qora_vision.cli.progress import Progress
from qora_vision.cli.timeline import Timeline

DESCRIPTION = """\
Slide a window over each video and print its segments: one line for each stretch
of time with one label. Without --model, the labels say how the camera moves.
"""

EPILOG = """\
examples:
  qora-vision segments film.mp4
  qora-vision segments film.mp4 --model vivit.qora-vision --hop 8
  qora-vision segments *.mp4 --json | jq -r '[.source, .start, .end, .label] | @tsv'

With --json each segment gives one line as soon as it ends: an object with
"source", "model", "start" and "end" (seconds), "label", "score" and "windows".
An error gives an object with "source", "model" and "error". It does not stop
the other videos; the exit status is then 1.
"""


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the console script."""
    parser = new_parser(
        verbs, "segments", summary="list the segments of videos", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="video file, or folder of images")
    parser.add_argument(
        "--model",
        metavar="M",
        help=f"a model, as for `classify` (default: {DEFAULT_MODEL}, which is bundled)",
    )
    add_json_option(parser, "one JSON object for each segment, on a line of its own,")
    window = parser.add_argument_group("windows")
    window.add_argument(
        "--stride",
        metavar="N",
        type=positive_int,
        help="step between the frames of a window",
    )
    window.add_argument(
        "--hop", metavar="N", type=positive_int, help="frames between windows (default: half a window)"
    )
    window.add_argument(
        "--fps", metavar="F", type=positive_float, help="frames a second of a folder of images (default: 25)"
    )
    add_conversion_options(parser)
    add_engine_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the segments of every source; go on after one that fails."""
    name = arguments.model or default_model()
    with Progress() as progress:
        model = load_model(name, arguments, progress)
        progress.close()
    failed = sum(not _show(model, name, source, arguments) for source in arguments.sources)
    return 1 if failed else 0


def _show(model: qora_vision.VideoClassifier, name: str, source: str, arguments: argparse.Namespace) -> bool:
    """Print the segments of one source as they end, or its error; return whether it succeeded."""
    timeline = None if arguments.json else Timeline(model.labels)
    try:
        first = True
        for segment in model.segments(source, stride=arguments.stride, hop=arguments.hop, fps=arguments.fps):
            if timeline is None:
                print_json({"source": source, "model": name, **segment.to_dict()})
                continue
            if first:
                print(f"{source}  ({name})")
            first = False
            timeline.show(segment)
    except (qora_vision.QoraVisionError, OSError) as error:
        message = str(error)
        print_error(message if source in message else f"{source}: {message}")
        if arguments.json:
            print_json({"source": source, "model": name, "error": message})
        return False
    return True
