"""Does a model fit: weights, keys and values and the rest against a device's memory, by the engine's own plan.

The engine decides again when it has loaded the model (app/server/bedplate_server/engine/memory.py); it runs on other
machines than this, so the rules stand here a second time and tests/app/test_fit.py proves that they agree.
Standard library only, Python 3.9 or newer. Sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .model_shape import SHARED_BYTES, answers

GIB, MIB = 2**30, 2**20
DTYPE_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
QUANTIZATIONS = ("int8", "nf4")
# What a process needs before it holds a single weight: the CUDA context with its libraries on a GPU (an estimate, none was at
# hand); Python, PyTorch and Transformers in the service's processes on a CPU (measured, docs/models.md).
GPU_RUNTIME, CPU_RUNTIME = 640 * MIB, 512 * MIB
SMALLEST_BLOCK, SHORTEST = 64, 256


class Wish(NamedTuple):
    """How a model is to be served. context None: the model's own, or what one sequence can have. kv_bytes: kv_memory_mb."""

    context: int | None = None
    concurrency: int = 32
    dtype: str = "auto"
    quantization: str | None = None
    kv_bytes: int | None = None
    task: str = "auto"


@dataclass(frozen=True)
class Device:
    """Memory a model is to live in: a GPU's, or a host's for a CPU. others: what other models there take of it.

    bfloat16: of a CPU, whether it computes in that.
    """

    name: str
    bytes: int
    cpu: bool = False
    others: int = 0
    bfloat16: bool = False

    @property
    def runtime(self) -> int:
        """What the engine's process needs besides the model."""
        return CPU_RUNTIME if self.cpu else GPU_RUNTIME


@dataclass(frozen=True)
class Plan:
    """As the engine's KVPlan: `sequences` at once, each of at most `context` tokens, `tokens` together."""

    sequences: int
    context: int
    tokens: int


@dataclass(frozen=True)
class Fit:
    """An answer with its arithmetic. verdict: fits; fewer (it is served, with fewer or shorter answers at once); no."""

    verdict: str
    device: Device
    wish: Wish
    dtype: str
    context: int
    weights: int
    per_token: int
    kv_wanted: int
    kv_budget: int
    plan: Plan | None

    @property
    def full_sequences(self) -> int:
        """How many sequences of the whole context there is room for at once."""
        return self.plan.tokens // block_size(self.context) if self.plan and self.per_token else 0

    @property
    def wanted(self) -> int:
        """What the wish takes altogether."""
        return self.weights + self.device.runtime + self.kv_wanted


def loaded_dtype(shape: Mapping[str, Any], wish: Wish, device: Device) -> str:
    """The dtype of the loaded weights, and of keys and values."""
    if wish.dtype != "auto":
        return wish.dtype
    kept = str(shape["dtype"])
    if device.cpu:
        return kept if kept == "bfloat16" and device.bfloat16 and wish.quantization is None else "float32"
    return kept if kept in DTYPE_BYTES else "bfloat16"


def weight_bytes(shape: Mapping[str, Any], wish: Wish, device: Device) -> int:
    """Memory of the loaded weights, as Transformers and bitsandbytes keep them and engine/packing.py packs them on a CPU."""
    dtype = loaded_dtype(shape, wish, device)
    elements, size = shape["elements"], DTYPE_BYTES[dtype]
    generates = answers(shape, wish.task)
    head = elements["head"] if generates else 0
    plain = elements["embedding"] + head + elements["experts"] + elements["other"]
    total = plain * size + int(shape["fixed_bytes"])
    if wish.quantization == "int8":
        # One byte each, and a float32 for every row.
        total += elements["linear"] + 4 * elements["linear_rows"]
    elif wish.quantization == "nf4":
        # Half a byte each, and a float32 for every 64.
        total += elements["linear"] // 2 + 4 * (elements["linear"] // 64)
    else:
        total += elements["linear"] * size
    if device.cpu and dtype in ("float32", "bfloat16"):
        shared = shape["shared_head"] * size if generates else 0
        total += shared if shared <= SHARED_BYTES else 0
    return int(total)


def block_size(tokens: int) -> int:
    """The engine's block that holds `tokens` (engine/arena.py): the next power of two, 64 at least."""
    return max(SMALLEST_BLOCK, 1 << (tokens - 1).bit_length())


def kv_budget(free: int, cpu: bool) -> int:
    """What the engine gives keys and values of the memory that is free once the weights are loaded."""
    return min(free // 4, 8 * GIB) if cpu else max(free * 9 // 10 - 512 * MIB, 0)


def kv_plan(budget: int, per_token: int, model_context: int, wish: Wish) -> Plan | None:
    """The engine's plan, None where it refuses with BP659."""
    context = min(wish.context or model_context, model_context)
    tokens = min(budget // per_token, wish.concurrency * block_size(context))
    tokens -= tokens % SMALLEST_BLOCK
    largest = 1 << (tokens.bit_length() - 1) if tokens > 0 else 0
    if largest < (context if wish.context else min(SHORTEST, model_context)):
        return None
    return Plan(min(wish.concurrency, tokens // SMALLEST_BLOCK), min(context, largest), tokens)


def fit(shape: Mapping[str, Any], device: Device, wish: Wish) -> Fit:
    """Whether a model of this shape can be served on the device as wished."""
    dtype = loaded_dtype(shape, wish, device)
    weights = weight_bytes(shape, wish, device)
    model_context = int(shape["context"] or wish.context or 2048)
    context = min(wish.context or model_context, model_context)
    free = device.bytes - device.others - device.runtime - weights
    per_token = int(shape["kv_elements"] or 0) * DTYPE_BYTES[dtype]
    if not answers(shape, wish.task) or not per_token:
        # Vectors leave nothing behind; a batch of 4096 tokens passes through. Nor is refused what the headers do not tell.
        return Fit("fits" if free >= 0 else "no", device, wish, dtype, context, weights, 0, 0, max(free, 0), None)
    wanted = wish.concurrency * block_size(context) * per_token
    budget = kv_budget(max(free, 0), device.cpu) if wish.kv_bytes is None else min(wish.kv_bytes, max(free, 0))
    plan = kv_plan(budget, per_token, model_context, wish) if free >= 0 else None
    verdict = "no" if plan is None else "fits" if plan.tokens * per_token >= wanted else "fewer"
    return Fit(verdict, device, wish, dtype, context, weights, per_token, wanted, budget, plan)
