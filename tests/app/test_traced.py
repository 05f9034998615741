"""The graph of a model is the model, or is not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from bedplate_server.engine.attention import Pass
from bedplate_server.engine.decoding import Layout
from bedplate_server.engine.packing import PackedLinear
from bedplate_server.engine.scheduler import Scheduler
from bedplate_server.engine.tracing import Lean
from bedplate_server.errors import Refusal
from bedplate_server.protocol import Generate

from tests.app.support.tiny_models import SHAPES
from tests.app.test_architectures import COMMON, SERVED, written
from tests.app.test_engine_batching import GREEDY, generated, load, prompts, run

LENGTH = 20
MLP = transformers.models.llama.modeling_llama.LlamaMLP


@pytest.mark.parametrize("shape", SHAPES)
def test_the_usual_families_run_as_graphs(models: dict[str, Path], shape: str) -> None:
    assert load(models[shape]).traced is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sum_with_a_product_is_one_operator_unless_something_changed_the_product(dtype: torch.dtype) -> None:
    one, two, three = torch.randn(3, 5, 8).to(dtype)

    def plain(added: torch.Tensor) -> torch.Tensor:
        return added + two * three

    def changed(added: torch.Tensor) -> torch.Tensor:
        product = two * three
        product += 100
        return added + product

    for function, operators in ((plain, 1), (changed, 0)):

        def lean(added: torch.Tensor, function: Any = function) -> torch.Tensor:
            with Lean():
                return function(added)

        torch.testing.assert_close(lean(one), function(one), rtol=2**-7, atol=0.02)
        graph = torch.jit.trace(lean, (one,), check_trace=False).graph
        assert str(graph).count("aten::addcmul") == operators


@pytest.mark.parametrize("name", SERVED)
def test_other_families_run_as_graphs(tmp_path: Path, name: str) -> None:
    assert load(written(tmp_path / name, name, SERVED[name])).traced is not None


@pytest.mark.parametrize("name", [*SERVED])
def test_attention_over_spans_is_in_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With gaps where others have left, and answers of different lengths: Python attends only where prompts are read."""
    runner = load(written(tmp_path / name, name, SERVED[name]), max_batch=8)
    assert runner.traced is not None
    asked = [list(range(5 + index, 22 + index)) for index in range(7)] + [list(range(7, 107))]
    wanted = {index: generated(runner, prompt, 4 + 9 * (index % 3)) for index, prompt in enumerate(asked)}
    calls: list[int] = []
    attended = Pass.attend
    monkeypatch.setattr(Pass, "attend", lambda self, index, *more: calls.append(index) or attended(self, index, *more))
    described = Layout._described
    spans: list[tuple[int, bool]] = []

    def seen(self: Any, parts: Any) -> Any:
        spans.append((len(parts), any(part.holes(torch.device("cpu")) for part in parts)))
        return described(self, parts)

    monkeypatch.setattr(Layout, "_described", seen)
    scheduler = Scheduler(runner)
    found: dict[int, list[int]] = {}
    for index, prompt in enumerate(asked):
        scheduler.add(Generate(index, prompt, 4 + 9 * (index % 3), GREEDY))
    while not scheduler.idle:
        prompts_read, before = bool(scheduler.waiting or scheduler.reading), len(calls)
        for job, token, *_ in scheduler.step().tokens:
            found.setdefault(job, []).append(token)
        assert prompts_read or len(calls) == before
    assert found == wanted
    assert calls
    assert any(holes for _, holes in spans)
    assert max(count for count, _ in spans) > 1


def test_the_graph_is_lean(models: dict[str, Path]) -> None:
    """What costs more than it does is left out: means and divisions of sizes."""
    runner = load(models["llama"])
    traced = runner.traced
    assert traced is not None
    packed = any(isinstance(one, PackedLinear) for one in runner.model.modules())
    product = "mkldnn::_linear_pointwise" if packed else "aten::linear"
    kinds = {node.kind() for node in traced._graph.module.inlined_graph.nodes()}
    assert {"aten::pow", "aten::sum", product} <= kinds
    assert not {"aten::mean", "aten::floor_divide"} & kinds


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


def test_a_model_that_reads_a_text_otherwise_the_second_time_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "model", "Llama", COMMON)
    monkeypatch.setattr(MLP, "forward", forgetful)
    with pytest.raises(Refusal, match=r"BP657.*in parts.*Fix: "):
        load(path)


@pytest.mark.parametrize("forward", [looking, raising])
def test_a_model_that_is_no_graph_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forward: Any) -> None:
    path = written(tmp_path / "model", "Llama", COMMON)
    monkeypatch.setattr(MLP, "forward", forward)
    runner = load(path)
    assert runner.traced is None
    asked = prompts(3, seed=5)
    answers, _ = run(Scheduler(runner), {0: [Generate(n, prompt, LENGTH, GREEDY) for n, prompt in enumerate(asked)]})
    assert answers == {n: generated(runner, prompt, LENGTH) for n, prompt in enumerate(asked)}


def test_tracing_leaves_nothing_in_memory(models: dict[str, Path]) -> None:
    runner = load(models["llama"])
    assert runner.kv is not None
    assert not any(bool(states.any()) for layer in runner.kv.layers for states in (layer.keys, layer.values))
    assert Pass.current is None
