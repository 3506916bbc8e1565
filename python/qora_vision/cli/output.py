"""Output of the verbs: aligned tables for people, JSON for programs, errors on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np


def print_error(error: object) -> None:
    """Print an error on stderr, prefixed with the program's name."""
    print(f"qora-vision: error: {error}", file=sys.stderr)


def print_note(note: str) -> None:
    """Print a note, which is neither a result nor an error, on stderr."""
    print(f"qora-vision: {note}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON on stdout and flush it, so that a reader of the pipe gets it now."""
    try:
        text = json.dumps(value, default=_plain, allow_nan=False)
    except ValueError:  # JSON has neither NaN nor infinity
        text = json.dumps(_without_nan(value), allow_nan=False)
    print(text, flush=True)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values as two aligned columns; values of several lines stay in theirs."""
    rows = list(fields)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        lines = value.splitlines() or [""]
        for label, line in zip([name, *[""] * (len(lines) - 1)], lines, strict=True):
            print(f"{label:<{width}}  {line}".rstrip())


def print_ranking(ranking: Iterable[tuple[str, float]], indent: str = "") -> None:
    """Print labels with their scores, best first."""
    for label, score in ranking:
        print(f"{indent}{100 * score:7.2f} %  {label}")


def format_bytes(count: int) -> str:
    """Format a size in bytes, in decimal units."""
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def format_seconds(seconds: float) -> str:
    """Format a duration in seconds or, when short, milliseconds."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def count_of(number: int, noun: str) -> str:
    """Format a number with its noun in singular or plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _without_nan(value: Any) -> Any:
    """Turn NaN and infinity, wherever they are, into null."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """Convert NumPy scalars and arrays to types that JSON has."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
