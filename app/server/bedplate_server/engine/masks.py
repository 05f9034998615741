"""Which positions a token may look at, for a batch of rows of different lengths."""

from __future__ import annotations

from typing import Any

import torch

Masks = torch.Tensor | dict[str, torch.Tensor]

# The layer kinds whose memory is keys and values by position, which is what slots.py keeps.
SERVED_LAYER_TYPES = {"full_attention", "sliding_attention", "chunked_attention"}


def attention_masks(config: Any, positions: torch.Tensor, end: int, dtype: torch.dtype) -> Masks:
    """Additive masks [batch, 1, tokens, end] for tokens at `positions` [batch, tokens] of their rows.

    One mask, or one per layer type for models that mix them: the form Transformers' models take ready-made
    masks in (its `create_masks_for_generate` decides by the same rule).
    """
    keys = torch.arange(end, device=positions.device)[None, None, None, :]
    queries = positions[:, None, :, None]
    causal = keys <= queries

    def mask(kind: str) -> torch.Tensor:
        if kind == "sliding_attention":
            seen = causal & (keys > queries - config.sliding_window)
        elif kind == "chunked_attention":
            chunk = config.attention_chunk_size
            seen = causal & (keys // chunk == queries // chunk)
        else:
            seen = causal
        lowest = torch.finfo(dtype).min
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, lowest)

    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return {kind: mask(kind) for kind in set(kinds)}
    if getattr(config, "sliding_window", None) is not None:
        return mask("sliding_attention")
    if getattr(config, "attention_chunk_size", None) is not None:
        return mask("chunked_attention")
    return mask("full_attention")
