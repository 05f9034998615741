"""The service's configuration: one YAML file, validated before anything is opened or loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import Refusal
from .sentence import Pooling

# How the model writes tool calls: a dialect, none, or (template) as its own response_template says.
ToolParser = Literal["hermes", "llama3", "mistral", "mistral_named", "template", "none"]
Task = Literal["auto", "chat", "completion", "embedding", "both", "rerank"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Listen(_Section):
    """Where to listen: a socket from systemd (`fd: 3`), TCP (`host`, `port`) or a Unix socket (`uds`)."""

    fd: Annotated[int, Field(ge=3)] | None = None
    host: str | None = None
    port: Annotated[int, Field(ge=0, le=65535)] | None = None
    uds: Path | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        tcp = self.host is not None or self.port is not None
        if (self.fd is not None) + tcp + (self.uds is not None) != 1:
            raise ValueError("give exactly one of fd, host with port, or uds")
        if tcp and (self.host is None or self.port is None):
            raise ValueError("host and port belong together")
        # The system would take what is before it.
        if "\0" in str(self.uds):
            raise ValueError("uds has a NUL in it")
        return self


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._/@:-]*$"


class AdapterConfig(_Section):
    """A LoRA adapter in PEFT's form, served under a name of its own."""

    name: Annotated[str, Field(pattern=_NAME, max_length=200)]
    path: Path


class ModelConfig(_Section):
    """One served model. At most `max_batch` sequences run at once in each engine; null sizes are planned from memory.

    `replicas` engines on one GPU each (all on the CPU where there is none), or one on each of `devices`.

    Null parsers, `pooling` and `normalize` are taken from the model's own files.
    """

    name: Annotated[str, Field(pattern=_NAME, max_length=200)]
    path: Path
    adapters: list[AdapterConfig] = []
    task: Task = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["int8", "nf4"] | None = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    devices: Annotated[list[Annotated[str, Field(pattern=r"^(cpu|cuda:\d+)$")]], Field(min_length=1)] | None = None
    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    cuda_graphs: bool = True
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 32
    context_length: Annotated[int, Field(ge=16)] | None = None
    kv_memory_mb: Annotated[int, Field(ge=1)] | None = None
    tool_parser: ToolParser | None = None
    reasoning_parser: Literal["think", "none"] | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None

    @property
    def devices_of_engines(self) -> list[str]:
        """One per engine; `auto:N` is settled by the engine, which sees the GPUs."""
        if self.devices is not None:
            return self.devices
        if self.replicas == 1 or self.device == "cpu":
            return [self.device] * self.replicas
        return [f"{self.device}:{number}" for number in range(self.replicas)]

    @model_validator(mode="after")
    def _devices_agree(self) -> Self:
        if self.devices is not None and (self.device != "auto" or self.replicas not in (1, len(self.devices))):
            raise ValueError("devices names one per engine; leave device and replicas out")
        if self.replicas > 1 and ":" in self.device:
            raise ValueError(f"device {self.device} is one GPU; name one per replica in devices")
        return self


class Limits(_Section):
    """Bounds on what clients can ask of the service; times in seconds."""

    max_queue: Annotated[int, Field(ge=0)] = 256
    max_queue_tokens: Annotated[int, Field(ge=0)] | None = None
    key_requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    key_concurrency: Annotated[int, Field(ge=1)] | None = None
    max_body_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    max_tokens_default: Annotated[int, Field(ge=1)] = 512
    drain_seconds: Annotated[float, Field(ge=0)] = 120.0
    start_wait_seconds: Annotated[float, Field(ge=0)] = 600.0
    keepalive_seconds: Annotated[float, Field(gt=0)] = 15.0
    ready_age_seconds: Annotated[float, Field(gt=0)] = 10.0
    stuck_seconds: Annotated[float, Field(gt=0)] = 120.0


class Config(_Section):
    listen: Listen = Listen(host="127.0.0.1", port=8000)
    models: Annotated[list[ModelConfig], Field(min_length=1)]
    keys_file: Path | None = None
    traces_endpoint: Annotated[str, Field(pattern=r"^https?://[^/\s]+(/\S*)?$")] | None = None
    limits: Limits = Limits()
    threads: Annotated[int, Field(ge=1)] | None = None

    @property
    def threads_per_engine(self) -> int:
        """As configured, else OMP_NUM_THREADS, else the processors divided among the engines, one left to the front."""
        if self.threads is not None:
            return self.threads
        if (asked := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
            return max(1, int(asked))
        engines = sum(len(model.devices_of_engines) for model in self.models)
        return max(1, (len(os.sched_getaffinity(0)) - 1) // engines)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [model.name for model in self.models]
        names += [adapter.name for model in self.models for adapter in model.adapters]
        if len(set(names)) != len(names):
            raise ValueError("two models or adapters have the same name")
        return self


def load(path: Path | None, overrides: dict[str, Any] | None = None, device: str | None = None) -> Config:
    """Read `path` (none: defaults), lay `overrides` over it key by key and `device` over every model,
    validate.

    Raises Refusal BP650 for a file that is not readable YAML, BP651 for values that are not acceptable.
    """
    source = str(path) if path else "command line"
    settings = {} if path is None else _read_settings(path)
    settings.update(overrides or {})
    if device is not None and isinstance(settings.get("models"), list):
        one = {"device": device, "devices": None}
        settings["models"] = [{**model, **one} if isinstance(model, dict) else model for model in settings["models"]]
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(_problem(problem) for problem in error.errors()[:5])
        raise Refusal("BP651", f"{source}: {problems}.", "correct the named settings.") from None


class _Loader(yaml.SafeLoader):
    """Takes no mapping that has a key twice, where YAML's loaders drop one of both without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return node


def read_yaml(path: Path) -> Any:
    """What the file holds. Raises ValueError, with the reason in one line, for whatever is wrong with it."""
    try:
        with path.open(encoding="utf-8") as file:
            return yaml.load(file, _Loader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:
        # Constructors of YAML's own types raise what they like: ValueError for the 30th of February.
        raise ValueError(" ".join(str(error).split())) from None


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = read_yaml(path)
    except ValueError as error:
        raise Refusal(
            "BP650", f"{path}: cannot be read as YAML: {error}.", "name a readable file with --config."
        ) from None
    if not isinstance(settings, dict):
        raise Refusal(
            "BP650", f"{path}: found {type(settings).__name__}, wanted a mapping.", "start it with `models:`."
        )
    return settings


def _problem(problem: Any) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("missing", "extra_forbidden") or isinstance(problem["input"], dict):
        return f"{where or 'settings'}: {message}"
    return f"{where or 'settings'}: found {problem['input']!r}: {message}"
