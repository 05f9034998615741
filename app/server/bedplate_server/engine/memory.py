"""How many tokens of keys and values fit the memory there is, and how long a sequence may get."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import Refusal
from .arena import SMALLEST, block_size

_SHORTEST = 256


@dataclass(frozen=True, slots=True)
class KVPlan:
    """At most `sequences` at once, each of at most `context_length` tokens, and `tokens` together in `bytes`."""

    sequences: int
    context_length: int
    tokens: int
    bytes: int


def plan(
    *, budget: int, bytes_per_token: int, model_context: int, wanted_context: int | None, wanted_sequences: int
) -> KVPlan:
    """Spend `budget` bytes, but not more than `wanted_sequences` of full length could use.

    A context that was asked for is kept to; otherwise it is the model's own, or what one sequence can have of the
    memory. Raises Refusal BP659 when not even one useful sequence fits.
    """
    context = min(wanted_context or model_context, model_context)
    tokens = min(budget // bytes_per_token, wanted_sequences * block_size(context))
    tokens -= tokens % SMALLEST
    largest = 1 << (tokens.bit_length() - 1) if tokens else 0
    shortest = context if wanted_context else min(_SHORTEST, model_context)
    if largest < shortest:
        raise Refusal(
            "BP659",
            f"{budget // 2**20} MiB are left for keys and values, one sequence of {shortest} tokens needs "
            f"{block_size(shortest) * bytes_per_token // 2**20} MiB.",
            "free memory, serve a smaller model, or lower models[].context_length.",
        )
    sequences = min(wanted_sequences, tokens // SMALLEST)
    return KVPlan(sequences, min(context, largest), tokens, tokens * bytes_per_token)


def cpu_budget() -> int:
    """A quarter of what the machine has to give, at most 8 GiB: weights and other services need the rest."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) * 1024 // 4, 8 * 2**30)
    return 2**30


def cuda_budget(free: int) -> int:
    """What a loaded model leaves of a GPU, less a tenth for activations and the allocator's gaps."""
    return max(free * 9 // 10 - 2**29, 0)
