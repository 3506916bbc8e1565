"""`qora-vision vivit`: the command line of the earlier system that qora-vision replaces, unchanged."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import qora_vision
from qora_vision.cli.options import UsageError, Verbs, load_classifier, new_parser
from qora_vision.cli.output import format_bytes, format_seconds, print_fields, print_note, print_ranking
from qora_vision.cli.progress import Progress

TOP_K = 5

DESCRIPTION = """\
Classify one clip with ViViT and report sizes and times. 32 frames are spread
over the whole clip. The weights are quantised to 4 bits while they load.
"""

EPILOG = """\
examples:
  qora-vision vivit --frames ./my_frames/ --model-path ../ViViT/
  qora-vision vivit --video clip.mp4 --model-path ../ViViT/ --save model.qora-vision
  qora-vision vivit --load model.qora-vision --frames ./my_frames/

A checkpoint directory holds config.json, preprocessor_config.json and
model.safetensors (or its shards, or pytorch_model.bin), as Hugging Face saves
them. `qora-vision classify` accepts several clips and has more options.
"""


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the console script."""
    parser = new_parser(
        verbs,
        "vivit",
        summary="classify one clip with ViViT, with a report",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    clip = parser.add_mutually_exclusive_group(required=True)
    clip.add_argument(
        "--frames", metavar="DIR", type=Path, help="folder of JPEG or PNG images, in natural order"
    )
    clip.add_argument("--video", metavar="FILE", type=Path, help="video file")
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model-path", metavar="DIR", type=Path, help="Hugging Face checkpoint of a ViViT")
    model.add_argument("--load", metavar="FILE", type=Path, help=".qora-vision file, from --save or convert")
    parser.add_argument("--save", metavar="FILE", type=Path, help="write the model to a .qora-vision file")
    parser.add_argument("--f16", action="store_true", help="half-precision weights instead of 4-bit ones")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Load, save if asked to, classify, report."""
    if arguments.f16 and arguments.load:
        raise UsageError("--f16 needs --model-path: the file of --load keeps the precision it was saved with")
    clip = _clip(arguments)
    start = time.perf_counter()
    with Progress() as progress:
        model = load_classifier(
            arguments.load or arguments.model_path,
            weights="f16" if arguments.f16 else None,
            progress=progress,
        )
    load_seconds = time.perf_counter() - start
    if model.architecture != "vivit":
        source = arguments.load or arguments.model_path
        raise qora_vision.CheckpointError(
            f"{source}: the model is a '{model.architecture}', but this verb runs ViViT only; "
            "use `qora-vision classify`"
        )
    if arguments.save:
        model.save(arguments.save)
        print_note(f"saved {arguments.save}, {format_bytes(arguments.save.stat().st_size)}")
    prediction = model.classify(clip, top_k=min(TOP_K, len(model.labels)))
    embedding_norm = float(np.linalg.norm(prediction.embedding))
    print_fields(
        [
            ("Clip", f"{clip}, {model.num_frames} frames"),
            ("Tubelets", f"{model.config.num_tubelets}"),
            ("Sequence", f"{model.config.sequence_length} tokens"),
            ("Embedding", f"{model.config.embed_dim} dimensions, L2 norm {embedding_norm:.4f}"),
            ("Weights", f"{model.quantization}, {format_bytes(model.weights_nbytes)} in memory"),
            ("Engine", f"{model.isa}, compute {model.compute}"),
            ("Load time", format_seconds(load_seconds)),
            ("Clip time", f"{format_seconds(prediction.timings['preprocess'])} to decode and resize"),
            ("Forward time", format_seconds(prediction.timings["forward"])),
        ]
    )
    print()
    print_ranking(prediction)
    return 0


def _clip(arguments: argparse.Namespace) -> Path:
    """Return the clip's path; raise if it is a file in place of a folder, or a folder in place of a file."""
    path: Path = arguments.frames or arguments.video
    if arguments.frames and path.is_file():
        raise UsageError(f"--frames expects a folder of images, but {path} is a file: use --video")
    if arguments.video and path.is_dir():
        raise UsageError(f"--video expects a file, but {path} is a folder: use --frames")
    return path
