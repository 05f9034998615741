"""Runs on a server, beside nginx and the service: the same requests directly to the service's socket and through nginx.

Standard library alone; bench/nginx.py sends it there. Reads {"key", "model", "port", "socket", "samples", "rounds"} as JSON from standard
input and prints what it measured. Plain non-blocking sockets and no parsing while answers run: the client shares the machine.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

STREAMS = 64
TOKENS = 64
TASK: dict[str, Any] = json.load(sys.stdin)
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE


def connect(way: str) -> socket.socket:
    """A connection to the service, or one to nginx with TLS established. (Over the loopback, so no certificate is checked.)"""
    if way == "direct":
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(TASK["socket"])
        return plain
    tcp = socket.create_connection(("127.0.0.1", TASK["port"]))
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return CONTEXT.wrap_socket(tcp)


def request(tokens: int, seed: int) -> bytes:
    """A streamed chat that rambles on to its limit; the same seed gives the same answer."""
    body = json.dumps(
        {
            "model": TASK["model"],
            "messages": [{"role": "user", "content": "What is Bedplate?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 2.0,
            "seed": seed,
            "max_tokens": tokens,
        }
    )
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TASK['key']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def first_event(connection: socket.socket, seed: int) -> float:
    """Seconds until the first event of an answer; the rest is read, too."""
    began = time.perf_counter()
    connection.sendall(request(4, seed))
    seen, first = b"", 0.0
    while not seen.endswith(b"0\r\n\r\n"):
        got = connection.recv(65536)
        if not got:
            sys.exit(f"cut: {seen[-300:]!r}")
        seen += got
        if not first and b"data: " in seen:
            first = time.perf_counter() - began
    if b" 200 " not in seen[:20]:
        sys.exit(seen[:300].decode())
    return first


def spent() -> dict[str, float]:
    """Seconds of CPU that the client, the workers of nginx and everything on the machine have used so far."""
    tick = os.sysconf("SC_CLK_TCK")
    nginx = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition(") ")
        except OSError:
            continue  # gone meanwhile
        if name.endswith("(nginx"):
            nginx += sum(map(int, rest.split()[11:13])) / tick
    user, nice, system, _idle, _wait, irq, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return {"client": time.process_time(), "nginx": nginx, "machine": (user + nice + system + irq + soft) / tick}


def throughput(way: str) -> dict[str, float]:
    """Tokens per second of STREAMS answers at once, each on a connection that was there before."""
    selector = selectors.DefaultSelector()
    connections = [connect(way) for _ in range(STREAMS)]
    for seed, connection in enumerate(connections):
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, seed)
    tails: dict[int, bytearray] = {seed: bytearray() for seed in range(STREAMS)}
    before, began = spent(), time.perf_counter()
    for seed, connection in enumerate(connections):
        connection.sendall(request(TOKENS, seed))
    running = STREAMS
    while running:
        for ready, _ in selector.select():
            tail, connection = tails[ready.data], connections[ready.data]
            try:
                got = connection.recv(65536)
                while isinstance(connection, ssl.SSLSocket) and connection.pending():
                    got += connection.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                continue
            if not got:
                sys.exit(f"cut: {bytes(tail[-300:])!r}")
            tail += got
            if tail.endswith(b"0\r\n\r\n"):
                selector.unregister(connection)
                running -= 1
    seconds = time.perf_counter() - began
    used = {who: amount - before[who] for who, amount in spent().items()}
    tokens = sum(int(re.findall(rb'"completion_tokens":\s*(\d+)', bytes(tail))[-1]) for tail in tails.values())
    for connection in connections:
        connection.close()
    # Until nginx has counted them as gone: so many are just what one key may have.
    time.sleep(0.1)
    return {"tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds, **used}


def main() -> None:
    """Alternate between the two ways, so that the machine's other work meets both."""
    ways = ("direct", "nginx")
    kept = {way: connect(way) for way in ways}
    for way in ways:
        first_event(kept[way], 0)
    first: dict[str, list[float]] = {"direct": [], "nginx": [], "nginx_new_connection": []}
    for sample in range(TASK["samples"]):
        for way in ways if sample % 2 else ways[::-1]:
            first[way].append(first_event(kept[way], sample))
        began = time.perf_counter()
        with connect("nginx") as new:
            shaken = time.perf_counter() - began
            first["nginx_new_connection"].append(shaken + first_event(new, sample))
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for way in ways:
        throughput(way)
    for number in range(TASK["rounds"]):
        for way in ways if number % 2 else ways[::-1]:
            rounds[way].append(throughput(way))
    json.dump({"first_event_seconds": first, "rounds": rounds}, sys.stdout)


main()
