"""Names of models of the hub: `owner/name`, and a branch, tag or commit after an @."""

from __future__ import annotations

import re
from dataclasses import dataclass

# One component of a repository's name, as the hub allows it.
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,95})"
_REFERENCE = re.compile(
    rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]{{0,254}}))?"
)

# A text that ends like this is taken for a mistyped path, not for a repository.
_FILE_SUFFIXES = (".qora-vision", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".json")


@dataclass(frozen=True)
class Reference:
    """A repository of the hub and a revision of it."""

    repository: str
    revision: str = "main"

    def __str__(self) -> str:
        return self.repository if self.revision == "main" else f"{self.repository}@{self.revision}"


def parse_reference(text: str) -> Reference | None:
    """Parse a reference; None if the text can only be a path.

    Parameters
    ----------
    text
        Such as "google/vivit-b-16x2-kinetics400" or "google/vivit-b-16x2-kinetics400@main".
    """
    match = _REFERENCE.fullmatch(text)
    if match is None or ".." in text or "--" in match["repository"]:
        return None
    if match["repository"].endswith(_FILE_SUFFIXES):
        return None
    return Reference(match["repository"], match["revision"] or "main")
