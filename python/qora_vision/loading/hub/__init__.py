"""Models of the Hugging Face hub and of URLs: names, downloads, and the cache of converted models."""

from __future__ import annotations

from qora_vision.loading.hub.cache import CachedModel, ModelCache
from qora_vision.loading.hub.download import Listing, download, find_listing
from qora_vision.loading.hub.reference import Reference, parse_reference
from qora_vision.loading.hub.url import Url, download_url, parse_url

__all__ = [
    "CachedModel",
    "Listing",
    "ModelCache",
    "Reference",
    "Url",
    "download",
    "download_url",
    "find_listing",
    "parse_reference",
    "parse_url",
]
