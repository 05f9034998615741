"""Continuous batching changes when a token comes, never which token."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bedplate_server.engine import scheduler as scheduler_module
from bedplate_server.engine.runner import Runner
from bedplate_server.engine.scheduler import Scheduler
from bedplate_server.protocol import Embed, Generate, Load, Sampling, Step

from tests.app.support.tiny_models import SHAPES

LONGEST = 40
GREEDY = Sampling()


def load(path: Path, **settings: Any) -> Runner:
    usual: dict[str, Any] = {
        "generates": True,
        "dtype": "auto",
        "device": "cpu",
        "max_batch": 4,
        "context_length": None,
        "kv_memory_mb": None,
        "threads": 1,
    }
    return Runner(Load("m", str(path), **{**usual, **settings}))


@pytest.fixture(scope="module")
def runners(models: dict[str, Path]) -> Callable[[str], Runner]:
    loaded: dict[str, Runner] = {}

    def runner(shape: str) -> Runner:
        if shape not in loaded:
            loaded[shape] = load(models[shape])
        return loaded[shape]

    return runner


def prompts(count: int, seed: int = 1) -> list[list[int]]:
    """Token lists from one token to several prefill chunks."""
    source = random.Random(seed)
    return [[source.randrange(5, 390) for _ in range(source.choice([1, 2, 17, 60, 150]))] for _ in range(count)]


def generated(runner: Runner, prompt: list[int], length: int = LONGEST) -> list[int]:
    """What the stock model.generate continues the prompt with."""
    inputs = torch.tensor([prompt])
    output = runner.model.generate(
        inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=length, do_sample=False
    )
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens


def memory_of_ended(scheduler: Scheduler) -> int:
    """Tokens that only texts of ended sequences hold."""
    return sum(stored.block.size for stored in scheduler._prefixes._ended)


def run(
    scheduler: Scheduler, arrivals: dict[int, list[Generate | Embed]], cancels: dict[int, int] | None = None
) -> tuple[dict[int, list[int]], list[Step]]:
    """Step until all is done; `arrivals` and `cancels` by step number. Returns tokens per sequence, and all steps."""
    tokens: dict[int, list[int]] = {}
    steps: list[Step] = []
    while not scheduler.idle or any(number >= len(steps) for number in arrivals):
        for request in arrivals.get(len(steps), []):
            scheduler.add(request)
        if cancels and len(steps) in cancels:
            scheduler.cancel(cancels[len(steps)])
        step = scheduler.step()
        steps.append(step)
        for job, token, *_ in step.tokens:
            tokens.setdefault(job, []).append(token)
    return tokens, steps


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_equals_generate_in_any_batch_mix(
    runners: Callable[[str], Runner], shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_module, "_TOKENS_PER_STEP", {"cpu": 32})
    runner, asked = runners(shape), prompts(12)
    wanted = {index: generated(runner, prompt) for index, prompt in enumerate(asked)}
    source = random.Random(2)
    arrivals: dict[int, list[Generate | Embed]] = {}
    for index, prompt in enumerate(asked):
        arrivals.setdefault(source.randrange(60), []).append(Generate(index, prompt, LONGEST, GREEDY))
    tokens, steps = run(Scheduler(runner), arrivals)
    assert tokens == wanted
    assert max(len(step.tokens) for step in steps) > 1, "nothing was batched"


@pytest.mark.parametrize("shape", SHAPES)
def test_passes_of_fixed_shapes_give_the_same_tokens(
    runners: Callable[[str], Runner], shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU would replay as a CUDA graph, run here without recording it."""
    runner, asked = runners(shape), prompts(9, seed=11)
    monkeypatch.setattr(runner, "static", runner.static_decode(record=False))
    wanted = {index: generated(runner, prompt) for index, prompt in enumerate(asked)}
    arrivals: dict[int, list[Generate | Embed]] = {
        index * 3: [Generate(index, prompt, LONGEST, GREEDY)] for index, prompt in enumerate(asked)
    }
    tokens, _ = run(Scheduler(runner), arrivals)
    assert tokens == wanted
    assert {rows for rows, _ in runner.static._recorded} == {1, 2, 4}, "not every shape was tried"


def test_a_graph_without_memory_costs_no_answer(
    runners: Callable[[str], Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shapes of two rows find none when they are recorded (recording is a double here); others go on being replayed."""
    runner, asked = runners("llama"), prompts(3, seed=12)
    static = runner.static_decode(record=True)
    ordinary, tried = runner.static_decode(record=False), []

    def prepared(inputs: torch.Tensor, end: int) -> Any:
        tried.append(inputs.shape[1])
        if inputs.shape[1] == 2:
            raise torch.OutOfMemoryError("none left")
        return ordinary._prepared(inputs, end)

    monkeypatch.setattr(static, "_prepared", prepared)
    monkeypatch.setattr(runner, "static", static)
    arrivals: dict[int, list[Generate | Embed]] = {
        index * 3: [Generate(index, prompt, LONGEST, GREEDY)] for index, prompt in enumerate(asked)
    }
    tokens, _ = run(Scheduler(runner), arrivals)
    assert tokens == {index: generated(runner, prompt) for index, prompt in enumerate(asked)}
    assert sorted(set(tried)) == [1, 2, 4] and len(tried) == len(set(tried)), "each is tried once"


@pytest.mark.parametrize("shape", ["llama", "qwen2", "qwen3"])
def test_greedy_equals_generate_alone(runners: Callable[[str], Runner], shape: str) -> None:
    runner = runners(shape)
    for prompt in prompts(3, seed=9):
        tokens, _ = run(Scheduler(runner), {0: [Generate(1, prompt, LONGEST, GREEDY)]})
        assert tokens[1] == generated(runner, prompt)


def test_an_answer_fills_the_context_to_its_last_position(runners: Callable[[str], Runner]) -> None:
    runner = runners("qwen2")
    context = runner.plan.context_length
    prompt = prompts(1)[0] * 200
    prompt = prompt[: context - 30]
    tokens, steps = run(Scheduler(runner), {0: [Generate(1, prompt, 30, GREEDY)]})
    assert tokens[1] == generated(runner, prompt, 30)
    assert steps[-1].tokens[-1][2] in ("length", "stop")


def test_cancelled_sequences_leave_the_others_untouched(
    runners: Callable[[str], Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the state a sequence is cancelled in: waiting, half read, or running in any row."""
    monkeypatch.setattr(scheduler_module, "_TOKENS_PER_STEP", {"cpu": 16})
    runner, asked = runners("llama"), prompts(10, seed=4)
    wanted = [generated(runner, prompt) for prompt in asked]
    for seed in range(8):
        source = random.Random(seed)
        victims = source.sample(range(10), 4)
        cancels = dict(zip(source.sample(range(1, 30), 4), victims, strict=True))
        arrivals: dict[int, list[Generate | Embed]] = {
            0: [Generate(index, prompt, LONGEST, GREEDY) for index, prompt in enumerate(asked)]
        }
        tokens, _ = run(Scheduler(runner), arrivals, cancels)
        for index in set(range(10)) - set(victims):
            assert tokens[index] == wanted[index], f"seed {seed}, sequence {index}"


def test_seeded_sampling_is_the_same_alone_and_in_a_batch(runners: Callable[[str], Runner]) -> None:
    runner, asked = runners("llama"), prompts(8, seed=6)
    settings = [
        Sampling(temperature=0.8 + index / 10, top_p=1.0 if index % 2 else 0.9, top_k=index * 3, seed=str(index))
        for index in range(8)
    ]
    requests = [
        Generate(index, prompt, 20, sampling)
        for index, (prompt, sampling) in enumerate(zip(asked, settings, strict=True))
    ]
    together, _ = run(Scheduler(runner), {0: [*requests, Generate(99, asked[0], 20, GREEDY)]})
    alone = {request.id: run(Scheduler(runner), {0: [request]})[0][request.id] for request in requests}
    assert {index: together[index] for index in alone} == alone
    assert together[99] == generated(runner, asked[0], 20)


def test_embeddings_between_decode_steps_equal_single_ones(
    runners: Callable[[str], Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_module, "_EMBEDDING_TOKENS_PER_STEP", 100)
    runner, inputs, prompt = runners("llama"), prompts(9, seed=7), prompts(1)[0]
    tokens, steps = run(Scheduler(runner), {0: [Generate(1, prompt, LONGEST, GREEDY)], 3: [Embed(2, inputs)]})
    assert tokens[1] == generated(runner, prompt)
    ((job, size, data),) = [vectors for step in steps for vectors in step.vectors]
    rows = torch.frombuffer(bytearray(data), dtype=torch.float32).view(-1, size)
    assert job == 2
    for row, tokens_in in zip(rows, inputs, strict=True):
        states = runner.model.model(input_ids=torch.tensor([tokens_in])).last_hidden_state[0]
        expected = torch.nn.functional.normalize(states.mean(dim=0), dim=0)
        assert torch.allclose(row, expected, atol=1e-5)
        assert abs(float(row.norm()) - 1) < 1e-5


def test_a_prompt_the_device_has_no_memory_for_fails_alone(
    runners: Callable[[str], Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, asked = runners("llama"), prompts(3)
    wanted = generated(runner, asked[0])
    forward = runner.forward

    def short_of_memory(tokens: list[int], *others: Any) -> torch.Tensor:
        if asked[1][-1] in tokens and len(tokens) > 1:
            raise torch.OutOfMemoryError("none left")
        return forward(tokens, *others)

    monkeypatch.setattr(runner, "forward", short_of_memory)
    scheduler = Scheduler(runner)
    tokens, steps = run(
        scheduler, {0: [Generate(0, asked[0], LONGEST, GREEDY)], 3: [Generate(1, asked[1], LONGEST, GREEDY)]}
    )
    assert tokens[0] == wanted
    assert [job for step in steps for job, _ in step.failures] == [1]
    assert scheduler.arena.used == memory_of_ended(scheduler), "its memory was not given back"


def test_values_that_are_not_numbers_fail_their_row_alone(
    runners: Callable[[str], Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, asked = runners("llama"), prompts(2)
    wanted = generated(runner, asked[0], 10)
    forward = runner.forward
    scheduler = Scheduler(runner)
    places: list[int] = []

    def spoilt(tokens: list[int], *others: Any) -> torch.Tensor:
        logits = forward(tokens, *others).clone()
        if len(tokens) == 2 and not places:
            victim = next(one for one in scheduler.running.sequences if one.id == 1)
            places.append(victim.place.start)
            logits[scheduler.running.sequences.index(victim)] = float("nan")
            for layer in runner.kv.layers:
                layer.blocks(victim.place, 1, 50, 51)[0].fill_(float("nan"))
        return logits

    monkeypatch.setattr(runner, "forward", spoilt)
    assert runner.kv is not None
    tokens, steps = run(scheduler, {0: [Generate(i, asked[i], 10, GREEDY) for i in range(2)]})
    assert tokens[0] == wanted
    assert [job for step in steps for job, _ in step.failures] == [1]
    assert not any(bool(layer.keys.isnan().any()) for layer in runner.kv.layers), "they lie in wait for the next user"


@pytest.mark.parametrize("fixed", [False, True])
def test_states_that_are_not_numbers_spoil_no_other_sequence(
    runners: Callable[[str], Runner], monkeypatch: pytest.MonkeyPatch, fixed: bool
) -> None:
    """Nor where passes have fixed shapes, in which a sequence looks beyond its end."""
    runner = runners("llama")
    monkeypatch.setattr(runner, "static", runner.static_decode(record=False) if fixed else None)
    asked = [list(range(5 + number, 25 + number)) for number in range(3)]
    wanted = {number: generated(runner, prompt, 10) for number, prompt in enumerate(asked)}
    scheduler, failed, found = Scheduler(runner), [], dict[int, list[int]]()
    for number, prompt in enumerate(asked):
        scheduler.add(Generate(number, prompt, 10, GREEDY))
    assert runner.kv is not None
    while not scheduler.idle:
        step = scheduler.step()
        failed += [job for job, _ in step.failures]
        for job, token, *_ in step.tokens:
            found.setdefault(job, []).append(token)
        if not failed and len(found.get(1, [])) == 3:
            victim = next(one for one in scheduler.running.sequences if one.id == 1)
            for layer in runner.kv.layers:
                for states in layer.blocks(victim.place, 1, 5, 6):
                    states.fill_(float("nan"))
    assert failed == [1]
    assert {number: found[number] for number in (0, 2)} == {number: wanted[number] for number in (0, 2)}


def test_texts_the_device_has_no_memory_for_fail_alone(
    runners: Callable[[str], Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, asked = runners("llama"), prompts(3)
    embed = runner.embed

    def short_of_memory(inputs: list[list[int]], boundaries: list[int] | None) -> torch.Tensor:
        if asked[1] in inputs:
            raise torch.OutOfMemoryError("none left")
        return embed(inputs, boundaries)

    monkeypatch.setattr(runner, "embed", short_of_memory)
    scheduler = Scheduler(runner)
    _, steps = run(scheduler, {0: [Generate(0, asked[0], 5, GREEDY), Embed(1, [asked[1]])], 2: [Embed(2, [asked[2]])]})
    assert [job for step in steps for job, _ in step.failures] == [1]
    assert [job for step in steps for job, *_ in step.vectors] == [2]
    assert len([token for step in steps for token in step.tokens]) == 5


def test_first_and_last_tokens_are_pressing(runners: Callable[[str], Runner]) -> None:
    prompt = prompts(1)[0]
    for count, wanted in ((1, [True] * 4 + [False] * 3 + [True]), (2, [True] + [False] * 6 + [True])):
        asked = [Generate(number, [7 + number, *prompt], 8, GREEDY) for number in range(count)]
        _, steps = run(Scheduler(runners("llama")), {0: asked})
        assert [bool(step.pressing) for step in steps if step.tokens] == wanted
        assert all(step.pressing <= {job for job, *_ in step.tokens} for step in steps)
