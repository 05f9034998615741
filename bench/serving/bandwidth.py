"""Bytes per second that a device reads from its memory; run by the service's interpreter: `python bandwidth.py DEVICE`.

The better of two kernels over 1 GiB, more than any cache holds: summing it up, and copying it (which reads and writes).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch

ELEMENTS, REPETITIONS = 2**28, 10


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of the fastest repetition."""
    found = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return min(found)


def main() -> None:
    torch.set_num_threads(1)
    device = torch.device(sys.argv[1])
    buffer = torch.ones(ELEMENTS, device=device)
    other = torch.empty_like(buffer)
    read = buffer.nbytes / seconds(buffer.sum, device)
    copied = 2 * buffer.nbytes / seconds(lambda: other.copy_(buffer), device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, one thread"
    print(json.dumps({"device": name, "torch": torch.__version__, "bytes_per_second": max(read, copied)}))


if __name__ == "__main__":
    main()
