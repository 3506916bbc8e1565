"""Find a model: each kind of source is tried in turn."""

from __future__ import annotations

from os import PathLike

from qora_vision.loading.bundled import load_bundled
from qora_vision.loading.local import load_path
from qora_vision.loading.model import LoadedModel
from qora_vision.loading.options import LoadOptions
from qora_vision.loading.remote import load_hub, load_url

# Each returns None where the name does not mean a model of its kind.
RESOLVERS = (load_bundled, load_path, load_url, load_hub)


def load_network(src: str | PathLike[str], options: LoadOptions) -> LoadedModel:
    """Find a model and read it; `qora_vision.load` documents what `src` may be, and the errors."""
    for resolve in RESOLVERS:
        model = resolve(src, options)
        if model is not None:
            return model
    raise FileNotFoundError(
        f"there is no file or directory {str(src)!r}; expected a .qora-vision file, a directory with "
        "config.json and weights, OWNER/NAME of a model on the Hugging Face hub, or a bundled model "
        "(`qora-vision info` lists them)"
    )
