"""`qora-vision compare`: two models, or two precisions of one, on the user's own clips."""

from __future__ import annotations

import argparse
from typing import Any

import qora_vision
from qora_vision.cli.options import (
    COMPUTE,
    WEIGHTS,
    UsageError,
    Verbs,
    add_json_option,
    load_classifier,
    new_parser,
    positive_int,
)
from qora_vision.cli.output import count_of, format_bytes, print_error, print_fields, print_json, print_note
from qora_vision.cli.progress import Progress

DESCRIPTION = """\
Run two models, or one model at two precisions, on the same clips, and show how
far they agree: best labels side by side, differences of their logits, and how
often the best label is the same. Use it to check a quantised file on your own
clips.
"""

EPILOG = """\
examples:
  qora-vision compare vivit-q4.qora-vision vivit-f16.qora-vision --video *.mp4
  qora-vision compare path/to/checkpoint --weights-a f32 --weights-b q4 --video clip.mp4 frames/
  qora-vision compare camera-motion --compute-a exact --video clip.mp4 --json

A and B are anything that `classify --model` accepts. Classes of the same names
are matched by name, others by their index; the numbers of classes must be equal.
An error of one clip does not stop the others; the exit status is then 1.
"""


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the console script."""
    parser = new_parser(
        verbs, "compare", summary="compare two models on clips", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("a", metavar="A", help=".qora-vision file, checkpoint, OWNER/NAME or bundled model")
    parser.add_argument(
        "b", metavar="B", nargs="?", help="the second model (default: A at another precision)"
    )
    parser.add_argument(
        "--video", metavar="SOURCE", nargs="+", required=True, help="video files, or folders of images"
    )
    parser.add_argument(
        "--top-k", metavar="K", type=positive_int, default=5, help="labels to compare (default: %(default)s)"
    )
    add_json_option(parser, "models, clips and totals as a JSON object")
    group = parser.add_argument_group("precision of A and B")
    for side in "ab":
        group.add_argument(
            f"--weights-{side}",
            choices=WEIGHTS,
            help=f"weights of {side.upper()}, if it is a checkpoint (default: q4)",
        )
    for side in "ab":
        group.add_argument(
            f"--compute-{side}",
            choices=COMPUTE,
            default="auto",
            help=f"arithmetic of {side.upper()} (default: %(default)s)",
        )
    parser.add_argument(
        "--threads", metavar="N", type=positive_int, help="threads (default: one for each CPU)"
    )
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Load both models, compare them on each clip, print the totals."""
    if arguments.b in (None, arguments.a) and (arguments.weights_a, arguments.compute_a) == (
        arguments.weights_b,
        arguments.compute_b,
    ):
        raise UsageError("A and B are the same: give another B, or --weights-b or --compute-b")
    names = {"a": arguments.a, "b": arguments.b or arguments.a}
    with Progress() as progress:
        models = {
            side: load_classifier(
                name,
                weights=getattr(arguments, f"weights_{side}"),
                compute=getattr(arguments, f"compute_{side}"),
                threads=arguments.threads,
                progress=progress,
            )
            for side, name in names.items()
        }
        progress.close()
        qora_vision.class_order(models["a"], models["b"])  # raises if the classes do not match
        if arguments.top_k > len(models["a"].labels):
            arguments.top_k = len(models["a"].labels)
        described = {side: _describe(names[side], models[side]) for side in "ab"}
        if not arguments.json:
            _print_models(described)
        if set(models["a"].labels) != set(models["b"].labels):
            print_note("the models have different class names, so classes are matched by their index")
        frames = {side: _frames(model) for side, model in models.items()}
        if frames["a"] != frames["b"]:
            print_note(f"the models see different frames of a clip: A {frames['a']}, B {frames['b']}")
        results = []
        for done, source in enumerate(arguments.video):
            progress(done, len(arguments.video), "clips")
            results.append(_compare(models, source, arguments, progress))
    compared = tuple(clip for result in results for clip in result.get("compared", ()))
    total = qora_vision.Comparison(compared).to_dict() if compared else None
    if arguments.json:
        clips = [{key: value for key, value in each.items() if key != "compared"} for each in results]
        print_json({**described, "top_k": arguments.top_k, "clips": clips, "total": total})
    elif total is not None and total["clips"] > 1:
        print(f"total: {count_of(total['clips'], 'clip')}")
        _print_numbers(total, f"{total['same_label']} of {total['clips']}", arguments.top_k)
    return 0 if len(compared) == len(results) else 1


def _compare(
    models: dict[str, qora_vision.VideoClassifier],
    source: str,
    arguments: argparse.Namespace,
    progress: Progress,
) -> dict[str, Any]:
    """Compare on one clip; on an error, print and return it."""
    try:
        (clip,) = qora_vision.compare(models["a"], models["b"], [source], arguments.top_k).clips
    except (qora_vision.QoraVisionError, OSError) as error:
        progress.hide()
        message = str(error)
        print_error(message if source in message else f"{source}: {message}")
        return {"source": source, "error": message}
    progress.hide()
    if not arguments.json:
        print(source)
        _print_side_by_side(clip)
        _print_numbers(clip.to_dict(), "yes" if clip.same_label else "no", arguments.top_k)
        print()
    return {"source": source, **clip.to_dict(), "compared": (clip,)}


def _describe(name: str, model: qora_vision.VideoClassifier) -> dict[str, Any]:
    return {
        "model": name,
        "architecture": model.architecture,
        "weights": model.quantization,
        "compute": model.compute,
        "weights_nbytes": model.weights_nbytes,
    }


def _frames(model: qora_vision.VideoClassifier) -> str:
    """Describe which frames of a clip a model samples."""
    rule = model.preprocessing
    apart = f", {rule.stride} apart" if rule.sampling == "dense" else ""
    return f"{rule.num_frames}, {rule.sampling}{apart}"


def _print_models(described: dict[str, dict[str, Any]]) -> None:
    for side, model in described.items():
        what = f"{model['weights']}, compute {model['compute']}"
        print(f"{side.upper()}  {model['model']}: {what}, {format_bytes(model['weights_nbytes'])} in memory")
    print()


def _print_side_by_side(clip: qora_vision.ClipComparison) -> None:
    """Print the best labels of A beside those of B."""
    columns = [
        [f"{100 * score:6.2f} %  {label}" for label, score in prediction] for prediction in (clip.a, clip.b)
    ]
    width = max(len(cell) for cell in columns[0])
    print(f"  {'A':<{width}}    B")
    for left, right in zip(*columns, strict=True):
        print(f"  {left:<{width}}    {right}")


def _print_numbers(numbers: dict[str, Any], same: str, top_k: int) -> None:
    """Print the numbers of a clip, or the worst and the mean numbers of all clips."""
    cosine = f"{numbers['cosine']:.6f}" if "cosine" in numbers else f"{numbers['min_cosine']:.6f} at least"
    rows = [
        ("  same best label", same),
        (f"  top-{top_k} in common", f"{100 * numbers['overlap']:.0f} %"),
        (
            "  logits differ by",
            f"{numbers['mean_difference']:.4g} on average, {numbers['max_difference']:.4g} at most",
        ),
        ("  cosine of logits", cosine),
    ]
    print_fields(rows)
