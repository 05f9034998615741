"""What front and engine say to each other: pickled messages, each behind a 4-byte length, over a private
socket pair.

The engine learns of sequences and jobs, never of HTTP. Both ends are one program of one version, hence
pickle.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
import time
from dataclasses import dataclass, field
from typing import BinaryIO

_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Load:
    """First message to an engine: the model it serves until it ends. Null sizes are planned from memory."""

    name: str
    path: str
    generates: bool
    dtype: str
    device: str
    max_batch: int
    context_length: int | None
    kv_memory_mb: int | None
    threads: int
    scores: bool = False
    pooling: str = "mean"
    normalize: bool = True
    cuda_graphs: bool = True
    quantization: str | None = None
    adapters: dict[str, str] = field(default_factory=dict)  # name, directory
    replica: int = 0  # which of the model's engines it is


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one sequence picks its tokens. Temperature 0 is greedy; the other defaults change nothing.

    logprobs: how many alternatives to report beside each token's own log probability; None reports none.
    prompt_logprobs: the same for the tokens of the prompt.
    grammar: what the whole answer must match, in the form engine/grammar.py compiles.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: str | None = None
    seed: str | None = None


@dataclass(frozen=True, slots=True)
class Generate:
    """Continue `prompt` by at most `max_tokens`; the front has checked that both fit the context.

    adapter: the LoRA adapter to read it with, one of `Load.adapters`.
    """

    id: int
    prompt: list[int]
    max_tokens: int
    sampling: Sampling
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Embed:
    """One vector per input. `boundaries`: where the second text of a pair begins in each input."""

    id: int
    inputs: list[list[int]]
    boundaries: list[int] | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    id: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine's first answer: what the loaded model can take. Sizes in tokens, memory in bytes."""

    generates: bool
    context_length: int
    vocabulary: int
    slots: int
    kv_bytes: int
    kv_tokens: int
    weight_bytes: int
    device: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The model cannot be served; the engine ends after saying so."""

    code: str
    what: str
    fix: str


# A token's log probability, and the likeliest alternatives with theirs, best first.
Logprobs = tuple[float, list[tuple[int, float]]]


@dataclass(slots=True)
class Stats:
    """The engine's state after a step, and its counts since the start. In tokens, but for the sequences."""

    kv_tokens: int
    kv_used: int = 0
    running: int = 0
    waiting: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0


@dataclass(slots=True)
class Step:
    """What one pass of the engine brought; an empty one is a sign of life from a long prefill.

    ended: when the pass was over, in monotonic seconds, which are the same for all processes of a machine.
    pressing: whose answers begin or end with it; what only goes on with one may come with the passes after it.
    """

    # Sequence, token, finish reason, and the log probabilities if they were asked for.
    tokens: list[tuple[int, int, str | None, Logprobs | None]] = field(default_factory=list)
    vectors: list[tuple[int, int, bytes]] = field(default_factory=list)  # job, dimensions, float32 rows
    failures: list[tuple[int, str]] = field(default_factory=list)  # sequence or job, cause
    admitted: list[tuple[int, int]] = field(default_factory=list)  # sequence, tokens of its prompt that were stored
    # Sequence, and the log probabilities of the next tokens of its prompt, from the second one on.
    prompts: list[tuple[int, list[Logprobs]]] = field(default_factory=list)
    stats: Stats | None = None
    # Sequences whose grammar cannot be followed, and why: no fault of the engine's.
    unfit: list[tuple[int, str]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    ended: float = field(default_factory=time.monotonic)
    pressing: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Steps:
    """Steps on their way together. `shown`: whose tokens, by now, their clients are to see; None: everybody's."""

    steps: list[Step]
    shown: set[int] | None = None


ToEngine = Load | Generate | Embed | Cancel
FromEngine = Ready | Refused | Steps


def frame(message: ToEngine | FromEngine) -> bytes:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


async def read_frame(reader: asyncio.StreamReader) -> FromEngine:
    """The engine's next message; raises IncompleteReadError when the engine has gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    message: FromEngine = pickle.loads(await reader.readexactly(length))
    return message


def read_frame_blocking(stream: BinaryIO) -> ToEngine:
    """The front's next message; raises EOFError when the front has gone."""
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(header)
    message: ToEngine = pickle.loads(stream.read(length))
    return message
