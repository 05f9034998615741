"""The graph of a model is the model, or is not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from bedplate_server.engine.scheduler import Scheduler
from bedplate_server.engine.traced import TracedPass
from bedplate_server.protocol import Generate

from tests.app.support.tiny_models import SHAPES
from tests.app.test_architectures import COMMON, SERVED, written
from tests.app.test_engine_batching import GREEDY, generated, load, prompts, run

LENGTH = 20
MLP = transformers.models.llama.modeling_llama.LlamaMLP


@pytest.mark.parametrize("shape", SHAPES)
def test_the_usual_families_run_as_graphs(models: dict[str, Path], shape: str) -> None:
    assert load(models[shape]).traced is not None


@pytest.mark.parametrize("name", SERVED)
def test_other_families_run_as_graphs(tmp_path: Path, name: str) -> None:
    assert load(written(tmp_path / name, name, SERVED[name])).traced is not None


def looking(self: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Code that looks at a value, of which a graph knows one branch."""
    result: torch.Tensor = self.down_proj(self.up_proj(inputs))
    return result if bool(inputs.isfinite().all()) else -result


def forgetful(self: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Code with a memory outside its tensors, which a graph has not."""
    self.calls = getattr(self, "calls", 0) + 1
    result: torch.Tensor = self.down_proj(self.up_proj(inputs)) * self.calls
    return result


def raising(self: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Code that does not want to be traced at all."""
    if torch.jit.is_tracing():
        raise RuntimeError("not with me")
    result: torch.Tensor = self.down_proj(self.up_proj(inputs))
    return result


@pytest.mark.parametrize("forward", [looking, forgetful, raising])
def test_a_model_that_is_no_graph_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forward: Any) -> None:
    path = written(tmp_path / "model", "Llama", COMMON)
    monkeypatch.setattr(MLP, "forward", forward)
    runner = load(path)
    assert runner.traced is None
    if forward is forgetful:
        return
    asked = prompts(3, seed=5)
    answers, _ = run(Scheduler(runner), {0: [Generate(n, prompt, LENGTH, GREEDY) for n, prompt in enumerate(asked)]})
    assert answers == {n: generated(runner, prompt, LENGTH) for n, prompt in enumerate(asked)}


def test_tracing_leaves_nothing_in_memory(models: dict[str, Path]) -> None:
    runner = load(models["llama"])
    assert runner.kv is not None
    assert not any(bool(states.any()) for layer in runner.kv.layers for states in (layer.keys, layer.values))
    assert TracedPass._running is None
