"""Checkpoints that are single files at an address: those of scenic, torchvision, TRecViT and others."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from qora_vision.errors import DownloadError
from qora_vision.loading.hub.reference import Reference

if TYPE_CHECKING:
    from http.client import HTTPResponse

Progress = Callable[[int, int, str], None]

_CHUNK = 1 << 20
_TRIES = 4
_TIMEOUT = 30.0  # seconds without a byte
_PIN = re.compile(r"sha256=([0-9a-f]{64})")
# PyTorch's convention: the name of a file ends with the beginning of its SHA-256.
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Url:
    """An address, and the expected SHA-256 of its content in hexadecimal, or the beginning of it."""

    address: str
    sha256: str | None

    @property
    def reference(self) -> Reference:
        """Host and path, as names in the cache of converted models."""
        parts = urlsplit(self.address)
        return Reference(f"{parts.netloc}/{parts.path.strip('/')}")

    @property
    def key(self) -> str:
        """A key for the content that is known before the download: a hash of address and expected hash."""
        return hashlib.sha256(f"{self.address}#{self.sha256}".encode()).hexdigest()[:40]

    @property
    def file_name(self) -> str:
        """Last part of the path."""
        return unquote(Path(urlsplit(self.address).path).name)


def parse_url(text: str) -> Url | None:
    """Parse an address; None if the text is not an http(s) URL.

    Parameters
    ----------
    text
        Such as "https://download.pytorch.org/models/swin3d_t-7615ae03.pth"; "#sha256=..." (64 hexadecimal
        digits) behind it pins the content.

    Raises
    ------
    ValueError
        If the part behind # is something else, or a plain http address is not pinned: without https, the
        content could be changed in transfer.
    """
    if not re.match(r"https?://", text):
        return None
    address, _, fragment = text.partition("#")
    pin = _PIN.fullmatch(fragment.lower())
    if fragment and pin is None:
        raise ValueError(f"{text}: expected #sha256= and 64 hexadecimal digits behind the address")
    parts = urlsplit(address)
    if parts.scheme == "http" and pin is None and parts.hostname not in _LOCAL:
        raise ValueError(f"{text}: use https, or pin the content with #sha256=...")
    named = _HASH_IN_NAME.search(parts.path)
    return Url(address, pin[1] if pin else named[1] if named else None)


def download_url(url: Url, directory: Path, progress: Progress | None = None) -> Path:
    """Download a file into a directory, completely and checked; an existing file is used as it is.

    A broken download continues where it stopped. The content is compared with the SHA-256 of the address, if
    it has one, and with the length and the MD5 (Google Cloud Storage) that the server states.

    Parameters
    ----------
    url
        From `parse_url`.
    directory
        Created if it is missing. No other process may write to it at the same time.
    progress
        Called with (done, total, what), in MiB.

    Raises
    ------
    DownloadError
        If it cannot be fetched; the message says why and what to do.
    """
    from http.client import HTTPException  # slow to import, and needed only for downloads
    from urllib.error import HTTPError, URLError

    path = directory / url.file_name
    part = path.with_name(f"{path.name}.part")
    if path.exists():
        return path
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise DownloadError(
            f"{url.address} is not in the cache, and HF_HUB_OFFLINE forbids asking: unset it once"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            _Transfer(url, file, progress).run()
        part.replace(path)
    except HTTPError as error:
        raise DownloadError(
            f"{url.address}: the server answered {error.code}: {_advice(error.code)}"
        ) from error
    except (HTTPException, URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"{url.address} could not be fetched ({' '.join(str(reason).split())}); check the address and "
            "the connection and try again: nothing half-downloaded is kept or used"
        ) from error
    except OSError as error:
        if isinstance(error, DownloadError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DownloadError(
            f"{url.address}: the disk is full; free some space, or point QORA_VISION_CACHE at another disk"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


class _Transfer:
    """The download of one file, over as many connections as necessary."""

    def __init__(self, url: Url, file: IO[bytes], progress: Progress | None) -> None:
        self._url = url
        self._file = file
        self._progress = progress
        self._begin()

    def _begin(self) -> None:
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self._done = 0

    def run(self) -> None:
        """Fetch and check."""
        for attempt in range(_TRIES):
            response = self._open()
            total = self._done + int(response.headers["Content-Length"] or 0)
            with response:
                broken = self._receive(response, total)
            if broken is None and self._done >= total:
                self._check(response.headers, total)
                return
            if attempt == _TRIES - 1:
                raise broken or ConnectionError(f"it broke off after {self._done} of {total} bytes")
            time.sleep(attempt)

    def _open(self) -> HTTPResponse:
        from urllib.request import Request, urlopen

        headers = {"User-Agent": "qora-vision"} | ({"Range": f"bytes={self._done}-"} if self._done else {})
        response: HTTPResponse = urlopen(Request(self._url.address, headers=headers), timeout=_TIMEOUT)
        if self._done and response.status != 206:  # the server sends the file from its start
            self._file.seek(0)
            self._file.truncate()
            self._begin()
        return response

    def _receive(self, response: HTTPResponse, total: int) -> Exception | None:
        """Receive the content; return the error that ended it early, if there was one."""
        from http.client import HTTPException

        while True:
            try:
                chunk = response.read(_CHUNK)
            except (HTTPException, TimeoutError, ConnectionError) as error:
                return error
            if not chunk:
                return None
            self._file.write(chunk)
            self._sha256.update(chunk)
            self._md5.update(chunk)
            self._done += len(chunk)
            if self._progress is not None:
                self._progress(self._done >> 20, max(max(total, self._done) >> 20, 1), "downloading (MiB)")

    def _check(self, headers: Any, total: int) -> None:
        found = self._sha256.hexdigest()
        due = self._url.sha256
        stated = re.search(r"md5=([\w+/=]+)", ",".join(headers.get_all("x-goog-hash") or ()))
        if due is not None and not found.startswith(due):
            fault = f"SHA-256 {found} instead of {due}{'...' if len(due) < 64 else ''}"
        elif stated is not None and base64.b64decode(stated[1]) != self._md5.digest():
            fault = "another MD5 than the server states"
        elif total and self._done != total:
            fault = f"{self._done} bytes instead of {total}"
        else:
            return
        raise DownloadError(
            f"{self._url.address} arrived damaged ({fault}) and was not kept; try again, and if it happens "
            "again look for a proxy that changes files, or ask where the file comes from"
        )


def _advice(status: int) -> str:
    advice = {
        401: "it is not public; download it by hand and give its path",
        403: "it is not public; download it by hand and give its path",
        404: "there is no such file; check the address",
        410: "the file is gone",
        429: "too many requests: wait and try again",
    }
    return advice.get(status, "the server has a problem: try again later")
