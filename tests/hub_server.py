"""A hub of one repository on this machine: what huggingface_hub asks of the real one."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, repository: str, folder: Path, asked: list[str], *args) -> None:
        self.repository, self.folder, self.asked = repository, folder, asked
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0].lstrip("/")
        prefix = f"{self.repository}/resolve/"
        if path.startswith(prefix):
            revision, _, name = path.removeprefix(prefix).partition("/")
            file = self.folder / name
            if revision in ("main", COMMIT) and file.is_file():
                self.asked.append(name)
                return self._send(200, file.read_bytes(), body)
            return self._send(404, b"", body, "EntryNotFound")
        wanted = f"api/models/{self.repository}"
        if path != wanted and not path.startswith(f"{wanted}/"):
            return self._send(404, b"{}", body, "RepoNotFound")
        rest = path.removeprefix(wanted).strip("/").split("/")
        if rest[-1] not in ("", "main", COMMIT):
            return self._send(404, b"{}", body, "RevisionNotFound")
        names = sorted(
            file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*") if file.is_file()
        )
        if rest[0] == "tree":
            sizes = {name: (self.folder / name).stat().st_size for name in names}
            entries = [{"type": "file", "path": n, "size": sizes[n], "oid": "0" * 40} for n in names]
            return self._send(200, json.dumps(entries).encode(), body)
        info = {"id": self.repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
        return self._send(200, json.dumps(info).encode(), body)

    def _send(self, status: int, content: bytes, body: bool, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args) -> None:
        """Says nothing."""


@contextlib.contextmanager
def hub_server(repository: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serves a folder as a repository; yields the address and the names of files that were asked for."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, repository, folder, asked))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
