"""What a model's config and headers say about its memory is what the engine then uses: the arithmetic of `./bedplate model fit`.

The kit reckons before a byte is fetched, on machines without PyTorch; the engine plans when the weights are loaded. These
tests hold the two together, and both to what the process really takes.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bedplate_server.engine import arena, cpu, memory, packing
from bedplate_server.engine.runner import Runner
from bedplate_server.errors import Refusal
from bedplate_server.protocol import Load
from transformers import LlamaConfig, LlamaForCausalLM

from plugins.module_utils.bedplate import model_memory, model_shape
from plugins.module_utils.bedplate.model_facts import facts_of_directory
from plugins.module_utils.bedplate.model_memory import Device, Wish
from tests.app.support import tiny_models
from tests.app.test_architectures import EXACT_UP_TO, SERVED, written

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = [name for name in SERVED if name != "GPT2"]  # whose name tells the service nothing of chats
KV_BYTES = 2**20


def loaded(path: Path, quantization: str | None = None, generates: bool = True) -> Runner:
    load = Load("m", str(path), generates, "auto", "cpu", 4, None, 1, 1, quantization=quantization)
    return Runner(load)


def fit_of(path: Path, wish: Wish) -> model_memory.Fit:
    facts = facts_of_directory(path)
    assert json.loads(json.dumps(facts)) == facts, "they can be kept in a lock"
    shape = facts["shape"]
    device = Device("this machine", 8 * 2**30, cpu=True, bfloat16=cpu.computes_bfloat16())
    return model_memory.fit(shape, device, wish)


def held_bytes(model: torch.nn.Module) -> int:
    """Memory of all tensors a model holds, each storage once, with what bitsandbytes keeps beside the weights."""
    tensors: list[Any] = []
    for module in model.modules():
        found = [*module._parameters.values(), *module._buffers.values(), *vars(module).values()]
        for one in found:
            state = getattr(one, "quant_state", None)
            tensors += [one, getattr(one, "SCB", None), getattr(state, "absmax", None)]
    sizes = {}
    for one in tensors:
        if isinstance(one, torch.Tensor) and not one.is_meta:
            plain = one.layout == torch.strided
            key = one.untyped_storage().data_ptr() if plain else id(one)
            sizes[key] = one.untyped_storage().nbytes() if plain else one.numel() * one.element_size()
    return sum(sizes.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_and_tokens_of_a_family_take_what_its_headers_say(tmp_path: Path, family: str) -> None:
    path = written(tmp_path / family, family, SERVED[family])
    runner = loaded(path)
    found = fit_of(path, Wish(concurrency=4, kv_bytes=KV_BYTES))
    assert runner.plan.bytes == runner.plan.tokens * found.per_token
    assert found.weights == pytest.approx(held_bytes(runner.model), rel=0.05)


@pytest.mark.parametrize("quantization", [None, "int8", "nf4"])
@pytest.mark.parametrize("shape", tiny_models.SHAPES)
def test_quantized_weights_take_what_is_said(models: dict[str, Path], shape: str, quantization: str | None) -> None:
    runner = loaded(models[shape], quantization)
    found = fit_of(models[shape], Wish(concurrency=4, quantization=quantization, kv_bytes=KV_BYTES))
    assert found.weights == pytest.approx(held_bytes(runner.model), rel=0.05)
    assert runner.plan.bytes == runner.plan.tokens * found.per_token
    assert found.plan is not None
    planned = (found.plan.sequences, found.plan.context, found.plan.tokens)
    assert planned == (runner.plan.sequences, runner.plan.context_length, runner.plan.tokens)


@pytest.mark.parametrize(("name", "task"), [("encoder", "auto"), ("llama", "embedding")])
def test_a_model_for_vectors_takes_what_is_said(models: dict[str, Path], name: str, task: str) -> None:
    runner = loaded(models[name], generates=False)
    found = fit_of(models[name], Wish(task=task))
    assert (found.per_token, found.plan) == (0, None)
    assert found.weights == pytest.approx(held_bytes(runner.model), rel=0.05)


@pytest.mark.parametrize("name", EXACT_UP_TO)
def test_the_context_is_the_engines_where_longer_texts_would_not_be_exact(tmp_path: Path, name: str) -> None:
    longest, settings = EXACT_UP_TO[name]
    path = written(tmp_path / name, name, settings)
    assert facts_of_directory(path)["shape"]["context"] == longest == loaded(path).plan.context_length


def test_the_plan_is_the_engines() -> None:
    source = random.Random(11)
    agreed = 0
    for _ in range(3000):
        budget, per_token = source.randrange(2 ** source.randrange(10, 36)), source.choice([512, 6144, 131072, 524288])
        model, sequences = source.choice([77, 300, 4096, 40960, 131072]), source.choice([1, 3, 16, 32])
        wanted = source.choice([None, 16, 200, 2048, 8192])
        mine = model_memory.kv_plan(budget, per_token, model, Wish(wanted, sequences))
        try:
            made = memory.plan(
                budget=budget,
                bytes_per_token=per_token,
                model_context=model,
                wanted_context=wanted,
                wanted_sequences=sequences,
            )
        except Refusal:
            assert mine is None
            continue
        assert mine == model_memory.Plan(made.sequences, made.context_length, made.tokens)
        agreed += 1
    assert agreed > 500, "most were refused"


def test_the_rules_are_the_engines() -> None:
    for free in (0, 2**20, 2**30, 3 * 2**30, 22 * 2**30, 141 * 2**30):
        assert model_memory.kv_budget(free, cpu=False) == memory.cuda_budget(free)
    for tokens in (1, 63, 64, 65, 4096, 5000):
        assert model_memory.block_size(tokens) == arena.block_size(tokens)
    assert (model_memory.SMALLEST_BLOCK, model_memory.SHORTEST) == (arena.SMALLEST, memory._SHORTEST)
    assert model_shape.SHARED_BYTES == packing._SHARED_BYTES


def test_the_cpus_share_is_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    for available in (2**30, 12 * 2**30, 200 * 2**30):
        text = f"MemTotal: 1 kB\nMemAvailable: {available // 1024} kB\n"
        monkeypatch.setattr(memory.Path, "read_text", lambda _, text=text: text)
        assert model_memory.kv_budget(available, cpu=True) == memory.cpu_budget()


# The second load counts: the first has brought in every library, and the kernels that are compiled for its shapes.
RESIDENT = """
import ctypes, gc, json, sys
sys.path[:0] = sys.argv[1:3]
from bedplate_server.engine.runner import Runner
from bedplate_server.protocol import Load

def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = open("/proc/self/status").read().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon", "RssShmem")))

def load(path):
    runner = Runner(Load("m", path, True, "float32", "cpu", 4, 2048, None, 1))
    for layer in runner.kv.layers:
        layer.keys.fill_(1)
        layer.values.fill_(1)
    return runner

first = load(sys.argv[3])
before = resident()
runner = load(sys.argv[3])
print(json.dumps({"bytes": resident() - before, "plan": runner.plan.bytes, "tokens": runner.plan.tokens}))
"""


def test_a_process_takes_what_is_said(tmp_path: Path) -> None:
    """A model of 75 million parameters with 4 sequences of 2048 tokens, all written: within 5 % of the process's memory."""
    changes = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 12}
    config = LlamaConfig(
        **changes, num_key_value_heads=4, vocab_size=16000, max_position_embeddings=4096, pad_token_id=0
    )
    path = tmp_path / "big"
    # In bfloat16, as models are published: of a float32 file some weights stay on the disk, mapped.
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(path)
    argv = [sys.executable, "-c", RESIDENT, str(ROOT), str(ROOT / "app/server"), str(path)]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "MALLOC_ARENA_MAX": "1"}
    )
    assert done.returncode == 0, done.stderr
    real = json.loads(done.stdout.splitlines()[-1])
    found = fit_of(path, Wish(context=2048, concurrency=4, dtype="float32"))
    assert found.verdict == "fits" and found.kv_wanted == real["plan"]
    said = found.weights + found.kv_wanted
    assert said > 300 * 2**20, "too small to measure"
    assert said == pytest.approx(real["bytes"], rel=0.05)
