"""A double of Nginx and the inference service, for what a real one does not do on demand: refuse, break, cut.

It serves a built page over self-signed HTTPS with the headers of our Nginx, and answers /v1 by the text of the last
question: see ANSWERS and `_broken`. Whatever a real server can show is tested against a real server instead.
"""

from __future__ import annotations

import json
import mimetypes
import secrets
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# The policy that the nginx role sends; app/web/README.md explains each part.
CSP = (
    "default-src 'none'; script-src 'self'; style-src-elem 'self' 'nonce-{nonce}'; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

MARKDOWN = """\
A **list**, some `code`, a [link](https://example.org), $e^{i\\pi} + 1 = 0$ for $5, and a table:

- first
- second, <img src=x onerror="window.injected = true">
- third, ![a picture](https://example.org/picture.png)

$$
\\int_0^1 x^2\\,dx = \\frac{1}{3}
$$

```python
def greet(name: str) -> str:
    return f"Hello, {name}!"  # a long comment, so long that the line is wider than the page on every phone and some desks
```

| layer | role |
| --- | --- |
| base | nginx |
"""
ANSWERS = {"Show me Markdown": MARKDOWN}
MODELS = ("double", "chat")  # the second says who it is, and has a name that is a word of the demo, too
LONG = "word " * 400
REFUSALS = {"Be busy": (503, "The queue is full.", 600), "Be crowded": (429, "Too many requests.", 1)}
ONCE = "Be crowded for a moment"
REFUSALS[ONCE] = REFUSALS["Be crowded"]
CALL = {
    "index": 0,
    "id": "call-1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Jinan"}'},
}


class FrontDouble(ThreadingHTTPServer):
    """Listens on 127.0.0.1 from construction; `key` is the one that it accepts, `static` the built page."""

    daemon_threads = True

    def __init__(self, static: Path | None, key: str, tls: tuple[Path, Path] | None = None, delay: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.static, self.key, self.delay = static, key, delay
        self.config: dict[str, object] = {"title": "Bedplate", "apiBase": "/v1"}
        self.chats: list[dict[str, Any]] = []
        self.cancelled = threading.Event()
        self.read = threading.Event()  # set by a test that sees the text of an answer that "Be killed" ends
        self.goes_on = threading.Event()  # set by a test that wants the second half of the answer to "Be long"
        self.broken = self.key_required = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that hangs up is no error here."""

    @contextmanager
    def running(self) -> Iterator[FrontDouble]:
        thread = threading.Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()


def self_signed(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 in `directory`; returns (certificate, key)."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-out", cert, "-keyout", key],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FrontDouble

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/config.json":
            self._json(200, self.server.config)
        elif path == "/v1/models":
            if self._authorized():
                self._json(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})
        else:
            self._file("index.html" if path == "/" else path.lstrip("/"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._authorized():
            return
        if self.path == "/v1/embeddings":
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            data = [{"object": "embedding", "index": i, "embedding": _letters(t)} for i, t in enumerate(texts)]
            self._json(200, {"object": "list", "data": data, "model": body["model"], "usage": None})
        elif self.path == "/v1/chat/completions":
            self.server.chats.append(body)
            self._chat(_text(body["messages"][-1]["content"]), body["model"])
        else:
            self._error(404, "no such path")

    def _chat(self, question: str, model: str) -> None:
        asked = [_text(chat["messages"][-1]["content"]) for chat in self.server.chats]
        if question in REFUSALS and (asked.count(ONCE) == 1 if question == ONCE else self.server.broken):
            self._error(*REFUSALS[question])
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk(": a comment is no data\n\n")
        answer = LONG if question == "Be long" else ANSWERS.get(question, f"You said: {question}")
        answer = answer if model == MODELS[0] else f"{model}: {answer}"
        try:
            if question == "Be thoughtful":
                self._part({"reasoning_content": "First I think."})
            if question == "Be handy":
                self._part({"tool_calls": [CALL]})
            for at in range(0, len(answer), 5):
                self._part({"content": answer[at : at + 5]})
                time.sleep(self.server.delay)
                while question == "Be long" and at >= len(answer) // 2 and not self.server.goes_on.wait(0.05):
                    self._chunk(": whoever has hung up is noticed by writing\n\n")
        except OSError:
            self.server.cancelled.set()
            return
        if not (self.server.broken and self._broken(question)):
            self._part({}, finish="length" if question == "Be short" else "stop")
            self._chunk('data: {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 40}}\n\n')
            self._chunk("data: [DONE]\n\n")
            self._chunk("")

    def _broken(self, question: str) -> bool:
        """End the answer in one of the wrong ways, if the question asks for it."""
        if question == "Be cut":
            self._chunk("")
        elif question == "Be killed":
            self.server.read.wait(60)  # what was sent is on the page
            self.close_connection = True
            self.connection.close()
        elif question == "Be faulty":
            self._chunk('data: {"error": {"message": "The engine was restarted.", "type": "server_error"}}\n\n')
            self._chunk("")
        else:
            return False
        return True

    def _part(self, delta: dict[str, Any], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {
            "id": "chatcmpl-0",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": "double",
            "choices": [choice],
        }
        self._chunk(f"data: {json.dumps(chunk)}\n\n")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _authorized(self) -> bool:
        if not self.server.key_required or self.headers["Authorization"] == f"Bearer {self.server.key}":
            return True
        self._error(401, "Incorrect API key provided.")
        return False

    def _error(self, status: int, message: str, retry_after: int | None = None) -> None:
        error = {"message": message, "type": "error", "param": None, "code": None}
        self._json(status, {"error": error}, {} if retry_after is None else {"Retry-After": str(retry_after)})

    def _json(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(body).encode(), headers or {})

    def _file(self, name: str) -> None:
        root = self.server.static
        file = (root / name).resolve() if root else None
        if root is None or file is None or not file.is_relative_to(root.resolve()) or not file.is_file():
            self._error(404, "no such file")
            return
        data, headers = file.read_bytes(), {"X-Content-Type-Options": "nosniff"}
        if name == "index.html":
            nonce = secrets.token_hex(16)
            data = data.replace(b"__CSP_NONCE__", nonce.encode())
            headers |= {"Content-Security-Policy": CSP.format(nonce=nonce), "Cache-Control": "no-cache"}
        self._send(200, mimetypes.guess_type(name)[0] or "application/octet-stream", data, headers)

    def _send(self, status: int, kind: str, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _text(content: Any) -> str:
    """The text of a message, which may have images beside it."""
    if isinstance(content, str):
        return content
    return next(str(part["text"]) for part in content if part["type"] == "text")


def _letters(text: str) -> list[float]:
    """A text as its letter counts: alike for texts that are alike."""
    return [float(text.lower().count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"]
