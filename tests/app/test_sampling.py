"""Per-row sampling draws from the distribution Transformers' own warpers describe."""

from __future__ import annotations

import math

import pytest
import torch
from bedplate_server.engine import sampling as sampling_module
from bedplate_server.engine.sampling import Sampler, next_tokens
from bedplate_server.protocol import Sampling
from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

DRAWS = 4000


def described(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities after Transformers' temperature, top_k and top_p, in the order generate applies them."""
    scores = TemperatureLogitsWarper(sampling.temperature)(torch.empty(0), logits[None])
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(torch.empty(0), scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(torch.empty(0), scores)
    if sampling.min_p > 0:
        scores = MinPLogitsWarper(sampling.min_p)(torch.empty(0), scores)
    return scores.softmax(dim=-1)[0]


def test_frequencies_follow_the_described_distribution() -> None:
    torch.manual_seed(0)
    logits = torch.randn(50) * 2
    for sampling in [
        Sampling(temperature=1.0, seed="a"),
        Sampling(temperature=0.6, top_p=0.8, seed="b"),
        Sampling(temperature=1.7, top_k=7, seed="c"),
        Sampling(temperature=1.2, top_k=20, top_p=0.7, seed="d"),
        Sampling(temperature=1.5, min_p=0.2, seed="e"),
        Sampling(temperature=1.1, top_k=30, top_p=0.9, min_p=0.1, seed="f"),
    ]:
        wanted = described(logits, sampling)
        sampler = Sampler(sampling)
        drawn = torch.tensor([next_tokens(logits[None], [sampler])[0] for _ in range(DRAWS)])
        found = torch.bincount(drawn, minlength=50) / DRAWS
        assert bool((wanted[found > 0] > 0).all()), f"{sampling} drew a token that is cut off"
        assert float((found - wanted).abs().sum()) < 0.12, sampling


@pytest.mark.parametrize(("rows", "vocabulary"), [(16, 8192), (1, 128256), (64, 320), (3, 50257)])
def test_greedy_takes_the_first_of_the_best(rows: int, vocabulary: int) -> None:
    """And says which rows are not numbers; alone, and beside a row that is drawn."""
    torch.manual_seed(5)
    logits = torch.randn(rows, vocabulary)
    greedy = [Sampler(Sampling()) for _ in range(rows)]
    assert next_tokens(logits, greedy) == logits.argmax(dim=-1).tolist()
    # The same value next to one another, at both ends, everywhere.
    places = [[vocabulary - 1, 64, 127], [0, vocabulary - 1], [63, 64], list(range(vocabulary))]
    for row, alike in enumerate(places[:rows]):
        logits[row, alike] = 9.0
    wanted = [min(alike) for alike in places[:rows]] + logits[len(places) :].argmax(dim=-1).tolist()
    assert next_tokens(logits, greedy) == wanted
    beside = [*greedy, Sampler(Sampling(temperature=1.0, top_k=1))]
    last = torch.arange(float(vocabulary))[None]
    assert next_tokens(torch.cat([logits, last]), beside) == [*wanted, vocabulary - 1]
    for number in (torch.nan, torch.inf):
        logits[0, vocabulary // 2] = number
        assert next_tokens(logits, greedy) == [None, *wanted[1:]]
        assert next_tokens(torch.cat([logits, last]), beside) == [None, *wanted[1:], vocabulary - 1]


def test_the_short_list_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flat distributions, where a short list of the best is not enough, mixed with steep ones."""
    torch.manual_seed(2)
    logits = torch.cat([torch.randn(3, 2000) * scale for scale in (0.1, 1.0, 8.0)])
    settings = [
        Sampling(temperature=1.3, top_p=top_p, top_k=top_k, min_p=0.001 if top_k == 500 else 0.0, seed="s")
        for top_p, top_k in [
            (0.9, 0),
            (1.0, 700),
            (0.7, 500),
            (0.5, 0),
            (1.0, 5),
            (0.9, 40),
            (0.99, 0),
            (0.3, 0),
            (1.0, 300),
        ]
    ]
    short = [next_tokens(logits, [Sampler(one) for one in settings]) for _ in range(3)]
    monkeypatch.setattr(sampling_module._draw_cut, "__defaults__", (2000,))
    assert [next_tokens(logits, [Sampler(one) for one in settings]) for _ in range(3)] == short


def test_top_p_counts_what_min_p_leaves_out() -> None:
    """Of 500 candidates 241 have min_p of the best, but all count for top_p, which 444 make up."""
    logits = torch.full((600,), -50.0)
    logits[0], logits[1:241], logits[241:500] = 0.0, math.log(0.11), math.log(0.09)
    sampling = Sampling(temperature=1.0, top_k=500, top_p=0.9, min_p=0.1, seed="s")
    drawn = 4000
    uniform = ((torch.arange(drawn, dtype=torch.float64) + 0.5) / drawn)[:, None]
    chosen = sampling_module._draw_cut(logits.expand(drawn, -1), [sampling] * drawn, uniform)
    assert sorted(set(chosen.tolist())) == list(range(241))


def test_rows_with_different_settings_do_not_touch_each_other() -> None:
    torch.manual_seed(1)
    logits = torch.randn(4, 30)
    settings = [
        Sampling(),
        Sampling(temperature=1.0, seed="x"),
        Sampling(temperature=0.7, top_k=5, seed="y"),
        Sampling(temperature=1.3, top_p=0.5, seed="z"),
    ]
    together = next_tokens(logits, [Sampler(one) for one in settings])
    alone = [next_tokens(logits[row : row + 1], [Sampler(one)])[0] for row, one in enumerate(settings)]
    assert together == alone
    assert together[0] == int(logits[0].argmax())


def test_extreme_settings_still_give_a_token() -> None:
    logits = torch.tensor([[0.0, 5.0, 1e4, -1e4]])
    for sampling in [
        Sampling(temperature=1e-8, seed="1"),
        Sampling(temperature=2.0, top_p=1e-9, seed="1"),
        Sampling(temperature=2.0, top_k=1, seed="1"),
        Sampling(temperature=1e-8, top_k=10**6, top_p=0.5, seed="1"),
    ]:
        assert next_tokens(logits, [Sampler(sampling)]) == [2]


def test_rows_that_are_not_numbers_are_reported() -> None:
    logits = torch.zeros(3, 4)
    logits[0, 1], logits[2] = float("nan"), float("-inf")
    assert next_tokens(logits, [Sampler(Sampling()), Sampler(Sampling()), Sampler(Sampling(temperature=1.0))]) == [
        None,
        0,
        None,
    ]
