"""The loaded model: prefill, decode and embedding passes over stock Transformers model classes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.utils import logging as transformers_logging

from ..errors import Refusal
from ..protocol import Load, Ready
from . import memory, vectors
from .masks import SERVED_LAYER_TYPES, attention_masks
from .slots import KVShape, KVSlots


class Runner:
    """One model on one device. Raises Refusal BP657 to BP660 when it cannot be served as asked."""

    def __init__(self, load: Load) -> None:
        torch.set_num_threads(load.threads)
        self.device = _device(load.device)
        self.model: Any = _loaded(load, self.device)
        self.config: Any = self.model.config.get_text_config(decoder=True)
        self.dtype: torch.dtype = self.model.dtype
        self.stops = _stop_tokens(self.model) if load.generates else frozenset()
        self.kv: KVSlots | None = None
        self._recipe = vectors.Recipe(load.pooling, load.normalize, load.scores, cached=load.generates)
        context = int(getattr(self.config, "max_position_embeddings", 0) or load.context_length or 2048)
        self.plan = memory.KVPlan(load.max_batch, min(load.context_length or context, context), 0)
        if load.generates:
            self._plan_slots(load, context)

    @property
    def facts(self) -> Ready:
        weights = sum(weight.numel() * weight.element_size() for weight in self.model.parameters())
        return Ready(
            generates=self.kv is not None,
            context_length=self.plan.context_length,
            vocabulary=self.model.get_input_embeddings().num_embeddings,
            slots=self.plan.slots,
            kv_bytes=self.plan.bytes,
            weight_bytes=weights,
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
        )

    @torch.inference_mode()
    def prefill(self, row: int, tokens: list[int], start: int) -> torch.Tensor:
        """Read `tokens` into `row` from position `start` on; logits [1, vocabulary] after the last."""
        positions = torch.arange(start, start + len(tokens), device=self.device)[None]
        return self._pass(row, torch.tensor([tokens], device=self.device), positions, start + len(tokens))

    @torch.inference_mode()
    def decode(self, tokens: list[int], positions: list[int]) -> torch.Tensor:
        """One token for each of the first rows, at its position; logits [rows, vocabulary]."""
        inputs = torch.tensor([tokens, positions], device=self.device)
        return self._pass(0, inputs[0, :, None], inputs[1, :, None], max(positions) + 1)

    def move(self, source: int, target: int, length: int) -> None:
        assert self.kv is not None
        self.kv.move(source, target, length)

    def clear(self, row: int) -> None:
        assert self.kv is not None
        self.kv.clear(row)

    @torch.inference_mode()
    def embed(self, inputs: list[list[int]], boundaries: list[int] | None = None) -> torch.Tensor:
        """One vector per input [inputs, size], float32, or the score of a pair [inputs, 1]."""
        return vectors.of(self.model, inputs, boundaries, self._recipe)

    def _pass(self, first: int, tokens: torch.Tensor, positions: torch.Tensor, end: int) -> torch.Tensor:
        assert self.kv is not None
        logits: torch.Tensor = self.model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=attention_masks(self.config, positions, end, self.dtype),
            past_key_values=self.kv.at(first, positions, end),
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[:, -1]

    def _plan_slots(self, load: Load, context: int) -> None:
        shapes = self._kv_shapes(load.path)
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
            wanted_slots=load.max_batch,
        )
        self.kv = KVSlots(shapes, self.plan.slots, self.plan.context_length, self.dtype, self.device)

    @torch.inference_mode()
    def _kv_shapes(self, path: str) -> list[KVShape]:
        """What each layer stores per token, seen in a pass over one rather than guessed from the config."""
        unserved = set(getattr(self.config, "layer_types", None) or ()) - SERVED_LAYER_TYPES
        cache = DynamicCache()
        if not unserved:
            token = torch.zeros(1, 1, dtype=torch.long, device=self.device)
            self.model(input_ids=token, past_key_values=cache, use_cache=True)
        layers = [layer for layer in cache.layers if isinstance(layer, DynamicLayer) and layer.is_initialized]
        if len(layers) != self.config.num_hidden_layers:
            kinds = ", ".join(sorted(unserved)) or "layers without keys and values of their own"
            raise Refusal("BP657", f"{path}: the engine cannot batch {kinds}.", "choose a plain attention model.")
        states = [(layer.keys, layer.values) for layer in layers]
        return [KVShape(keys.shape[1], keys.shape[3], values.shape[3]) for keys, values in states]  # type: ignore[union-attr]


def _loaded(load: Load, device: torch.device) -> Any:
    kind: Any = AutoModelForCausalLM if load.generates else AutoModel
    kind = AutoModelForSequenceClassification if load.scores else kind
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # Most CPUs convert every bfloat16 to float32 and back; the same weights in float32 are faster and as
    # exact.
    dtype = load.dtype if load.dtype != "auto" or device.type == "cuda" else "float32"
    try:
        model: Any = kind.from_pretrained(
            load.path,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            attn_implementation="sdpa",
        )
        return model.to(device).eval().requires_grad_(False)
    except torch.OutOfMemoryError as error:
        raise Refusal("BP659", f"{load.path}: {error}", "free GPU memory or serve a smaller model.") from None
    except Exception as error:
        # Whatever it is, and each library raises its own, the model does not load.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise Refusal("BP658", f"{load.path}: cannot be loaded: {reason}.", "check the model's files.") from error


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA devices with torch {torch.__version__}"
        raise Refusal("BP660", f"device {wanted} asked for, found {found}.", "set device: cpu, or repair the driver.")
    return device


def _stop_tokens(model: Any) -> frozenset[int]:
    """The ids that end an answer, as model.generate takes them."""
    ids = model.generation_config.eos_token_id
    return frozenset() if ids is None else frozenset([ids] if isinstance(ids, int) else ids)
