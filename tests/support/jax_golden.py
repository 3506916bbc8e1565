"""Outputs of the authors' own JAX code: a few in the repository, all where ../shared/data is beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from paths import DATA, SHARED

_FOLDERS = (
    DATA / "jax",
    SHARED / "golden" / "jax",
)


def golden(name: str) -> Path:
    """The path of a file; the test is skipped where there is none."""
    for folder in _FOLDERS:
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"needs {name} of the reference outputs in ../shared/data")
