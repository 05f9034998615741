"""Other number formats than the checkpoint's: the same engine, its answers those of the same model in generate."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from bedplate_server.engine import cpu, loading
from bedplate_server.engine.scheduler import Scheduler
from bedplate_server.errors import Refusal
from bedplate_server.protocol import Embed, Generate, Sampling
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.app.support.tiny_models import SHAPES
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


def published(model: Path, folder: Path, dtype: torch.dtype) -> Path:
    """The model, its weights saved in `dtype`."""
    AutoModelForCausalLM.from_pretrained(model, dtype=dtype).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("flags", "saved", "served"),
    [
        ("fpu avx512f avx512_bf16 vaes", torch.bfloat16, "bfloat16"),
        ("fpu amx_bf16", torch.bfloat16, "bfloat16"),
        ("fpu amx_bf16", torch.float16, "float32"),
        ("fpu amx_bf16", torch.float32, "float32"),
        ("fpu avx512f", torch.bfloat16, "float32"),
        (None, torch.bfloat16, "float32"),
    ],
)
def test_a_cpu_that_computes_in_bfloat16_keeps_what_is_published_in_it(
    models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: str | None,
    saved: torch.dtype,
    served: str,
) -> None:
    path = published(models["llama"], tmp_path / "m", saved)
    monkeypatch.setattr(cpu, "INFO", tmp_path / "cpuinfo")
    lines = f"flags\t\t: {flags}\nbugs\t\t: amx_bf16\n" if flags else "Features\t: fp bf16\n"
    cpu.INFO.write_text(f"processor\t: 0\n{lines}")
    runner = load(path)
    assert runner.facts.dtype == served
    assert {one.dtype for one in runner.model.parameters()} == {runner.dtype}
    assert load(path, dtype="float32").facts.dtype == "float32"


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_finds_tokens_as_likely_as_float32_does(models: dict[str, Path], tmp_path: Path, shape: str) -> None:
    """Alone and in any batch mix: rounding may decide between two tokens, and nothing else does."""
    path = published(models[shape], tmp_path / "m", torch.bfloat16)
    runner = load(path, dtype="bfloat16")
    assert runner.traced is not None
    asked = prompts(9, seed=5)
    source = random.Random(6)
    arrivals: dict[int, list[Generate | Embed]] = {}
    for number, prompt in enumerate(asked):
        arrivals.setdefault(source.randrange(20), []).append(Generate(number, prompt, 12, Sampling(logprobs=0)))
    answers, steps = run(Scheduler(runner), arrivals)
    told: dict[int, list[float]] = {number: [] for number in answers}
    for job, _, _, found in (one for step in steps for one in step.tokens):
        assert found is not None
        told[job].append(found[0])
    exact, stock = (
        AutoModelForCausalLM.from_pretrained(path, dtype=one).eval() for one in (torch.float32, torch.bfloat16)
    )
    ours, theirs, lost = [], [], []
    for number, prompt in enumerate(asked):
        tokens = torch.tensor([prompt + answers[number]])
        kept = slice(len(prompt) - 1, -1)
        with torch.inference_mode():
            wanted, usual = (model(tokens).logits[0, kept].float().log_softmax(-1) for model in (exact, stock))
        own, others = (one.gather(1, tokens[0, len(prompt) :, None])[:, 0] for one in (wanted, usual))
        ours.append((torch.tensor(told[number]) - own).abs())
        theirs.append((others - own).abs())
        lost.append(wanted.amax(-1) - own)
    # As near to float32 as the stock model's own pass in bfloat16; what was picked instead of the best is hardly less likely.
    assert 0 < float(torch.cat(ours).mean()) < 1.5 * float(torch.cat(theirs).mean())
    assert float(torch.cat(lost).mean()) < float(torch.cat(theirs).mean())


def test_quantization_without_its_packages_is_refused(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Refusal, match=r"BP663 .*bitsandbytes and accelerate.*Fix: install"):
        load(models["llama"], quantization="nf4")
