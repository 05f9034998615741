"""How near a model's tokens come to what the device's memory allows: each token of one stream reads every weight once.

    .venv/bin/python -m bench.roof --streams 1         on a CPU: the 100 M model, one thread
    .venv/bin/python -m bench.roof --device cuda --model eight_b_bf16 --python ENV/bin/python --transformers PEER/bin/transformers
                                                       on a GPU: random weights in the shape of an 8B model, bfloat16

ENV has what a server's inference environment has, PEER transformers[serving] 5.23, both with PyTorch for the device. The roof is the
bandwidth, measured in the same run by bandwidth.py, over the bytes of the weights: keys and values are left out, so the share is a little
less than what is reached. Writes the device's entry of bench/results/roof.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.serving.__main__ import ANSWER_TOKENS, chats, in_turns, prompts, revision
from bench.serving.peers import Peer, models, peer_python, running, transformers_peers
from ops.paths import ROOT
from ops.service_env import service_python

RESULT = ROOT / "bench" / "results" / "roof.json"
MOST_STREAMS = 128
CONSOLE = Console(width=140)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="hundred")
    parser.add_argument("--python", help="the interpreter of an inference environment for the device")
    parser.add_argument("--transformers", help="the command of the peer, for the device")
    parser.add_argument("--streams", default="1,32,128", help="comma separated, 1 among them")
    asked = parser.parse_args()
    python = asked.python or str(service_python(CONSOLE))
    peer = asked.transformers or str(peer_python("transformers-serve", CONSOLE).parent / "transformers")
    folder = models(python, [asked.model]) / asked.model
    script = str(ROOT / "bench" / "serving" / "bandwidth.py")
    told = subprocess.run([python, script, asked.device], check=True, text=True, stdout=subprocess.PIPE)
    device = json.loads(told.stdout)
    entry: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "revision": revision(),
        "torch": device["torch"],
        "model": asked.model,
        "gigabytes_per_second": round(device["bytes_per_second"] / 1e9, 1),
        "answer_tokens": ANSWER_TOKENS,
    }
    for one in transformers_peers(python, peer):
        entry[one.name] = numbers(one, folder, asked.device, list(map(int, asked.streams.split(","))))
        CONSOLE.print(one.name, entry[one.name], highlight=False)
    weights = entry["bedplate"].pop("weight_bytes")
    entry["weights_gigabytes"] = round(weights / 1e9, 3)
    entry["roof_tokens_per_second"] = round(device["bytes_per_second"] / weights, 1)
    entry["share_of_the_roof"] = round(entry["bedplate"]["decode_1"] / entry["roof_tokens_per_second"], 3)
    CONSOLE.print_json(data=entry)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps(result | {device["device"]: entry}, indent=1) + "\n")


def numbers(peer: Peer, model: Path, device: str, streams: list[int]) -> dict[str, Any]:
    """Tokens per second at each number of streams, and of one stream after its first token (`decode_1`)."""
    found: dict[str, Any] = {}
    with running(peer, model, device=device, batch=MOST_STREAMS) as server:
        fresh = prompts({"model": server.model, "max_tokens": ANSWER_TOKENS, **peer.extra})
        for count in streams:
            run = chats(server, count, count, fresh)
            run()
            found |= in_turns({f"stream_{count}": run})
        one = found["stream_1"]
        seconds = ANSWER_TOKENS / one["per_second"] - one["first_p50_ms"] / 1000
        found["decode_1"] = round((ANSWER_TOKENS - 1) / seconds, 1)
        if facts := server.facts():
            found["weight_bytes"] = facts["weight_bytes"]
    return found


if __name__ == "__main__":
    main()
