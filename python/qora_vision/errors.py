"""Exceptions of the package. Each message says what was wrong, what was expected and what to do.

Each is also a `ValueError`, or an `OSError` where the fault lies outside the program. A message quotes the
content of a file only through `shown`, `listed` and `reason`, which bound the length: a hostile file can hold
values whose `repr` takes unlimited time or memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

_MAX_TEXT = 80
_MAX_BITS = 256
_MAX_ITEMS = 6
_MAX_DEPTH = 3
_MAX_NAMES = 50
_MAX_REASON = 500


class QoraVisionError(Exception):
    """Base class of every error that the package raises on purpose."""


class QoraVisionWarning(UserWarning):
    """An assumption of the package that may be wrong."""


class VideoError(QoraVisionError, ValueError):
    """A video, image or frame array that cannot be used."""


class CheckpointError(QoraVisionError, ValueError):
    """A checkpoint whose configuration or weights are wrong, incomplete or refused."""


class DownloadError(QoraVisionError, OSError):
    """A model that cannot be downloaded: unknown, forbidden, unreachable, or damaged in transfer."""


class ModelFileError(QoraVisionError, ValueError):
    """A `.qora-vision` file that is damaged, unsupported or not such a file at all."""


class TaskError(QoraVisionError, ValueError):
    """A model that cannot do what it was asked for, such as an encoder that was to name classes."""


class IsaError(QoraVisionError, ValueError):
    """An instruction set that is unknown, or that this CPU lacks."""


def shown(value: object) -> str:
    """Return a value from a file as text for a message: like `repr`, but on one line and cut.

    It reads a bounded part of the value only, however deeply the value is nested.
    """
    return _shown(value, _MAX_DEPTH)


def listed(names: Iterable[object], most: int = _MAX_NAMES) -> str:
    """Return names from a file as one text: each name cut, and at most `most` of them."""
    names = list(names)
    text = ", ".join(_name(name) for name in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")


def reason(error: BaseException) -> str:
    """Return the message of another library's error, on one line and cut: it may quote the file."""
    parts = [part[:_MAX_REASON] if isinstance(part, str) else part for part in error.args]
    plain = all(isinstance(part, str | int | float | None) for part in parts)
    if len(parts) == 1 and isinstance(parts[0], str):
        text = parts[0]
    else:
        # Other errors may hold objects from the file. The text of a `UnicodeError` is bounded.
        text = str(error) if plain or isinstance(error, UnicodeError) else ""
    text = " ".join(text[: 2 * _MAX_REASON].split())
    cut = f"{text[:_MAX_REASON]}..." if len(text) > _MAX_REASON else text
    return cut if not cut or cut.isprintable() else repr(cut)[1:-1]


def _name(name: object) -> str:
    if not isinstance(name, str) or not name[: 2 * _MAX_TEXT].isprintable():
        return shown(name)
    return name if len(name) <= 2 * _MAX_TEXT else f"{name[: 2 * _MAX_TEXT]}..."


def _shown(value: object, depth: int) -> str:
    kind = type(value)
    if value is None or kind in (bool, float):
        return repr(value)
    if isinstance(value, int):
        bits = value.bit_length()
        return int.__repr__(value) if bits <= _MAX_BITS else f"an integer of {bits} bits"
    if isinstance(value, str | bytes):
        return repr(value) if len(value) <= _MAX_TEXT else f"{value[:_MAX_TEXT]!r}..."
    if isinstance(value, Mapping):
        if depth == 0:
            return "{...}" if value else "{}"
        items = [
            f"{_shown(name, 0)}: {_shown(item, depth - 1)}"
            for name, item in islice(value.items(), _MAX_ITEMS)
        ]
        return "{" + ", ".join(items) + (", ..." if len(value) > _MAX_ITEMS else "") + "}"
    if isinstance(value, list | tuple):
        left, right = "[]" if isinstance(value, list) else "()"
        if depth == 0:
            return f"{left}...{right}" if value else left + right
        parts = [_shown(item, depth - 1) for item in value[:_MAX_ITEMS]]
        single = "," if len(value) == 1 and left == "(" else ""
        return left + ", ".join(parts) + (", ..." if len(value) > _MAX_ITEMS else single) + right
    return f"a {kind.__name__[:_MAX_TEXT]}"
