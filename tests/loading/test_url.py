"""Checkpoints at an address of their own: fetched whole and checked, or not at all."""

from __future__ import annotations

import base64
import errno
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenic_cases import random_parameters

import qora_vision
from qora_vision import DownloadError
from qora_vision.cli import main
from qora_vision.loading.hub import parse_url, url
from qora_vision.models.vivit_factorised_attention.checkpoint import CHECKPOINT_MAP
from qora_vision.models.vivit_factorised_attention.network import VivitFactorisedAttentionConfig

CONFIG = VivitFactorisedAttentionConfig(
    num_classes=5,
    num_frames=32,
    image_size=(32, 32),
    tubelet_size=(2, 8, 8),
    embed_dim=32,
    depth=1,
    num_heads=1,
    mlp_dim=64,
)


@dataclass
class FileServer:
    """One file, and what shall go wrong with it."""

    content: bytes
    status: int = 200
    cut_after: int | None = None  # bytes after which a connection breaks
    cuts: int = 0  # how many times it still breaks
    ranges: bool = True  # it can go on where it broke
    longer: int = 0  # bytes that Content-Length promises too many
    md5: str | None = None
    address: str = ""
    requests: list[str] = field(default_factory=list)  # "GET /path range"


def handler_of(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            server.requests.append(f"GET {self.path} {asked}".strip())
            if server.status != 200:
                self.send_response(server.status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges else 0
            body = server.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body) + server.longer))
            self.send_header("x-goog-hash", "crc32c=AAAAAA==")
            if server.md5 is not None:
                self.send_header("x-goog-hash", f"md5={server.md5}")
            self.end_headers()
            if server.cuts:
                server.cuts -= 1
                body = body[: server.cut_after]
            self.wfile.write(body)
            self.close_connection = True

    return Handler


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server with a checkpoint; the cache is empty."""
    np.savez(tmp_path / "x.npz", **random_parameters(CHECKPOINT_MAP, CONFIG))
    server = FileServer((tmp_path / "x.npz").read_bytes())
    monkeypatch.setenv("QORA_VISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(url.time, "sleep", lambda seconds: None)
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(server))
    server.address = f"http://127.0.0.1:{listening.server_port}/some/where/model.npz"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield server
    listening.shutdown()
    listening.server_close()
    thread.join()


def kept(tmp_path: Path) -> list[str]:
    """Names of the files in the cache, but for its locks."""
    files = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    return sorted(path.name for path in files if path.suffix != ".lock")


def test_fetched_and_converted_once(remote: FileServer, tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    clf = qora_vision.load(remote.address, progress=lambda *step: steps.append(step))
    assert clf.config == CONFIG
    assert clf.provenance["source"] == remote.address
    assert {what for _, _, what in steps} == {"downloading (MiB)", "converting weights"}
    assert all(0 <= done <= total for done, total, _ in steps)
    (name,) = kept(tmp_path)
    assert name.endswith("-q4.qora-vision")
    again = qora_vision.load(remote.address)
    assert remote.requests == ["GET /some/where/model.npz"]
    clip = np.random.default_rng(0).random((1, *CONFIG.clip_shape), np.float32)
    local = qora_vision.load(tmp_path / "x.npz").forward(clip)
    np.testing.assert_array_equal(clf.forward(clip), local)
    np.testing.assert_array_equal(again.forward(clip), local)


def test_float_weights_are_read_from_the_download(remote: FileServer, tmp_path: Path) -> None:
    for weights in ("f32", "f16"):
        assert qora_vision.load(remote.address, weights=weights).quantization == weights
    assert kept(tmp_path) == ["model.npz"]
    assert len(remote.requests) == 1
    assert main(["cache", "clear", remote.address.removeprefix("http://")]) == 0
    assert kept(tmp_path) == []


def test_the_cache_lists_and_clears_it(
    remote: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qora_vision.load(remote.address)
    name = remote.address.removeprefix("http://")
    assert main(["cache", "list"]) == 0
    assert name in capsys.readouterr().out
    assert main(["cache", "clear", name]) == 0
    assert kept(tmp_path) == []


def test_pinned_content(remote: FileServer, tmp_path: Path) -> None:
    digest = hashlib.sha256(remote.content).hexdigest()
    qora_vision.load(f"{remote.address}#sha256={digest}")
    wrong = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    with pytest.raises(DownloadError, match=f"SHA-256 {digest} instead of {wrong}"):
        qora_vision.load(f"{remote.address}#sha256={wrong}")
    assert len(kept(tmp_path)) == 1, "only what is right is kept"
    named = remote.address.replace("model", f"model-{digest[:8]}")
    assert qora_vision.load(named).config == CONFIG
    with pytest.raises(DownloadError, match=r"instead of deadbeef\.\.\."):
        qora_vision.load(remote.address.replace("model", "model-deadbeef"))


@pytest.mark.parametrize("ranges", [True, False])
def test_taken_up_where_it_broke(remote: FileServer, ranges: bool) -> None:
    remote.cut_after, remote.cuts, remote.ranges = 5000, 2, ranges
    remote.md5 = base64.b64encode(hashlib.md5(remote.content).digest()).decode()
    assert qora_vision.load(remote.address).config == CONFIG
    path = "GET /some/where/model.npz"
    second = 10000 if ranges else 5000
    assert remote.requests == [path, f"{path} bytes=5000-", f"{path} bytes={second}-"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cut_after": 100, "cuts": 99}, "broke off after 400 of"),
        ({"longer": 7}, "broke off after"),
        ({"md5": base64.b64encode(bytes(16)).decode()}, "another MD5"),
        ({"status": 401}, "answered 401: it is not public"),
        ({"status": 403}, "answered 403: it is not public"),
        ({"status": 404}, "answered 404: there is no such file"),
        ({"status": 429}, "answered 429: too many requests"),
        ({"status": 503}, "answered 503: the server has a problem"),
    ],
    ids=str,
)
def test_nothing_damaged_is_kept(
    remote: FileServer, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    for name, value in change.items():
        setattr(remote, name, value)
    for weights in ("q4", "f32"):
        with pytest.raises(DownloadError, match=message):
            qora_vision.load(remote.address, weights=weights)
    assert kept(tmp_path) == []


def test_no_server(remote: FileServer, tmp_path: Path) -> None:
    address = re.sub(r":\d+/", ":9/", remote.address)
    with pytest.raises(DownloadError, match=r"could not be fetched .*check the address"):
        qora_vision.load(address)
    assert kept(tmp_path) == []


def test_offline(remote: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE forbids"):
        qora_vision.load(remote.address)
    assert remote.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    qora_vision.load(remote.address)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert qora_vision.load(remote.address).config == CONFIG


def test_a_full_disk(remote: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(url._Transfer, "run", full)
    with pytest.raises(DownloadError, match="point QORA_VISION_CACHE at another disk"):
        qora_vision.load(remote.address)
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://example.org/x.pth", "use https, or pin"),
        ("https://example.org/x.pth#main", "64 hexadecimal digits"),
        ("https://example.org/x.pth#sha256=12", "64 hexadecimal digits"),
        ("https://example.org/x.zip", "expected the address of a checkpoint file"),
        ("https://example.org/", "expected the address of a checkpoint file"),
    ],
)
def test_addresses_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        qora_vision.load(text)


def test_what_an_address_says() -> None:
    assert parse_url("google/vivit") is None
    address = "https://download.pytorch.org/models/swin3d_t-7615ae03.pth"
    torchvision = parse_url(address)
    assert torchvision is not None
    assert torchvision.sha256 == "7615ae03"
    assert torchvision.file_name == "swin3d_t-7615ae03.pth"
    pinned = parse_url(f"{address}#sha256={'A' * 64}")
    assert pinned == replace(torchvision, sha256="a" * 64)
    assert pinned.key != torchvision.key
