"""Decode passes of fixed shapes, recorded once as CUDA graphs: replaying one costs a launch instead of hundreds.

A graph is bound to addresses and shapes, so rows and lengths are rounded up to powers of two and the keys and values
gathered by index. Where nothing can be recorded (a CPU, a model that asks the host something) the pass is an ordinary one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
import torch

from .attention import Options, Reach
from .kv import KVLayer, KVMemory, Places

log = structlog.get_logger(__name__)

_SHORTEST = 256
# Over this many keys gathered in a pass their copying costs more than the launches saved.
_MOST_KEYS = 2**17


class Gathered:
    """The newest tokens of all rows, of which each sees the first `end` positions of its sequence's block."""

    def __init__(self, places: Places, end: int) -> None:
        self._places = places
        self._positions = places.positions[:, None]
        self.start, self.stop = 0, len(self._positions)
        self._keys = torch.arange(end, device=self._positions.device)
        # By the number of heads.
        self._index: dict[int, torch.Tensor] = {}

    def attend(self, layer: KVLayer, reach: Reach, query: torch.Tensor, options: Options) -> torch.Tensor:
        heads, rows, size = query.shape
        if layer.heads not in self._index:
            # Behind its end a sequence sees its newest token: the mask hides it, but others' might not be a number.
            own = torch.minimum(self._keys[:, None], self._positions.T)
            self._index[layer.heads] = self._places.along(own, layer.heads).permute(2, 1, 0).flatten()
        index = self._index[layer.heads]
        keys, values = (
            states.index_select(0, index).view(rows, layer.heads, -1, states.shape[1])
            for states in (layer.keys, layer.values)
        )
        hidden = (self._keys > self._positions) | (self._keys < reach.first(self._positions))
        mask = torch.zeros(hidden.shape, dtype=query.dtype, device=query.device).masked_fill_(hidden, -torch.inf)
        grouped = query.transpose(0, 1).reshape(rows, keys.shape[1], heads // keys.shape[1], size)
        return options.attention(grouped, keys, values, mask[:, None, None]).reshape(rows, heads, -1)


# Logits [rows, vocabulary] of a pass over tokens, positions, starts and sizes [4, rows] with one part.
DecodePass = Callable[[torch.Tensor, Places, Gathered], torch.Tensor]


class StaticDecode:
    """Decode passes by rounded shape. `record` is false where there is no CUDA: then they run as they are."""

    def __init__(self, run: DecodePass, memory: KVMemory, device: torch.device, *, record: bool) -> None:
        self._run, self._memory, self._device, self._record = run, memory, device, record
        self._recorded: dict[tuple[int, int], tuple[torch.Tensor, Callable[[], torch.Tensor]]] = {}
        # Shapes there was no memory for, and the memory of all that was recorded: no two graphs ever run at once.
        self._too_large: set[tuple[int, int]] = set()
        self._pool: Any = None
        self._aside: Any = None
        self._works = True

    def forward(
        self, tokens: list[int], positions: list[int], starts: list[int], sizes: list[int]
    ) -> torch.Tensor | None:
        """Logits [rows, vocabulary]; None if this pass has to be an ordinary one."""
        rows = 1 << (len(tokens) - 1).bit_length()
        end = max(_SHORTEST, 1 << max(positions).bit_length())
        shape = (rows, end)
        if not self._works or rows * end > _MOST_KEYS or shape in self._too_large:
            return None
        # Rows without a sequence read one token in the block that belongs to nobody.
        spare = rows - len(tokens)
        token, place = [0] * spare, [self._memory.tokens] * spare
        inputs = torch.tensor([tokens + token, positions + token, starts + place, sizes + [1] * spare])
        try:
            if shape not in self._recorded:
                self._recorded[shape] = self._prepared(inputs, end)
            held, replay = self._recorded[shape]
            held.copy_(inputs, non_blocking=True)
            return replay()[: len(tokens)]
        except torch.OutOfMemoryError as error:
            if not self._record:
                raise
            # An ordinary pass copies no keys and values.
            log.warning("no memory for a CUDA graph", rows=rows, keys=end, error=str(error)[:300])
            self._too_large.add(shape)
            return None
        except RuntimeError as error:
            if not self._record:
                raise
            log.warning("no CUDA graphs for this model", error=str(error)[:300])
            self._works = False
            return None

    def _prepared(self, inputs: torch.Tensor, end: int) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
        """Input buffers, and what gives their logits."""
        held = inputs.to(self._device)

        def decode() -> torch.Tensor:
            places = Places(*held[1:])
            return self._run(held, places, Gathered(places, end))

        if not self._record:
            return held, decode
        # One for all: each stream has a workspace of its own.
        aside = self._aside = self._aside or torch.cuda.Stream()  # type: ignore[no-untyped-call]  # it has no types
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            # Libraries allocate and choose their kernels on first use, which must not be recorded.
            for _ in range(2):
                decode()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = decode()

        def replay() -> torch.Tensor:
            graph.replay()
            return logits

        return held, replay
