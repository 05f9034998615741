"""The plan for keys and values never exceeds its budget, and says no when nothing useful fits."""

from __future__ import annotations

import pytest
from bedplate_server.engine.memory import cpu_budget, plan
from bedplate_server.errors import Refusal


@pytest.mark.parametrize(
    ("budget", "model_context", "wanted_context", "wanted_slots", "expected"),
    [
        (10**9, 2048, None, 32, (32, 2048)),  # plenty: all slots with the model's whole context
        (420_000 * 100, 131_072, None, 32, (32, 13_125)),  # a long-context model is cut to share the memory
        (40_000 * 100, 131_072, None, 32, (9, 4096)),  # fewer sequences rather than short ones
        (40_000 * 100, 131_072, 8192, 32, (4, 8192)),  # a context that was asked for is kept
        (40_000 * 100, 2048, 8192, 8, (8, 2048)),  # but never longer than the model's
        (3000 * 100, 131_072, None, 32, (1, 3000)),  # little memory: one sequence
        (100 * 64, 64, None, 4, (1, 64)),  # a tiny model may have a tiny context
    ],
)
def test_slots_and_context_fit_the_budget(
    budget: int, model_context: int, wanted_context: int | None, wanted_slots: int, expected: tuple[int, int]
) -> None:
    made = plan(
        budget=budget,
        bytes_per_token=100,
        model_context=model_context,
        wanted_context=wanted_context,
        wanted_slots=wanted_slots,
    )
    assert (made.slots, made.context_length) == expected
    assert made.bytes == made.slots * made.context_length * 100 <= budget


@pytest.mark.parametrize(("budget", "wanted_context"), [(0, None), (200 * 100, None), (4000 * 100, 8192)])
def test_too_little_memory_is_refused_with_the_numbers(budget: int, wanted_context: int | None) -> None:
    with pytest.raises(Refusal, match=r"BP659 .* MiB .*Fix: "):
        plan(
            budget=budget,
            bytes_per_token=100,
            model_context=131_072,
            wanted_context=wanted_context,
            wanted_slots=4,
        )


def test_cpu_budget_is_a_share_of_this_machine() -> None:
    assert 2**26 < cpu_budget() <= 8 * 2**30
