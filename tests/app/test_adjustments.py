"""Bias, penalties, forbidden tokens and grammars change what they say, in their own row only."""

from __future__ import annotations

import torch
from bedplate_server.engine.sampling import Sampler, logprobs_of, next_tokens
from bedplate_server.protocol import Sampling
from transformers import RepetitionPenaltyLogitsProcessor

VOCABULARY = 40
END = frozenset([7])


def logits(rows: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(rows, VOCABULARY) * 2


def best_of(scores: torch.Tensor) -> int:
    return int(scores.argmax())


def test_the_repetition_penalty_is_transformers_own_over_prompt_and_answer() -> None:
    prompt, answer = [3, 5, 3], []
    sampler = Sampler(Sampling(repetition_penalty=1.7), prompt)
    for step in range(60):
        scores = logits(1, step)
        wanted = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([prompt + answer]), scores.clone())
        (token,) = next_tokens(scores, [sampler])
        assert token == best_of(wanted)
        sampler.take(token)
        answer.append(token)


def test_presence_and_frequency_penalties_follow_openais_formula() -> None:
    sampler = Sampler(Sampling(presence_penalty=0.7, frequency_penalty=0.4), [1, 1, 1])
    counts = torch.zeros(VOCABULARY)
    for step in range(60):
        scores = logits(1, step % 5)
        (token,) = next_tokens(scores, [sampler])
        assert token == best_of(scores[0] - 0.4 * counts - 0.7 * (counts > 0))
        sampler.take(token)
        counts[token] += 1
    assert counts.max() > 2, "nothing was repeated, so nothing was tried"


def test_a_bias_bans_and_forces_tokens() -> None:
    scores = logits(2)
    favourite = best_of(scores[0])
    banned, forced = Sampling(logit_bias=((favourite, -100.0),)), Sampling(logit_bias=((11, 100.0),))
    assert next_tokens(scores, [Sampler(banned), Sampler(forced)]) == [int(scores[0].topk(2).indices[1]), 11]


def test_no_end_comes_before_min_tokens() -> None:
    scores = logits(1)
    scores[0, 7] = 50.0
    sampler = Sampler(Sampling(min_tokens=3), [], END)
    tokens = []
    for _ in range(5):
        tokens += next_tokens(scores, [sampler])
        sampler.take(tokens[-1])
    assert [token == 7 for token in tokens] == [False, False, False, True, True]


class _Countdown:
    """A grammar: 9, 8, 7 and so on, whatever the model would like."""

    problem = None

    def __init__(self) -> None:
        self.next = 35

    def fill(self, bitmask: torch.Tensor, row: int) -> None:
        word, bit = divmod(self.next, 32)
        bitmask[row, word] = (1 << bit) - (1 << 32 if bit == 31 else 0)

    def accept(self, token: int) -> None:
        assert token == self.next
        self.next -= 1


def test_a_grammar_decides_what_may_come() -> None:
    sampler = Sampler(Sampling(temperature=1.0, seed="x", grammar="countdown"), [], END, _Countdown())
    tokens = []
    for step in range(8):
        tokens += next_tokens(logits(1, step), [sampler])
        sampler.take(tokens[-1])
    assert tokens == [35, 34, 33, 32, 31, 30, 29, 28]


def test_rows_without_adjustments_keep_their_logits() -> None:
    scores = logits(5)
    untouched = scores.clone()
    samplers = [
        Sampler(Sampling()),
        Sampler(Sampling(repetition_penalty=1.5), [1, 2, 3]),
        Sampler(Sampling(temperature=0.9, seed="s")),
        Sampler(Sampling(presence_penalty=1.0)),
        Sampler(Sampling(logit_bias=((3, 50.0),))),
    ]
    together = next_tokens(scores, samplers)
    assert torch.equal(scores, untouched), "the model's own logits were changed"
    assert together[0] == best_of(scores[0])
    assert together[2] == next_tokens(scores[2:3], [Sampler(Sampling(temperature=0.9, seed="s"))])[0]
    assert together[4] == 3


def test_log_probabilities_are_the_models_own() -> None:
    """Temperature and bias change what is picked, not what the model is reported to have thought."""
    scores = logits(3)
    samplers = [
        Sampler(Sampling(logprobs=2)),
        Sampler(Sampling()),
        Sampler(Sampling(temperature=1.9, seed="1", logprobs=0, logit_bias=((3, 50.0),))),
    ]
    tokens = next_tokens(scores, samplers)
    found = logprobs_of(scores, tokens, samplers)
    wanted = scores.log_softmax(dim=-1)
    assert set(found) == {0, 2}
    assert abs(found[0][0] - float(wanted[0, tokens[0]])) < 1e-5
    assert [token for token, _ in found[0][1]] == wanted[0].topk(2).indices.tolist()
    assert tokens[2] == 3
    assert abs(found[2][0] - float(wanted[2, 3])) < 1e-5
    assert found[2][1] == []
