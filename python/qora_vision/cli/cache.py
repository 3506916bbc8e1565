"""`qora-vision cache`: list and remove downloaded and converted models."""

from __future__ import annotations

import argparse
from typing import Any

from qora_vision import CachedModel, ModelCache
from qora_vision.cli.options import Verbs, add_json_option, new_parser
from qora_vision.cli.output import count_of, format_bytes, print_json

DESCRIPTION = """\
List or remove the models that were downloaded from the Hugging Face hub or from
an address and converted. The hub's original checkpoints are in huggingface_hub's
own cache, which `hf cache` lists and removes. Those of addresses are removed
with their model.
"""

EPILOG = """\
examples:
  qora-vision cache list
  qora-vision cache clear google/vivit-b-16x2-kinetics400
  qora-vision cache clear

The cache is in $QORA_VISION_CACHE if that is set, else in this system's folder
for caches; `qora-vision cache list` prints it.
"""


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the console script."""
    parser = new_parser(
        verbs, "cache", summary="list or clear converted models", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("action", choices=("list", "clear"), help="what to do")
    parser.add_argument(
        "repository",
        nargs="?",
        metavar="OWNER/NAME",
        help="only the files of this model, by its name in the list",
    )
    add_json_option(parser, "the models as a JSON object")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """List the models, or remove them and print which."""
    cache = ModelCache()
    if arguments.action == "clear":
        models, verb = cache.clear(arguments.repository), "removed"
    else:
        models = [model for model in cache.models() if arguments.repository in (None, model.repository)]
        verb = "holds"
    total = sum(model.size for model in models)
    if arguments.json:
        print_json({"directory": str(cache.directory), verb: [_fields(model) for model in models]})
        return 0
    for model in models:
        revisions = ", ".join(model.revisions) or "no branch or tag"
        print(
            f"{model.repository}  {model.precision}  {format_bytes(model.size)}  "
            f"{model.commit[:8]} ({revisions})"
        )
    files = count_of(len(models), "model")
    print(f"{cache.directory}: {verb} {files}, {format_bytes(total)}")
    return 0


def _fields(model: CachedModel) -> dict[str, Any]:
    return {
        "repository": model.repository,
        "revisions": list(model.revisions),
        "commit": model.commit,
        "weights": model.precision,
        "file_size": model.size,
        "path": str(model.path),
    }
