"""Other number formats than the checkpoint's: the same engine, its answers those of the same model in generate."""

from __future__ import annotations

from pathlib import Path

import pytest
from bedplate_server.engine import loading
from bedplate_server.engine.scheduler import Scheduler
from bedplate_server.errors import Refusal
from bedplate_server.protocol import Generate

from tests.app.test_engine_batching import GREEDY, generated, load, prompts, run


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_a_quantized_model_answers_as_its_generate_does(models: dict[str, Path], quantization: str) -> None:
    runner = load(models["llama"], quantization=quantization)
    assert runner.facts.weight_bytes < load(models["llama"]).facts.weight_bytes
    asked = prompts(5, seed=31)
    answers, _ = run(Scheduler(runner), {0: [Generate(i, prompt, 8, GREEDY) for i, prompt in enumerate(asked)]})
    same = [answers[i] == generated(runner, prompt, 8) for i, prompt in enumerate(asked)]
    # Activations are quantized by the batch's largest values, so near ties may fall otherwise.
    assert same.count(True) >= 4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_its_states_in_half_precision(models: dict[str, Path], dtype: str) -> None:
    runner, whole = load(models["qwen3"], dtype=dtype), load(models["qwen3"])
    assert runner.plan.bytes * 2 == whole.plan.bytes
    answers, _ = run(Scheduler(runner), {0: [Generate(1, prompts(1)[0], 8, GREEDY)]})
    assert len(answers[1]) == 8 or answers[1][-1] in runner.stops


def test_quantization_without_its_packages_is_refused(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Refusal, match=r"BP663 .*bitsandbytes and accelerate.*Fix: install"):
        load(models["llama"], quantization="nf4")
