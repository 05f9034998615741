"""Packed layers make what the plain ones made, alone and together, whatever is asked of them in between."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bedplate_server.engine import cpu, packing
from bedplate_server.engine.packing import PackedLinear, Together, TransposedLinear, pack, places, rounded
from bedplate_server.engine.scheduler import Scheduler
from bedplate_server.protocol import Generate
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.activations import GELUActivation, NewGELUActivation

from tests.app.support.tiny_models import SHAPES
from tests.app.test_engine_batching import GREEDY, LONGEST, load, prompts, run


@pytest.fixture(params=["GenuineIntel", "AuthenticAMD"])
def layout(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[nn.Module]:
    """That of small float32 models on the CPU that this is now taken for."""
    monkeypatch.setattr(cpu, "INFO", tmp_path / "cpuinfo")
    cpu.INFO.write_text(f"processor\t: 0\nvendor_id\t: {request.param}\nflags\t\t: fpu\n")
    return TransposedLinear if request.param == "GenuineIntel" else PackedLinear


class Attention(nn.Module):
    def __init__(self, *, bias: bool, value_inputs: int = 24) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(24, 32, bias=bias), nn.Linear(24, 8, bias=bias)
        self.v_proj, self.o_proj = nn.Linear(value_inputs, 8, bias=bias), nn.Linear(32, 24, bias=bias)


def packed_and_plain(*, bias: bool, value_inputs: int = 24) -> tuple[Attention, Attention]:
    torch.manual_seed(3)
    plain = Attention(bias=bias, value_inputs=value_inputs).requires_grad_(False)
    packed = Attention(bias=bias, value_inputs=value_inputs).requires_grad_(False)
    packed.load_state_dict(plain.state_dict())
    assert pack(packed) == 4
    return packed, plain


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 17, 40, 301])
@pytest.mark.usefixtures("layout")
def test_layers_of_one_input_make_what_each_made(bias: bool, rows: int) -> None:
    packed, plain = packed_and_plain(bias=bias)
    inputs, others = torch.randn(2, 1, rows, 24)
    for name in ("q_proj", "k_proj", "v_proj"):
        result = getattr(packed, name)(inputs)
        assert result.is_contiguous()
        torch.testing.assert_close(result, getattr(plain, name)(inputs))
    (together,) = (module for module in packed.modules() if isinstance(module, Together))
    assert not together._held, "nothing of a pass stays in memory"
    # Another tensor is another question, also out of turn.
    for name, asked in (("v_proj", others), ("q_proj", inputs), ("k_proj", others)):
        torch.testing.assert_close(getattr(packed, name)(asked), getattr(plain, name)(asked))


def test_layers_with_inputs_of_their_own_are_packed_alone(layout: type[nn.Module]) -> None:
    packed, plain = packed_and_plain(bias=False, value_inputs=40)
    assert isinstance(packed.v_proj, layout)
    inputs = torch.randn(1, 3, 40)
    torch.testing.assert_close(packed.v_proj(inputs), plain.v_proj(inputs))


def test_products_are_made_for_few_numbers_of_rows() -> None:
    sizes = {rows: rounded(rows, torch.float32) for rows in range(1, 4097)}
    assert all(rows <= size <= min(rows * 9 / 8, rows + 15) for rows, size in sizes.items())
    assert len({size for rows, size in sizes.items() if rows <= 256}) < 50
    assert len(set(sizes.values())) < 300
    coarse = {rows: rounded(rows, torch.bfloat16) for rows in range(1, 4097)}
    assert all(sizes[rows] <= size <= rows * 5 / 4 for rows, size in coarse.items())
    assert len(set(coarse.values())) < 50


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layout_is_for_what_stays_in_the_cache_in_its_type(layout: type[nn.Module], dtype: torch.dtype) -> None:
    small, large = (nn.Sequential(nn.Linear(64, rows, bias=False)).to(dtype) for rows in (512, 2**18))
    for model, wanted in ((small, layout), (large, PackedLinear)):
        pack(model.requires_grad_(False))
        assert isinstance(model[0], PackedLinear if dtype == torch.bfloat16 else wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_either_layout_answers_are_those_of_the_model_as_it_was_loaded(
    models: dict[str, Path], layout: type[nn.Module], shape: str
) -> None:
    runner = load(models[shape])
    assert runner.traced is not None
    assert {type(one) for one in runner.model.modules() if isinstance(one, packing.KINDS)} == {layout}
    asked, stock = prompts(6), AutoModelForCausalLM.from_pretrained(models[shape], dtype=torch.float32)
    tokens, _ = run(Scheduler(runner), {2 * at: [Generate(at, one, LONGEST, GREEDY)] for at, one in enumerate(asked)})
    for at, prompt in enumerate(asked):
        inputs = torch.tensor([prompt])
        mask = torch.ones_like(inputs)
        whole = stock.generate(inputs, attention_mask=mask, max_new_tokens=LONGEST, do_sample=False)
        assert tokens[at] == whole[0, len(prompt) :].tolist()


@pytest.mark.parametrize("shape", [(24,), (17, 24), (3, 17, 24)])
@pytest.mark.usefixtures("layout")
def test_inputs_of_any_shape_are_taken(shape: tuple[int, ...]) -> None:
    packed, plain = packed_and_plain(bias=True, value_inputs=40)
    inputs = torch.randn((*shape[:-1], 32))
    torch.testing.assert_close(packed.o_proj(inputs), plain.o_proj(inputs))


class Intermediate(nn.Module):
    """The names are those of BERT's kind."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.dense, self.intermediate_act_fn = nn.Linear(24, 96), activation

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        activated: torch.Tensor = self.intermediate_act_fn(self.dense(inputs))
        return activated


@pytest.mark.parametrize(("activation", "within"), [(GELUActivation(), True), (NewGELUActivation(), False)])
@torch.inference_mode()
def test_a_layer_makes_the_activation_that_comes_next_if_it_knows_it(activation: nn.Module, within: bool) -> None:
    block, inputs = Intermediate(activation), 4 * torch.randn(1, 37, 24)
    wanted = block(inputs)
    assert pack(block) == 1
    assert isinstance(block.intermediate_act_fn, nn.Identity) == within
    torch.testing.assert_close(block(inputs), wanted, rtol=0, atol=2e-6)


@pytest.mark.usefixtures("layout")
def test_packed_weights_say_where_they_are() -> None:
    packed, _ = packed_and_plain(bias=True)
    found = places(packed)
    assert len(found) == 2, "the three with one input are one"
    for address, size in found:
        assert size >= 32 * 24 * 4
        assert any((ctypes.c_char * size).from_address(address).raw)


_OF_A_FILE = """
import mmap
import torch
from bedplate_server import pages
from bedplate_server.engine.packing import pack, places
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        for name, rows in {"q_proj": 512, "k_proj": 128, "v_proj": 128, "o_proj": 512, "gate_proj": 1408, "up_proj": 1408}.items():
            linear = nn.Linear(512, rows, bias=False, device="meta").requires_grad_(False)
            mapped = torch.frombuffer(mmap.mmap(-1, rows * 512 * 4), dtype=torch.float32).view(rows, 512)
            linear.weight = nn.Parameter(mapped.uniform_(), requires_grad=False)
            setattr(self, name, linear)

model = nn.Sequential(*(Block() for _ in range(8)))
pages.allocate_in_heap()
pack(model)
found = sorted(places(model))
print(sum(begin - (before + size) < mmap.PAGESIZE for (before, size), (begin, _) in zip(found, found[1:])) / len(found[1:]))
"""


def test_packed_weights_of_a_mapped_checkpoint_are_neighbours() -> None:
    """Then nearly all of them fit huge pages. In a process of its own, whose heap has no gaps from other tests."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _OF_A_FILE]
    done = subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE)
    assert float(done.stdout) > 0.8
