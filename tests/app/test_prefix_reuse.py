"""What was read once is not read again, and nobody can tell from the answer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from bedplate_server.engine.runner import Runner
from bedplate_server.engine.scheduler import Scheduler
from bedplate_server.protocol import Generate, Sampling

from tests.app.support.tiny_models import SHAPES
from tests.app.test_engine_batching import GREEDY, generated, load, run

LENGTH = 12


@pytest.fixture(scope="module", params=["llama", "mistral", "gemma3"])
def runner(request: pytest.FixtureRequest, models: dict[str, Path]) -> Runner:
    assert request.param in SHAPES
    return load(models[request.param], max_batch=4)


def tokens(count: int, seed: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(5, 390) for _ in range(count)]


def request(number: int, prompt: list[int], length: int = LENGTH) -> Generate:
    return Generate(number, prompt, length, GREEDY)


def reused(scheduler: Scheduler, *prompts: list[int]) -> list[int]:
    """How many tokens of each prompt, asked one after another, were stored; every answer is checked."""
    found = []
    for number, prompt in enumerate(prompts):
        answers, steps = run(scheduler, {0: [request(number, prompt)]})
        assert answers[number] == generated(scheduler._runner, prompt, LENGTH), f"prompt {number}"
        found += [stored for step in steps for job, stored in step.admitted if job == number]
    return found


def test_a_shared_beginning_is_read_once(runner: Runner) -> None:
    system = tokens(100, 1)
    asked = [system + tokens(20, seed) for seed in (2, 3, 4)]
    assert reused(Scheduler(runner), *asked) == [0, 100, 100]


def test_the_same_prompt_again_reads_its_last_token_alone(runner: Runner) -> None:
    prompt = tokens(80, 5)
    assert reused(Scheduler(runner), prompt, prompt) == [0, 79]


def test_a_conversation_goes_on_where_it_was(runner: Runner) -> None:
    scheduler, turn = Scheduler(runner), tokens(40, 6)
    answer = generated(runner, turn, LENGTH)
    # The last token of an answer was never an input.
    assert reused(scheduler, turn, turn + answer + tokens(9, 7)) == [0, 40 + len(answer) - 1]
    assert len(scheduler._prefixes._ended) == 1, "the first turn is kept beside its own continuation"


def test_choices_of_one_prompt_share_its_reading(runner: Runner) -> None:
    prompt = tokens(200, 8)
    arrivals = {0: [request(number, prompt) for number in range(4)]}
    answers, steps = run(Scheduler(runner), arrivals)
    assert [stored for step in steps for _, stored in step.admitted] == [0, 199, 199, 199]
    assert all(answer == generated(runner, prompt, LENGTH) for answer in answers.values())


def test_a_running_sequence_shares_what_it_has_read(runner: Runner) -> None:
    prompt, other = tokens(60, 9), tokens(60, 9)[:50] + tokens(15, 10)
    answers, steps = run(Scheduler(runner), {0: [request(1, prompt)], 4: [request(2, other)]})
    assert [stored for step in steps for _, stored in step.admitted] == [0, 50]
    assert answers[1] == generated(runner, prompt, LENGTH)
    assert answers[2] == generated(runner, other, LENGTH)


def test_short_prompts_and_other_adapters_share_nothing(runner: Runner) -> None:
    assert reused(Scheduler(runner), tokens(15, 11), tokens(15, 11)) == [0, 0]
    scheduler, prompt = Scheduler(runner), tokens(50, 12)
    run(scheduler, {0: [request(1, prompt)]})
    scheduler.add(Generate(2, prompt, LENGTH, Sampling(), adapter="another"))
    assert scheduler._prefixes.longest("another", prompt) == (None, 0)


def test_stored_texts_make_room_for_new_ones_and_memory_stays_as_planned(models: dict[str, Path]) -> None:
    """Forty prompts through room for four; the arena never holds more than was planned, and ends holding only texts."""
    runner = load(models["llama"], max_batch=4, context_length=128)
    scheduler, source = Scheduler(runner), random.Random(13)
    asked = [tokens(source.choice([20, 50, 90]), seed) for seed in range(40)]
    answers, steps = run(scheduler, {number: [request(number, prompt)] for number, prompt in enumerate(asked)})
    for number, prompt in enumerate(asked):
        assert answers[number] == generated(runner, prompt, LENGTH)
    assert runner.plan.tokens == scheduler.arena.tokens == 4 * 128
    assert max(step.stats.kv_used for step in steps if step.stats) <= runner.plan.tokens
    assert max(step.stats.running for step in steps if step.stats) > 2
    assert steps[-1].stats.kv_used == 0, "what gives way counts as free"
    assert scheduler.arena.used == sum(stored.block.size for stored in scheduler._prefixes._ended)


def test_a_prompt_that_needs_all_memory_evicts_what_it_begins_like(models: dict[str, Path]) -> None:
    runner = load(models["llama"], max_batch=1, context_length=256)
    scheduler, prompt = Scheduler(runner), tokens(200, 14)
    assert reused(scheduler, prompt, prompt[:150] + tokens(60, 15)) == [0, 0]


def test_sequences_wait_for_memory_in_the_order_they_came(models: dict[str, Path]) -> None:
    runner = load(models["llama"], max_batch=8, context_length=512, kv_memory_mb=1)
    assert runner.plan.tokens < 8 * 512
    scheduler = Scheduler(runner)
    room = runner.plan.tokens // 512
    arrivals = {0: [request(number, tokens(400, 20 + number)) for number in range(room + 3)]}
    answers, steps = run(scheduler, arrivals)
    assert [job for step in steps for job, _ in step.admitted] == list(range(room + 3))
    assert max(step.stats.running for step in steps if step.stats) == room
    assert all(answers[number] == generated(runner, tokens(400, 20 + number), LENGTH) for number in answers)
