"""Models of the Hugging Face hub: how they are named, downloaded, and kept in converted form."""

from __future__ import annotations

from qora_vision.hub.cache import CachedModel, ModelCache
from qora_vision.hub.download import Listing, download, find_listing
from qora_vision.hub.reference import Reference, parse_reference

__all__ = [
    "CachedModel",
    "Listing",
    "ModelCache",
    "Reference",
    "download",
    "find_listing",
    "parse_reference",
]
