"""Give published models to the other servers of a group: the program of a short-lived unit on the first one.

    python -c '...model_share.main(FOLDER, PORT)'

GET /<secret>/<model's folder>/<path>, for files a published manifest names and nothing else; the secret comes from systemd's
credentials. Ends by itself when nobody asked for a while. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

IDLE_S = 900.0
BLOCK = 1 << 22


class Share(ThreadingHTTPServer):
    """Files below `folder`, for whoever knows the secret."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, secret: str, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self.folder, self.secret, self.asked = folder, secret, time.monotonic()

    def file_of(self, path: str) -> Path | None:
        """The file an address means, if its model's manifest names it."""
        found = re.fullmatch(r"/([^/]+)/([^/]+@[0-9a-f]+)/(.+)", path)
        if not found or not hmac.compare_digest(found[1].encode(), self.secret.encode()):
            return None
        try:
            manifest = json.loads((self.folder / found[2] / "manifest.json").read_text(encoding="utf-8"))
            named = any(entry["path"] == found[3] for entry in manifest["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return self.folder / found[2] / found[3] if named else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120
    server: Share

    def do_GET(self) -> None:
        self.server.asked = time.monotonic()
        path = self.server.file_of(unquote(self.path.partition("?")[0]))
        if path is None or not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        start, end = 0, size - 1
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            start, end = int(wanted[1]), min(int(wanted[2] or end), end)
            if start > end:
                self.send_error(416)
                return
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start + 1))
        self.end_headers()
        with path.open("rb") as stream:
            while start <= end:
                start += self.connection.sendfile(stream, start, min(BLOCK, end - start + 1))
                self.server.asked = time.monotonic()

    def handle(self) -> None:
        """aria2 closes connections in the middle as it pleases."""
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: an address holds the secret."""


def main(folder: str, port: int) -> int:
    """Serve until nobody has asked for IDLE_S seconds."""
    secret = (Path(os.environ["CREDENTIALS_DIRECTORY"]) / "secret").read_text(encoding="utf-8").strip()
    share = Share(Path(folder), secret, ("", port))
    threading.Thread(target=share.serve_forever, daemon=True).start()
    while time.monotonic() - share.asked < IDLE_S:
        time.sleep(1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
