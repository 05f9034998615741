"""LoRA adapters: an answer with one is what the merged model gives, whatever runs beside it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from bedplate_server.engine.runner import Runner
from bedplate_server.engine.scheduler import Scheduler
from bedplate_server.errors import Refusal
from bedplate_server.protocol import Generate
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.app.conftest import StartServer
from tests.app.test_architectures import COMMON, written
from tests.app.test_engine_batching import GREEDY, LONGEST, generated, load, prompts, run

LAYERS = ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]


def write_adapter(folder: Path, model: Path, seed: int, layers: list[str] | None = None, **config: Any) -> Path:
    """A random adapter in PEFT's form, for a llama's layers or for `layers`, strong enough to change what is said."""
    folder.mkdir()
    source = torch.Generator().manual_seed(seed)
    plain, weights = load_file(model / "model.safetensors"), {}
    for layer in layers or [f"model.layers.{number}.{layer}" for number in range(2) for layer in LAYERS]:
        out, size = plain[f"{layer}.weight"].shape
        name = f"base_model.model.{layer}"
        weights[f"{name}.lora_A.weight"] = torch.randn(4, size, generator=source) * 0.5
        weights[f"{name}.lora_B.weight"] = torch.randn(out, 4, generator=source) * 0.5
    save_file(weights, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "bias": "none", "target_modules": LAYERS, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def merged(model: Path, adapter: Path) -> Any:
    """The model with the adapter's matrices added to its weights."""
    whole = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    weights = load_file(adapter / "adapter_model.safetensors")
    for name in {key.rsplit(".", 2)[0] for key in weights}:
        change = weights[f"{name}.lora_B.weight"] @ weights[f"{name}.lora_A.weight"] * 6 / 4
        whole.get_submodule(name.removeprefix("base_model.model.")).weight.data += change
    return whole


@pytest.fixture(scope="module")
def adapters(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {name: write_adapter(root / name, models["llama"], seed) for seed, name in enumerate(["poet", "clerk"])}


def test_sequences_with_different_adapters_run_in_one_batch(
    models: dict[str, Path], adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = load(models["llama"], adapters={name: str(path) for name, path in adapters.items()})
    wanted_by = {name: _Reference(merged(models["llama"], path)) for name, path in adapters.items()}
    plain = _Reference(AutoModelForCausalLM.from_pretrained(models["llama"], dtype=torch.float32))
    asked, source = prompts(9, seed=20), random.Random(3)
    names = [None, "poet", "clerk"] * 3
    arrivals: dict[int, list[Any]] = {}
    for number, (prompt, name) in enumerate(zip(asked, names, strict=True)):
        arrivals.setdefault(source.randrange(20), []).append(Generate(number, prompt, LONGEST, GREEDY, name))
    answers, steps = run(Scheduler(runner), arrivals)
    for number, (prompt, name) in enumerate(zip(asked, names, strict=True)):
        reference: Any = plain if name is None else wanted_by[name]
        assert answers[number] == generated(reference, prompt), f"{number} with {name}"
    assert answers[1] != generated(plain, asked[1]), "the adapter changed nothing, so nothing was tried"
    assert max(len(step.tokens) for step in steps) > 2


class _Reference:
    """What `generated` wants of a runner."""

    def __init__(self, model: Any) -> None:
        self.model = model


def test_states_of_one_adapter_are_not_used_for_another(models: dict[str, Path], adapters: dict[str, Path]) -> None:
    runner: Runner = load(models["llama"], adapters={name: str(path) for name, path in adapters.items()})
    scheduler, prompt = Scheduler(runner), prompts(30, seed=5)[-1] * 3
    found = {}
    for number, name in enumerate([None, "poet", "clerk", "poet"]):
        _, steps = run(scheduler, {0: [Generate(number, prompt, 4, GREEDY, name)]})
        found[number] = next(stored for step in steps for _, stored in step.admitted)
    assert [found[number] > 0 for number in range(4)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("config", "problem"),
    [({"use_dora": True}, "use_dora"), ({"peft_type": "IA3"}, "IA3"), ({"modules_to_save": ["lm_head"]}, "modules_to")],
)
def test_what_is_not_plain_lora_is_refused(
    models: dict[str, Path], tmp_path: Path, config: dict[str, Any], problem: str
) -> None:
    path = write_adapter(tmp_path / "odd", models["llama"], 1, **config)
    with pytest.raises(Refusal, match=f"BP662.*{problem}.*Fix: "):
        load(models["llama"], adapters={"odd": str(path)})


def test_layers_that_do_not_see_all_tokens_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    """The output layer sees the tokens that are asked for, experts those that are sent to them."""
    path = write_adapter(tmp_path / "head", models["llama"], 1, ["model.layers.0.mlp.up_proj", "lm_head"])
    with pytest.raises(Refusal, match=r"BP662.*output layer lm_head.*Fix: "):
        load(models["llama"], adapters={"head": str(path)})
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "shared_expert_intermediate_size": 32}
    model = written(tmp_path / "model", "Qwen2Moe", {**COMMON, **experts, "moe_intermediate_size": 32})
    path = write_adapter(tmp_path / "expert", model, 1, ["model.layers.1.mlp.shared_expert.up_proj"])
    with pytest.raises(Refusal, match=r"BP662.*only some of the tokens.*Fix: "):
        load(model, adapters={"expert": str(path)})


def test_an_adapter_of_another_model_or_none_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"BP662.*cannot be read"):
        load(models["llama"], adapters={"none": str(tmp_path)})
    path = write_adapter(tmp_path / "other", models["llama"], 1)
    with pytest.raises(Refusal, match=r"BP662.*does not fit"):
        load(models["qwen3"], adapters={"other": str(path)})


def test_the_model_name_selects_the_adapter(
    models: dict[str, Path], adapters: dict[str, Path], start_server: StartServer
) -> None:
    served = [{"name": name, "path": str(path)} for name, path in adapters.items()]
    server = start_server({"models": [{"name": "llama", "path": str(models["llama"]), "adapters": served}]})
    client = server.wait_ready().openai()
    answers = {}
    for name in ("llama", "poet", "clerk"):
        answer = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "hello"}], temperature=0, max_tokens=20
        )
        assert answer.model == name
        answers[name] = answer.choices[0].message.content
    assert len(set(answers.values())) == 3
    assert {model.id for model in client.models.list()} == {"llama", "poet", "clerk"}
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("stranger")
    with pytest.raises(openai.BadRequestError, match="embeddings"):
        client.embeddings.create(model="poet", input="x")
