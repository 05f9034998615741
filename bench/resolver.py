"""How fast the stack resolver answers: loading its data, one question, a thousand hosts, and the question that costs most.

    .venv/bin/python -m bench.resolver

Processor time, because machines are shared; the best of several runs. Writes bench/results/resolver.json.
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ops.paths import ROOT
from ops.resolve import questions_of
from plugins.module_utils.stack import load_tables, resolve
from plugins.module_utils.stack.loader import DATA
from plugins.module_utils.stack.tables import Tables

RESULT = ROOT / "bench" / "results" / "resolver.json"
CASES = ROOT / "tests" / "unit" / "data" / "stack" / "cases.yml"
HOSTS, ODD, REPEATS, SEED = 1000, 500, 3, 20261122
ONE_ANSWER_MS, THOUSAND_HOSTS_S = 50, 5

Asked = tuple[dict[str, Any], dict[str, Any]]


def fleet(tables: Tables, count: int) -> list[Asked]:
    """Hosts as a fleet has them: one GPU model each, a driver that serves it, sometimes too old for the wish."""
    chance = random.Random(SEED)
    drivers = [branch.last_known.text for branch in tables.branches.values() if branch.number >= 470]
    asked = []
    for _ in range(count):
        gpu = chance.choice(tables.gpus)
        facts = {
            "gpus": [{"name": gpu.names[0]}] * chance.choice([1, 2, 4, 8]),
            "driver": chance.choice(drivers),
            "kernel_module": "proprietary" if gpu.open_module == "unsupported" else "open",
            "os": {"id": "ubuntu", "version": "22.04", "glibc": "2.35"},
            "python": chance.choice(["3.10", "3.11", "3.12"]),
        }
        asked.append(
            (facts, {"torch": chance.choice(["auto", "2.9.1"]), "variant": chance.choice(["auto", "cu126", "cu128"])})
        )
    return asked


def odd_questions(tables: Tables, count: int) -> list[Asked]:
    """Questions as only a tester asks them: any GPUs together, any driver, several libraries. The dearest is among them."""
    chance = random.Random(SEED)
    libraries = {
        "vllm": ["0.9.2", "0.23.0"],
        "flash-attn": ["2.8.3"],
        "transformers": ["4.50.0", "5.23.0"],
        "torchvision": ["0.24.1"],
    }
    asked = []
    for _ in range(count):
        gpus = chance.sample([gpu for gpu in tables.gpus if not gpu.cpu_arch], chance.choice([1, 2, 3]))
        libs = chance.sample(sorted(libraries), 2)
        facts = {
            "gpus": [{"name": gpu.names[0]} for gpu in gpus],
            "driver": chance.choice([None, *(gpu.min_driver.text for gpu in tables.gpus)]),
            "kernel_module": chance.choice(["open", "proprietary", None]),
            "os": {"id": "any", "version": "1", "glibc": chance.choice(["2.17", "2.28", "2.35"])},
            "arch": chance.choice(["x86_64", "aarch64"]),
            "python": chance.choice(["3.8", "3.11", "3.13"]),
        }
        want = {
            "torch": chance.choice(["auto", *(release.version.text for release in tables.releases)]),
            "variant": chance.choice(["auto", *tables.cuda]),
            "libs": {name: chance.choice(libraries[name]) for name in libs},
        }
        asked.append((facts, want))
    return asked


def seconds(run: Callable[[], object]) -> float:
    """Processor seconds of one call, the best of several."""
    measured = []
    for _ in range(REPEATS):
        started = time.process_time()
        run()
        measured.append(time.process_time() - started)
    return min(measured)


def milliseconds(asked: list[Asked]) -> dict[str, float]:
    """Per question: median, 95th percentile, worst."""
    each = sorted(seconds(partial(resolve, *question)) * 1000 for question in asked)
    named = {"median": statistics.median(each), "p95": each[int(len(each) * 0.95)], "worst": each[-1]}
    return {name: round(value, 2) for name, value in named.items()}


def fresh_process() -> float:
    """Wall seconds of a new process that imports the resolver and answers once."""
    question = "resolve({'gpus': [{'name': 'Tesla T4'}], 'driver': '535.216.01'}, {})"
    command = [sys.executable, "-c", f"from plugins.module_utils.stack import resolve; {question}"]
    measured = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True)
        measured.append(time.perf_counter() - started)
    return min(measured)


def main() -> int:
    """Measure, write, and fail when a budget is broken."""
    load = seconds(partial(load_tables.__wrapped__, DATA))
    tables = load_tables()
    golden = milliseconds([(dict(question.facts), dict(question.want)) for question in questions_of(CASES)])
    odd = milliseconds(odd_questions(tables, ODD))
    hosts = fleet(tables, HOSTS)
    thousand = seconds(lambda: [resolve(*question) for question in hosts])
    result = {
        "machine": {"python": platform.python_version(), "processor": platform.machine()},
        "load_s": round(load, 3),
        "fresh_process_s": round(fresh_process(), 3),
        "golden_questions_ms": golden,
        "odd_questions_ms": odd,
        "thousand_hosts_s": round(thousand, 2),
        "budget": {"one_answer_ms": ONE_ANSWER_MS, "thousand_hosts_s": THOUSAND_HOSTS_S},
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return int(max(golden["worst"], odd["worst"]) > ONE_ANSWER_MS or thousand > THOUSAND_HOSTS_S)


if __name__ == "__main__":
    sys.exit(main())
