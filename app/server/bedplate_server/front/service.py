"""One served model: its text codec, its engine, and who gets a place in its queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from ..checkpoint import Checkpoint
from ..config import Limits, ModelConfig
from ..errors import (
    Refusal,
    bad_request,
    context_length_exceeded,
    shutting_down,
)
from ..protocol import Load, Ready
from .conversation import Conversation, Prepared
from .detokenize import TextStream
from .generation import Generation
from .inputs import Inputs, check_tokens
from .limits import Places
from .logprobs import Echo
from .metrics import Meter, Metrics
from .proof import result_of
from .reader import Reader
from .replicas import Replicas
from .schemas.chat import ChatRequest
from .schemas.completions import CompletionRequest
from .text import TextCodec

log = structlog.get_logger(__name__)

_PROOF_PATIENCE = 5.0
# A first token can take long on a cold GPU; a probe gets less.
_FIRST_TOKEN_PATIENCE = 300.0
# Settings of generation_config.json that change what model.generate returns and are not applied here, unless they have
# these values.
_UNAPPLIED: dict[str, Any] = {
    "no_repeat_ngram_size": 0,
    "typical_p": 1.0,
    "suppress_tokens": None,
    "bad_words_ids": None,
}
Vectors = npt.NDArray[np.float32]


class ModelService:
    """What the routes need of a model. At most slots + max_queue sequences are taken on, others refused."""

    def __init__(
        self,
        config: ModelConfig,
        checkpoint: Checkpoint,
        limits: Limits,
        threads: int,
        refused: Callable[[Refusal], None],
        metrics: Metrics,
    ) -> None:
        self.name = config.name
        self.checkpoint = checkpoint
        self._config = config
        self._limits = limits
        self._defaults = checkpoint.generation
        self._workers = ThreadPoolExecutor(2, thread_name_prefix=f"text-{config.name}")
        self._codec: asyncio.Future[Conversation] | None = None
        load = Load(
            name=config.name,
            path=str(checkpoint.path),
            generates=checkpoint.generates,
            scores=checkpoint.scores,
            pooling=config.pooling or checkpoint.sentence.pooling,
            normalize=_given(config.normalize, checkpoint.sentence.normalize),
            dtype=config.dtype,
            device=config.devices_of_engines[0],
            max_batch=config.max_batch,
            # Embedding models have position tables that the model's config overstates (RoBERTa: by two).
            context_length=config.context_length or (None if checkpoint.generates else checkpoint.longest_input),
            kv_memory_mb=config.kv_memory_mb,
            threads=threads,
            cuda_graphs=config.cuda_graphs,
            quantization=config.quantization,
            adapters={adapter.name: str(adapter.path.resolve()) for adapter in config.adapters},
        )
        self.adapters = tuple(load.adapters)
        devices = config.devices_of_engines
        meters = [Meter(metrics, config.name, number) for number in range(len(devices))]
        loads = [replace(load, device=device, replica=number) for number, device in enumerate(devices)]
        self.engine = Replicas(loads, refused, meters)
        self._refused = refused
        self.places = Places(limits, meters[0].refused)

    def start(self) -> None:
        """Load tokenizer and model, each beside the event loop; requests that come meanwhile wait."""
        for setting, neutral in _UNAPPLIED.items():
            if self._defaults.get(setting) not in (None, neutral):
                log.warning("generation_config.json asks for what is not done", model=self.name, setting=setting)
        self.engine.start()
        self._codec = asyncio.ensure_future(self._in_thread(self._loaded_codec))
        self._codec.add_done_callback(self._codec_loaded)

    def _loaded_codec(self) -> Conversation:
        codec = TextCodec(self.checkpoint.path, lowercase=self.checkpoint.sentence.lowercase)
        return Conversation(codec, self._config.tool_parser, self._config.reasoning_parser)

    def _codec_loaded(self, loading: asyncio.Future[Conversation]) -> None:
        if not loading.cancelled() and (error := loading.exception()) is not None:
            path = self.checkpoint.path
            self._refused(Refusal("BP654", f"{path}: its tokenizer cannot be loaded: {error}.", "copy it again."))

    async def stop(self) -> None:
        await self.engine.stop()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def abort(self) -> None:
        """Fail everything that still runs or waits: the service is going down."""
        self.engine.retire(shutting_down())

    async def chat(self, request: ChatRequest) -> tuple[Generation, list[Reader]]:
        """Take the request on: its answers and who reads each. ApiError 429 with a full queue, 400 if it does not fit
        the model, 503.
        """

        def prepare(conversation: Conversation, _facts: Ready) -> list[Prepared]:
            return [conversation.prepare(request)]

        generation, (prepared,) = await self._generate(request, 1, request.n, prepare, "messages")
        return generation, [prepared.reader() for _ in range(request.n)]

    async def complete(self, request: CompletionRequest) -> tuple[Generation, list[Echo]]:
        """Take the request on: its answers, and what those to each prompt begin with. Errors as of `chat`."""
        echoes: list[Echo] = []

        def prepare(conversation: Conversation, facts: Ready) -> list[Prepared]:
            codec, prepared = conversation.codec, []
            for prompt in request.prompt:
                special = request.add_special_tokens
                tokens = codec.tokens(prompt, special=special) if isinstance(prompt, str) else prompt
                check_tokens(tokens, facts, "prompt")
                prepared.append(Prepared(tokens))
                echoes.append(codec.echo(prompt, tokens) if request.echo else Echo())
            return prepared

        generation, _ = await self._generate(request, len(request.prompt), request.candidates, prepare, "prompt")
        return generation, echoes

    async def _generate(
        self,
        request: ChatRequest | CompletionRequest,
        prompts: int,
        choices: int,
        prepare: Callable[[Conversation, Ready], list[Prepared]],
        param: str,
    ) -> tuple[Generation, list[Prepared]]:
        """`choices` answers to each of `prompts` prompts, which `prepare` makes in a thread."""
        places = prompts * choices
        self._take_places(places)
        tokens = 0
        try:
            conversation = await self._text()
            facts = await self.engine.ready(self._limits.start_wait_seconds)
            prepared: list[Prepared] = await self._in_thread(prepare, conversation, facts)
            for one in prepared:
                check_tokens(one.tokens, facts, param)
            sampling = request.sampling(self._defaults, facts.vocabulary, prepared[0].grammar)
            limited = [(one.tokens, self._token_limit(request, len(one.tokens), facts, param)) for one in prepared]
            shown = prepared[0].needs_special
            wanted = choices * sum(len(prompt) + limit for prompt, limit in limited)
            self.places.take_tokens(wanted, facts.kv_tokens)
            tokens = wanted

            def release() -> None:
                self.places.leave(places, tokens)

            def text() -> TextStream:
                return TextStream(
                    conversation.codec.tokenizer,
                    request.stop,
                    keep_stop=request.include_stop_str_in_output,
                    skip_special=request.skip_special_tokens and not shown,
                    minimum=request.min_tokens,
                )

            adapter = request.model if request.model in self.adapters else None
            return Generation(self.engine, limited, sampling, choices, adapter, text, release), prepared
        except BaseException:
            self.places.leave(places, tokens)
            raise

    async def encode(self, prepare: Callable[[TextCodec, Ready], Inputs]) -> tuple[Vectors, int]:
        """One vector (or score) per input, and the number of tokens read. `prepare` runs in a thread."""
        self._take_places(1)
        tokens = 0
        try:
            facts = await self.engine.ready(self._limits.start_wait_seconds)
            inputs: Inputs = await self._in_thread(prepare, (await self._text()).codec, facts)
            self.places.take_tokens(inputs.count, facts.slots * facts.context_length)
            tokens = inputs.count
            vectors = await result_of(self.engine.cancel, self.engine.embed, inputs.tokens, inputs.boundaries)
            return vectors, inputs.count
        finally:
            self.places.leave(1, tokens)

    async def text_work(self, work: Callable[[Conversation, Ready], dict[str, Any]]) -> dict[str, Any]:
        """What `work`, run in a thread, makes of the tokenizer, the chat template and the model's facts."""
        facts = await self.engine.ready(self._limits.start_wait_seconds)
        answer: dict[str, Any] = await self._in_thread(work, await self._text(), facts)
        return answer

    async def first_token(self) -> None:
        """Return once every engine has generated one."""
        while (problem := await self.engine.first_tokens(_FIRST_TOKEN_PATIENCE)) is not None:
            log.error("no first token", model=self.name, problem=problem)
            await asyncio.sleep(1)

    async def prove(self, max_age: float, patience: float = _PROOF_PATIENCE) -> str | None:
        """Why the model is not ready; None if an engine has made a token (or vector) within `max_age` s, or does now."""
        return await self.engine.prove(max_age, patience)

    async def _text(self) -> Conversation:
        assert self._codec is not None, "start() comes first"
        return await asyncio.shield(self._codec)

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work, *arguments)

    def _take_places(self, count: int) -> None:
        self.places.take(count, self.engine.info.slots if self.engine.info else 1)

    def _token_limit(self, request: ChatRequest | CompletionRequest, prompt: int, facts: Ready, param: str) -> int:
        room = facts.context_length - prompt
        if request.token_limit is None:
            limit = min(request.usual_limit or self._limits.max_tokens_default, room)
            if request.min_tokens > limit:
                found = f"Invalid value for 'min_tokens': an answer has at most {limit} tokens here, unless max_tokens says more."
                raise bad_request(found, "min_tokens")
            return limit
        if request.token_limit > room:
            raise context_length_exceeded(facts.context_length, prompt, request.token_limit, param)
        return request.token_limit


def _given(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value
