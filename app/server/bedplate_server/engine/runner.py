"""The loaded model: passes over stock Transformers model classes, for answers and for vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from .. import pages
from ..errors import Refusal
from ..protocol import Load, Ready
from . import loading, memory, vectors
from .adapters import attach
from .arena import SMALLEST, Block
from .attention import SERVED_LAYER_TYPES, Part, Pass, Probe, reaches
from .graphs import StaticDecode
from .kv import KVMemory, KVShape, Places
from .norms import simplify_norms
from .packing import pack, places
from .parts import PromptChunk
from .traced import TracedPass

# A text of so many tokens is read in parts, of which the first has so many, before a model is served.
_TRIED = 5, 12


class Runner:
    """One model on one device. Raises Refusal BP657 to BP662 when it cannot be served as asked."""

    def __init__(self, load: Load) -> None:
        torch.set_num_threads(load.threads)
        self.device = loading.device_named(load.device)
        if self.device.type == "cuda":
            # Streams and graphs are the current device's, whatever the tensors' is.
            torch.cuda.set_device(self.device)
        self.model: Any = loading.loaded(load, self.device)
        self.config: Any = self.model.config.get_text_config(decoder=True)
        self.dtype: torch.dtype = self.model.dtype
        self.stops = loading.stop_tokens(self.model) if load.generates else frozenset()
        self.kv: KVMemory | None = None
        self.static: StaticDecode | None = None
        self.traced: TracedPass | None = None
        self._recipe = vectors.Recipe(load.pooling, load.normalize, load.scores, cached=load.generates)
        self._weights = sum(weight.numel() * weight.element_size() for weight in self.model.parameters())
        self._weights += attach(self.model, load.adapters)
        self._vocabulary = self.model.get_input_embeddings().num_embeddings
        context = int(getattr(self.config, "max_position_embeddings", 0) or load.context_length or 2048)
        context = min(context, loading.longest_exact(self.config) or context)
        self.plan = memory.KVPlan(load.max_batch, min(load.context_length or context, context), 0, 0)
        if load.generates:
            self._plan_memory(load, context)
            if self.device.type == "cuda" and load.cuda_graphs:
                self.static = self.static_decode(record=True)
        if self.device.type == "cpu":
            pages.allocate_in_heap()
            pack(self.model)
            simplify_norms(self.model)
            pages.make_huge(places(self.model))
            if self.kv is not None:
                context = self.plan.context_length
                self.traced = TracedPass.of(self.model, self._no_mask, self.kv, self._reach, context)

    @property
    def facts(self) -> Ready:
        return Ready(
            generates=self.kv is not None,
            context_length=self.plan.context_length,
            vocabulary=self._vocabulary,
            slots=self.plan.sequences,
            kv_bytes=self.plan.bytes,
            kv_tokens=self.plan.tokens,
            weight_bytes=self._weights,
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
        )

    @torch.inference_mode()
    def forward(
        self,
        tokens: list[int],
        positions: list[int],
        blocks: list[Block],
        parts: Sequence[Part],
        keep: list[int] | None,
        adapters: dict[str, list[int]],
    ) -> torch.Tensor:
        """Read `tokens` of the sequences in `parts`, each at its position in its sequence's block.

        `adapters`: which tokens are read with which; the others are read with none. Returns logits [keep, vocabulary]
        for the tokens at the indexes `keep`, None meaning all.
        """
        assert self.kv is not None
        starts, sizes = [block.start for block in blocks], [block.size for block in blocks]
        if self.static is not None and keep is None and not adapters:
            logits = self.static.forward(tokens, positions, starts, sizes)
            if logits is not None:
                return logits
        inputs = torch.tensor([tokens, positions, starts, sizes], device=self.device)
        places = Places(*inputs[1:])
        if self.traced is not None and not adapters:
            kept = torch.arange(len(tokens)) if keep is None else torch.tensor(keep, dtype=torch.long)
            return self.traced.forward((inputs[:1], inputs[1:2], kept), places, parts)
        Pass.adapters = [(name, torch.tensor(which, device=self.device)) for name, which in adapters.items()]
        return self._pass(
            inputs, places, parts, 0 if keep is None else torch.tensor(keep, dtype=torch.long, device=self.device)
        )

    def _pass(
        self, inputs: torch.Tensor, places: Places, parts: Sequence[Part], keep: int | torch.Tensor = 0
    ) -> torch.Tensor:
        assert self.kv is not None
        Pass.current = Pass(self.kv, self._reach, places, parts)
        try:
            logits: torch.Tensor = self.model(
                input_ids=inputs[:1],
                position_ids=inputs[1:2],
                # A mask of four dimensions is taken as it is; `attend` looks at its parts instead.
                attention_mask=self._no_mask,
                use_cache=False,
                logits_to_keep=keep,
            ).logits
        finally:
            Pass.current, Pass.adapters = None, []
        return logits[0]

    @torch.inference_mode()
    def embed(self, inputs: list[list[int]], boundaries: list[int] | None = None) -> torch.Tensor:
        """One vector per input [inputs, size], float32, or the score of a pair [inputs, 1]."""
        return vectors.of(self.model, inputs, boundaries, self._recipe)

    def static_decode(self, *, record: bool) -> StaticDecode:
        """Decode passes of fixed shapes, to be used instead of `forward`'s own."""
        assert self.kv is not None
        return StaticDecode(
            lambda inputs, places, part: self._pass(inputs, places, [part]), self.kv, self.device, record=record
        )

    def _plan_memory(self, load: Load, context: int) -> None:
        shapes = self._kv_shapes(load.path, load.adapters)
        element = torch.empty(0, dtype=self.dtype).element_size()
        if load.kv_memory_mb is not None:
            budget = load.kv_memory_mb * 2**20
        elif self.device.type == "cuda":
            budget = memory.cuda_budget(torch.cuda.mem_get_info(self.device)[0])
        else:
            budget = memory.cpu_budget()
        self.plan = memory.plan(
            budget=budget,
            bytes_per_token=sum(shape.elements_per_token for shape in shapes) * element,
            model_context=context,
            wanted_context=load.context_length,
            wanted_sequences=load.max_batch,
        )
        try:
            self.kv = KVMemory(shapes, self.plan.tokens, self.dtype, self.device)
        except torch.OutOfMemoryError as error:
            fix = "free GPU memory, or set models[].kv_memory_mb."
            raise Refusal("BP659", f"{load.path}: no memory for keys and values: {error}", fix) from None
        self._reach = reaches(self.config, len(shapes))
        # The numbers of quantized layers depend on what else is in a pass.
        if not getattr(self.model, "is_quantized", False):
            self._need_parts(load.path)
        if self.device.type == "cpu":
            pages.populate([states for layer in self.kv.layers for states in (layer.keys, layer.values)])

    @torch.inference_mode()
    def _need_parts(self, path: str) -> None:
        """Refuse a model that reads the second part of a text otherwise than in one pass, as one that counts positions itself."""
        assert self.kv is not None
        block, count = Block(0, SMALLEST), min(_TRIED[1], self.plan.context_length)
        tokens = torch.arange(count, device=self.device)

        def read(begin: int, end: int) -> torch.Tensor:
            own = tokens[begin:end]
            inputs = torch.stack(
                [own % self._vocabulary, own, torch.full_like(own, block.start), torch.full_like(own, block.size)]
            )
            return self._pass(inputs, Places(*inputs[1:]), [PromptChunk(0, end - begin, block, begin)])

        whole = read(0, count)
        self.kv.clear(block)
        read(0, _TRIED[0])
        apart = (read(_TRIED[0], count) - whole[_TRIED[0] :]).abs().amax(dim=-1)
        self.kv.clear(block)
        # Of a mixture of experts rounding may send a token elsewhere, but not most of them.
        if (apart > float(whole.abs().max()) * torch.finfo(whole.dtype).eps ** 0.5).float().mean() > 0.5:
            found = "reads a text in parts otherwise than in one piece"
            raise Refusal("BP657", f"{path}: the model {found}, the engine cannot batch it.", "choose another model.")

    @torch.inference_mode()
    def _kv_shapes(self, path: str, adapters: Iterable[str]) -> list[KVShape]:
        """What each layer stores per token, seen in a pass over one."""
        kinds = set(getattr(self.config, "layer_types", None) or ()) - SERVED_LAYER_TYPES
        if getattr(self.config, "num_kv_shared_layers", 0):
            kinds.add("layers that share keys and values")
        probe, layers = Probe(), self.config.num_hidden_layers
        self._no_mask = torch.zeros(1, 1, 1, 1, dtype=self.dtype, device=self.device)
        if not kinds:
            token = torch.zeros(1, 1, dtype=torch.long, device=self.device)
            Pass.current = probe
            # An adapter's layer that is not given a pass's tokens one by one says so.
            Pass.adapters = [(name, token[0]) for name in adapters]
            try:
                self.model(input_ids=token, position_ids=token, attention_mask=self._no_mask, use_cache=False)
            except (AttributeError, TypeError, ValueError):
                # Its attention is not of the kind that can be replaced; the probe has seen no layer.
                probe.shapes.clear()
            finally:
                Pass.current, Pass.adapters = None, []
        if sorted(probe.shapes) != list(range(layers)):
            found = ", ".join(sorted(kinds)) or "an attention that is its own"
            raise Refusal("BP657", f"{path}: the engine cannot batch {found}.", "choose a plain attention model.")
        return [probe.shapes[index] for index in range(layers)]
