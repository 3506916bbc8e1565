"""`qora-vision classify`: any number of clips, one model."""

from __future__ import annotations

import argparse
import os
from typing import Any, get_args

import qora_vision
from qora_vision.cli.options import (
    DEFAULT_MODEL,
    UsageError,
    Verbs,
    add_conversion_options,
    add_engine_options,
    add_json_option,
    default_model,
    finite_float,
    load_model,
    new_parser,
    positive_int,
    view_counts,
)
from qora_vision.cli.output import print_error, print_json, print_note, print_ranking
from qora_vision.cli.progress import Progress

MODEL_VARIABLE = "QORA_VISION_MODEL"
KINETICS_MODEL = "google/vivit-b-16x2-kinetics400"
DEFAULT_NOTE = (
    f"no --model given, so the bundled {DEFAULT_MODEL} classifies how the camera moves (over time: "
    f"`qora-vision demo SOURCE`); for the 400 actions of Kinetics: --model {KINETICS_MODEL}"
)

DESCRIPTION = """\
Classify each clip: print the most probable labels with their scores.
Without --model, the labels say how the camera moves.
"""

EPILOG = """\
examples:
  qora-vision classify clip.mp4
  qora-vision classify clip.mp4 --model google/vivit-b-16x2-kinetics400
  qora-vision classify clip.mp4 --model vivit.qora-vision
  qora-vision classify *.mp4 frames/ --model path/to/checkpoint --top-k 3
  qora-vision classify clip.mp4 --model vivit.qora-vision --sampling dense --views 4x3
  qora-vision classify *.mp4 --model vivit.qora-vision --json | jq -r .source

With --json each clip gives one line as soon as it is done: an object with
"source", "model" and "predictions", or with "source", "model" and "error". An
error of one clip does not stop the others; the exit status is then 1.
"""


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the console script."""
    parser = new_parser(
        verbs,
        "classify",
        summary="label videos and folders of frames",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="video file, folder of images, address of a video, or - for one on stdin",
    )
    parser.add_argument(
        "--model",
        metavar="M",
        default=os.environ.get(MODEL_VARIABLE),
        help=".qora-vision file, checkpoint directory or file, OWNER/NAME[@REVISION] on the Hugging Face "
        "hub, address of an original checkpoint, or bundled model (default: "
        f"${MODEL_VARIABLE}, or else {DEFAULT_MODEL}, which is bundled)",
    )
    parser.add_argument(
        "--top-k",
        metavar="K",
        type=positive_int,
        default=5,
        help="labels for each clip (default: %(default)s)",
    )
    parser.add_argument(
        "--min-score",
        metavar="S",
        type=finite_float,
        help="leave out labels with a lower score; 0.5 is the usual threshold of a multi-label model",
    )
    add_json_option(parser, "one JSON object for each clip, on a line of its own,")
    clip = parser.add_argument_group("choosing frames")
    clip.add_argument(
        "--sampling",
        choices=get_args(qora_vision.SamplingRule),
        help="uniform: frames spread over the whole clip; dense: every --stride-th frame around its middle; "
        "segments: one frame from each of equal parts (default: the model's own rule)",
    )
    clip.add_argument("--stride", metavar="N", type=positive_int, help="step of dense sampling, in frames")
    clip.add_argument(
        "--views",
        metavar="TxS",
        type=view_counts,
        default=(1, 1),
        help="average the logits of T temporal x S spatial views, for example 4x3 (default: 1x1)",
    )
    add_conversion_options(parser)
    add_engine_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Classify every source; go on after one that fails."""
    if arguments.stride and arguments.sampling != "dense":
        raise UsageError("--stride needs --sampling dense")
    name = arguments.model or default_model()
    with Progress() as progress:
        model = load_model(name, arguments, progress)
        progress.close()
        if arguments.top_k > len(model.labels):
            raise UsageError(f"--top-k {arguments.top_k}: the model has only {len(model.labels)} labels")
        if not arguments.model:
            print_note(DEFAULT_NOTE)
        failed = 0
        for done, source in enumerate(arguments.sources):
            if len(arguments.sources) > 1:
                progress(done, len(arguments.sources), "clips")
            failed += not _classify(model, source, arguments, progress)
    return 1 if failed else 0


def _classify(
    model: qora_vision.VideoClassifier, source: str, arguments: argparse.Namespace, progress: Progress
) -> bool:
    """Classify one source and print its result or its error; return whether it succeeded."""
    try:
        prediction = model.classify(
            source,
            top_k=arguments.top_k,
            sampling=arguments.sampling,
            stride=arguments.stride,
            views=arguments.views,
            min_score=arguments.min_score,
            progress=progress if len(arguments.sources) == 1 else None,
        )
    except (qora_vision.QoraVisionError, OSError) as error:
        progress.hide()
        message = str(error)
        print_error(message if source in message else f"{source}: {message}")
        if arguments.json:
            print_json({"source": source, "model": arguments.model or DEFAULT_MODEL, "error": message})
        return False
    progress.hide()
    if arguments.json:
        name = arguments.model or DEFAULT_MODEL
        result: dict[str, Any] = {"source": source, "model": name, **prediction.to_dict()}
        print_json(result)
    else:
        print(source if arguments.model else f"{source}  ({DEFAULT_MODEL})")
        print_ranking(prediction)
    return True
