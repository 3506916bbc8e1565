"""Prints the oldest version of everything that pyproject.toml names, one `name==version` a line, for pip.

python tools/oldest_versions.py             what builds, runs and tests the package
python tools/oldest_versions.py av numpy    these alone
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

_FLOOR = re.compile(r"^\s*([A-Za-z0-9._-]+)\s*(>=|==)\s*([0-9][0-9.]*)\s*$")


def oldest(project: dict[str, Any]) -> dict[str, str]:
    """Return the lower bound of each requirement: to build, to run, and to test.

    Raises
    ------
    ValueError
        If a requirement states no lower bound.
    """
    needed = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["test"],
    ]
    found = {}
    for requirement in needed:
        match = _FLOOR.match(requirement)
        if match is None:
            raise ValueError(f"pyproject.toml: {requirement!r} states no oldest version: write name>=version")
        found[match[1]] = match[3]
    return found


def main() -> None:
    """Print what was asked for, or all."""
    path = Path(__file__).parents[1] / "pyproject.toml"
    versions = oldest(tomllib.loads(path.read_text(encoding="utf-8")))
    unknown = [name for name in sys.argv[1:] if name not in versions]
    if unknown:
        sys.exit(f"pyproject.toml requires no {', '.join(unknown)}; it requires {', '.join(versions)}")
    for name in sys.argv[1:] or versions:
        print(f"{name}=={versions[name]}")


if __name__ == "__main__":
    main()
