"""What nginx costs: time to the first token and throughput through it and without it, in one run.

    .venv/bin/python -m bench.nginx [--inventory inventory/sandbox] [--models tutor tiny]

On a provisioned server, from the server itself: the service's own socket against nginx with TLS on the loopback, in turn. The smaller
and faster the model, the harder the test: nginx, client and service share the machine. Writes bench/results/nginx.json.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console

from ops.inventory import Host, hosts
from ops.paths import ROOT
from ops.service import Service, service_of

RESULT = ROOT / "bench" / "results" / "nginx.json"
CLIENT = ROOT / "bench" / "nginx_client.py"
ON_SERVER = "/tmp/bedplate-bench-nginx.py"
PYTHON = "/opt/bedplate/envs/inference/bin/python"
CONSOLE = Console()


def spread(samples: list[float]) -> dict[str, float]:
    """Median, 95th percentile and number of samples, in milliseconds."""
    ordered = sorted(1000 * one for one in samples)
    return {
        "median_ms": round(statistics.median(ordered), 2),
        "p95_ms": round(ordered[int(len(ordered) * 0.95)], 2),
        "samples": len(ordered),
    }


def measured(host: Host, service: Service, model: str, samples: int, rounds: int) -> dict[str, Any]:
    """What the client measured with one model on the server."""
    task = {
        "key": service.key,
        "model": model,
        "port": host.https_port,
        "socket": "/run/bedplate/inference.sock",
        "samples": samples,
        "rounds": rounds,
    }
    with host.connection() as connection:
        connection.put(str(CLIENT), ON_SERVER)
        try:
            said = connection.run(
                f"sudo {PYTHON} -IB {ON_SERVER}", in_stream=io.StringIO(json.dumps(task)), hide=True, timeout=570
            ).stdout
        finally:
            connection.run(f"sudo rm -f {ON_SERVER}", hide=True)
    found: dict[str, Any] = json.loads(said)
    return found


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The two promises, each beside what it is made of."""
    first = {way: spread(samples) for way, samples in found["first_event_seconds"].items()}
    speed = {way: [one["tokens_per_second"] for one in rounds] for way, rounds in found["rounds"].items()}
    # Microseconds of CPU per token: what of the difference is nginx, and what the client's own TLS.
    cpu = {
        way: {
            who: round(statistics.median(1e6 * one[who] / one["tokens"] for one in rounds))
            for who in ("client", "nginx", "machine")
        }
        for way, rounds in found["rounds"].items()
    }
    # Each round beside its neighbour: what else the machine did meets both.
    ratios = [through / direct for through, direct in zip(speed["nginx"], speed["direct"], strict=True)]
    return {
        "time_to_first_token": {
            **first,
            "added_by_nginx_ms": round(first["nginx"]["median_ms"] - first["direct"]["median_ms"], 2),
            "added_with_a_new_connection_ms": round(
                first["nginx_new_connection"]["median_ms"] - first["direct"]["median_ms"], 2
            ),
        },
        "throughput_64_streams": {
            "direct_tokens_per_second": [round(one) for one in speed["direct"]],
            "nginx_tokens_per_second": [round(one) for one in speed["nginx"]],
            "nginx_of_direct": round(statistics.median(ratios), 3),
            "cpu_microseconds_per_token": cpu,
            "nginx_of_direct_each_round": [round(one, 3) for one in ratios],
        },
    }


def main() -> None:
    """Measure, show, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inventory", type=Path, default=ROOT / "inventory" / "sandbox")
    parser.add_argument("--models", nargs="+", help="of those it serves; the first where none is named")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=16)
    given = parser.parse_args()
    host = hosts(given.inventory)[0]
    service = service_of(host, given.inventory / "secrets")
    models = given.models or [service.request("/v1/models")["data"][0]["id"]]
    with host.connection() as connection:
        cores, version = connection.run("nproc; dpkg-query -W -f '${Version}' nginx", hide=True).stdout.split()
    result = {
        "machine": {"cores": int(cores), "nginx": version},
        "models": {model: summary(measured(host, service, model, given.samples, given.rounds)) for model in models},
    }
    CONSOLE.print_json(data=result)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
