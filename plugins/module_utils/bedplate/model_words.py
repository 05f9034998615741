"""A model's memory in words: the arithmetic, and what would fit instead.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .model_memory import GIB, QUANTIZATIONS, Device, Fit, block_size, fit

_MOST_GPUS = 8


def gib(count: int) -> str:
    """Such as 1.53 GiB, 640 MiB."""
    if count < GIB:
        return f"{count / 2**20:.0f} MiB"
    return f"{count / GIB:.2f} GiB" if count < 10 * GIB else f"{count / GIB:.1f} GiB"


def arithmetic(answer: Fit) -> str:
    """weights 15.3 GiB + runtime 0.62 GiB + keys and values 18.0 GiB (16 x 8192 tokens) = 33.9 GiB."""
    parts = [f"weights {gib(answer.weights)}", f"runtime {gib(answer.device.runtime)}"]
    if answer.device.others:
        parts.append(f"other models {gib(answer.device.others)}")
    if answer.per_token:
        parts.append(f"keys and values {gib(answer.kv_wanted)} ({answer.wish.concurrency} x {answer.context} tokens)")
    return f"{' + '.join(parts)} = {gib(answer.wanted + answer.device.others)}"


def advice(shape: Mapping[str, Any], answer: Fit, gpus: Iterable[Device] = ()) -> list[str]:
    """What would fit, each change alone: other quantization, shorter context, fewer at once, more GPUs, a bigger GPU."""
    wish, device, found = answer.wish, answer.device, []

    def fits(changed: Device | None = None, **wanted: Any) -> bool:
        return fit(shape, changed or device, wish._replace(**wanted)).verdict == "fits"

    if not wish.quantization and not shape["quantized"]:
        found += [f"quantization: {one}" for one in QUANTIZATIONS if fits(quantization=one)][:1]
    if answer.per_token:
        context = block_size(answer.context) // 2
        while context >= 256 and not fits(context=context):
            context //= 2
        if context >= 256:
            found.append(f"context_length: {context}")
        concurrency = wish.concurrency - 1
        while concurrency and not fits(concurrency=concurrency):
            concurrency = concurrency // 2 if concurrency > 64 else concurrency - 1
        if concurrency:
            found.append(f"{concurrency} at once instead of {wish.concurrency}")
        if not device.cpu:
            shares = ((count, -(-wish.concurrency // count)) for count in range(2, _MOST_GPUS + 1))
            found += [
                f"{count} such GPUs with the model on each, {share} at once"
                for count, share in shares
                if fits(concurrency=share)
            ][:1]
    bigger = sorted((one for one in gpus if one.bytes > device.bytes), key=lambda one: one.bytes)
    found += [f"a bigger GPU: {one.name}" for one in bigger if fits(one)][:1]
    return found


def as_data(shape: Mapping[str, Any], answer: Fit, instead: list[str]) -> dict[str, Any]:
    """The answer for programs; sizes in bytes."""
    plan = answer.plan
    return {
        "verdict": answer.verdict,
        "device": {"name": answer.device.name, "bytes": answer.device.bytes, "cpu": answer.device.cpu},
        "wish": {**answer.wish._asdict(), "context": answer.context},
        "dtype": answer.dtype,
        "weights": answer.weights,
        "runtime": answer.device.runtime,
        "kv_per_token": answer.per_token,
        "kv_wanted": answer.kv_wanted,
        "wanted": answer.wanted,
        "kv_budget": answer.kv_budget,
        "plan": None if plan is None else {"sequences": plan.sequences, "context": plan.context, "tokens": plan.tokens},
        "full_sequences": answer.full_sequences,
        "instead": instead,
        "shape": dict(shape),
    }
