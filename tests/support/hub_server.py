"""A server on loopback that speaks the part of the Hugging Face hub's HTTP API that downloads use."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """One repository, and the faults that the server simulates."""

    directory: Path
    repository: str = "somebody/tiny-vivit"
    revisions: tuple[str, ...] = ("main", "v1.0")
    token: str | None = None  # the repository is private, and this token may read it
    gated: bool = False
    api_status: int | None = None  # what the listing answers instead
    file_status: int | None = None  # what every file answers instead
    cut_after: int | None = None  # bytes of a weight file after which the connection breaks
    cuts: int = 0  # how many times it still breaks
    lying_size: bool = False  # Content-Length and X-Linked-Size of the weights are wrong
    damaged: bool = False  # a bit of the weights is flipped on the way
    endpoint: str = ""
    requests: list[str] = field(default_factory=list)  # "GET /path" of all that came
    ranges: list[str] = field(default_factory=list)

    def content(self, name: str) -> bytes:
        """What a file holds."""
        return (self.directory / name).read_bytes()

    def fetched(self) -> list[str]:
        """Names of the files whose content was asked for."""
        content = re.compile(r"GET /(?:cdn|.+/resolve/[^/]+)/(.+)")
        return [match.group(1) for line in self.requests if (match := content.fullmatch(line))]

    def listing(self) -> dict[str, Any]:
        """The answer of /api/models/..., files with their hashes."""
        siblings = []
        for path in sorted(self.directory.iterdir()):
            data = path.read_bytes()
            blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
            entry: dict[str, Any] = {"rfilename": path.name, "size": len(data), "blobId": blob}
            if is_large(path.name):
                entry["lfs"] = {
                    "size": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "pointerSize": 134,
                }
            siblings.append(entry)
        return {
            "id": self.repository,
            "modelId": self.repository,
            "sha": COMMIT,
            "cardData": {"license": "apache-2.0"},
            "siblings": siblings,
            "tags": [],
            "downloads": 0,
            "private": self.token is not None,
        }


def is_large(name: str) -> bool:
    """Whether the hub would keep a file in its large file storage."""
    return name.endswith((".safetensors", ".bin"))


def handler_of(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            path = unquote(self.path.partition("?")[0])
            hub.requests.append(f"{self.command} {path}")
            if path.startswith("/cdn/"):
                return self.send_content(path.removeprefix("/cdn/"))
            if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self.refuse(401, "RepoNotFound", "Repository not found")
            api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            repository, revision = (api or file).group(1, 2)  # type: ignore[union-attr]
            if repository != hub.repository:
                return self.refuse(404, "RepoNotFound", "Repository not found")
            if revision not in (None, COMMIT, *hub.revisions):
                return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            if hub.gated and file is not None:
                return self.refuse(403, "GatedRepo", "Access to model is restricted")
            status = hub.api_status if api else hub.file_status
            if status is not None:
                return self.refuse(status, "", "as asked")
            if api:
                return self.send(
                    200, json.dumps(hub.listing()).encode(), {"Content-Type": "application/json"}
                )
            return self.resolve(file.group(3))  # type: ignore[union-attr]

        def resolve(self, name: str) -> None:
            """Answer as the hub does: small files at once, large ones by their hash, size and other host."""
            if not (hub.directory / name).exists():
                return self.refuse(404, "EntryNotFound", "Entry not found")
            data = hub.content(name)
            if not is_large(name):
                blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
                return self.send(200, data, {"X-Repo-Commit": COMMIT, "ETag": f'"{blob}"'})
            headers = {
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
                "X-Linked-Size": str(len(data) + 1000 * hub.lying_size),
                "Location": hub.endpoint.replace("127.0.0.1", "localhost") + f"/cdn/{name}",
            }
            return self.send(302, b"", headers)

        def send_content(self, name: str) -> None:
            data = bytearray(hub.content(name))
            if hub.damaged and is_large(name):
                data[len(data) // 2] ^= 1
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked.group(1)) if asked else 0
            if asked:
                hub.ranges.append(asked.group(0))
            body = bytes(data[start:])
            headers = {"Accept-Ranges": "bytes"}
            if asked:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            cut = is_large(name) and hub.cut_after is not None and hub.cuts > 0
            if cut and self.command == "GET":
                hub.cuts -= 1
                self.send(206 if asked else 200, body[: hub.cut_after], headers, claimed=len(body))
                self.close_connection = True
                return
            self.send(206 if asked else 200, body, headers)

        def refuse(self, status: int, code: str, message: str) -> None:
            self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})

        def send(self, status: int, body: bytes, headers: dict[str, str], claimed: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if claimed is None else claimed))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


@contextmanager
def serve(hub: HubServer) -> Iterator[HubServer]:
    """Run the server until the block is left."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
