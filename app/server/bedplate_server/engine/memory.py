"""How many sequences of which length fit the memory there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import Refusal

_SHORTEST = 256
_COMFORTABLE = 4096


@dataclass(frozen=True, slots=True)
class KVPlan:
    """`slots` sequences of at most `context_length` tokens; `bytes` in all."""

    slots: int
    context_length: int
    bytes: int


def plan(
    *, budget: int, bytes_per_token: int, model_context: int, wanted_context: int | None, wanted_slots: int
) -> KVPlan:
    """Divide `budget` bytes. A context that was asked for is kept to; otherwise it is as long as
    `wanted_slots` sequences allow, but rather fewer sequences than less than 4096 tokens.

    Raises Refusal BP659 when not even one useful sequence fits.
    """
    tokens = budget // bytes_per_token
    context = wanted_context or max(tokens // wanted_slots, min(_COMFORTABLE, tokens))
    context = min(context, model_context)
    slots = min(wanted_slots, tokens // context) if context else 0
    shortest = wanted_context or min(_SHORTEST, model_context)
    if slots == 0 or context < min(shortest, model_context):
        raise Refusal(
            "BP659",
            f"{budget // 2**20} MiB are left for keys and values, one sequence of {shortest} tokens needs "
            f"{shortest * bytes_per_token // 2**20} MiB.",
            "free memory, serve a smaller model, or lower models[].context_length.",
        )
    return KVPlan(slots, context, slots * context * bytes_per_token)


def cpu_budget() -> int:
    """A quarter of what the machine has to give, at most 8 GiB: weights and other services need the rest."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) * 1024 // 4, 8 * 2**30)
    return 2**30


def cuda_budget(free: int) -> int:
    """What a loaded model leaves of a GPU, less a tenth for activations and the allocator's gaps."""
    return max(free * 9 // 10 - 2**29, 0)
