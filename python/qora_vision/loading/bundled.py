"""Trained models and a demo clip that are part of the package.

A bundled name always means the bundled model, even if the current folder has a file of that name: a command
must not depend on the folder in which it runs. `./camera-motion`, or a `Path`, means a file or folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from qora_vision.loading.model import LoadedModel, read_own_file
from qora_vision.loading.options import LoadOptions
from qora_vision.weights.format import ModelHeader, read_header

_SUFFIX = ".qora-vision"
_FOLDER = Path(__file__).parents[1] / "assets"


@dataclass(frozen=True)
class BundledClip:
    """A short film in the package, for trying a model.

    Attributes
    ----------
    path
        The file in the installed package.
    title, credit
        Its content, and its owner.
    stride
        Recommended step between the frames of a window: the camera moves so slowly that consecutive frames
        are almost equal.
    """

    path: Path
    title: str
    credit: str
    stride: int


@dataclass(frozen=True)
class BundledModel:
    """A trained model that is part of the package and loads without a download.

    Attributes
    ----------
    name
        The name for `qora_vision.load`.
    path
        The `.qora-vision` file in the installed package.
    """

    name: str
    path: Path

    def info(self) -> ModelHeader:
        """Read the header of the file: labels, precision, config, origin, size."""
        return read_header(self.path)


def demo_clip() -> BundledClip:
    """Return the clip of `qora-vision demo`; assets/README.md states its origin."""
    return BundledClip(
        _FOLDER / "webb_mirror.mp4",
        "the mirror of the James Webb Space Telescope under inspection",
        "NASA's Goddard Space Flight Center, public domain, https://svs.gsfc.nasa.gov/13013",
        stride=2,
    )


def list_bundled() -> list[BundledModel]:
    """Return the models that ship in the package, by name."""
    return [BundledModel(path.name[: -len(_SUFFIX)], path) for path in sorted(_FOLDER.glob(f"*{_SUFFIX}"))]


def find_bundled(src: str | PathLike[str]) -> BundledModel | None:
    """Return the bundled model of this name; None for any other text, and for every `Path`."""
    return next((model for model in list_bundled() if isinstance(src, str) and model.name == src), None)


def load_bundled(src: str | PathLike[str], options: LoadOptions) -> LoadedModel | None:
    """Load a bundled model. Its precision and preprocessing are fixed.

    Returns
    -------
    None if `src` is not the name of one.

    Raises
    ------
    ValueError
        If another precision or value range is asked for.
    """
    model = find_bundled(src)
    if model is None:
        return None
    stored = model.info().quantization
    if options.weights not in (None, stored):
        raise ValueError(
            f"the bundled model {model.name} has {stored} weights, which cannot become {options.weights}: "
            f"leave weights out; compute='exact' selects float32 arithmetic"
        )
    if options.value_range is not None:
        raise ValueError(
            f"the bundled model {model.name} carries its own preprocessing: leave value_range out"
        )
    return read_own_file(model.path, options.threads)


def read_info(src: str | PathLike[str]) -> ModelHeader:
    """Read the description of a model in a `.qora-vision` file, without the weights.

    Parameters
    ----------
    src
        The file, or the name of a bundled model.

    Raises
    ------
    ModelFileError
        If it is no such file, its header is damaged, it is truncated, or of a newer version of the format.
    OSError
        If it is missing or unreadable.
    """
    model = find_bundled(src)
    return read_header(Path(src)) if model is None else model.info()
