"""One vector per text, or one score per pair of texts, from a model's hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .flat import states_of


@dataclass(frozen=True, slots=True)
class Recipe:
    """How hidden states become a vector; `scores`: the model's own head says one number, `cached`: it is a decoder."""

    pooling: str
    normalize: bool
    scores: bool
    cached: bool


def of(model: Any, inputs: list[list[int]], boundaries: list[int] | None, recipe: Recipe) -> torch.Tensor:
    """[inputs, size], float32, on the CPU. `boundaries`: where the second text of each pair begins."""
    # The body without the language model head, where there is one.
    body = getattr(model, model.base_model_prefix, model)
    tokens, mask = _padded(inputs, getattr(model.config, "pad_token_id", None) or 0)
    if not (recipe.scores or recipe.cached) and (states := states_of(body, inputs)) is not None:
        return _finished(states, mask, recipe)
    arguments: dict[str, Any] = {"input_ids": tokens, "attention_mask": mask}
    if boundaries is not None and getattr(model.config, "type_vocab_size", 1) > 1:
        positions = torch.arange(tokens.shape[1])[None]
        arguments["token_type_ids"] = (positions >= torch.tensor(boundaries)[:, None]).long() * mask
    if recipe.cached:
        arguments["use_cache"] = False
    arguments = {name: value.to(model.device) if torch.is_tensor(value) else value for name, value in arguments.items()}
    if recipe.scores:
        scores: torch.Tensor = model(**arguments).logits.float().cpu()
        return scores
    return _finished(body(**arguments).last_hidden_state, arguments["attention_mask"], recipe)


def _finished(states: torch.Tensor, mask: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    rows = pooled(states.float(), mask, recipe.pooling)
    return (torch.nn.functional.normalize(rows, dim=-1) if recipe.normalize else rows).cpu()


def pooled(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """[rows, size] of states [rows, tokens, size]; padding is on the right."""
    match pooling:
        case "cls":
            return states[:, 0]
        case "last":
            return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
        case "max":
            return states.masked_fill(mask[:, :, None] == 0, -torch.inf).amax(dim=1)
    weights = mask[:, :, None].float()
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _padded(inputs: list[list[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.full((len(inputs), max(map(len, inputs))), padding)
    mask = torch.zeros_like(tokens)
    for row, one in enumerate(inputs):
        tokens[row, : len(one)] = torch.tensor(one)
        mask[row, : len(one)] = 1
    return tokens, mask
