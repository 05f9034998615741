"""What a model directory says about itself, read without loading the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

from . import sentence
from .config import Task
from .errors import Refusal
from .sentence import Sentence

log = structlog.get_logger(__name__)

# What sampling takes of a model's own settings.
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_p": (1e-9, 1),
    "top_k": (-1, 2**31),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 10),
}
Duty = Literal["chat", "completion", "embedding", "both", "rerank"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model directory that passed the checks. `task` is settled: what the model is served for.

    `generation` is generation_config.json, `longest_input` what the tokenizer's author allows (tokens), if
    that; `sentence` is how a text becomes one vector, `config` config.json.
    """

    path: Path
    task: Duty
    config: dict[str, Any]
    generation: dict[str, Any]
    sentence: Sentence
    longest_input: int | None
    created: int

    @property
    def chats(self) -> bool:
        return self.task in ("chat", "both")

    @property
    def generates(self) -> bool:
        """Chats, or (a base model without a chat template) continues texts."""
        return self.chats or self.task == "completion"

    @property
    def embeds(self) -> bool:
        return self.task in ("embedding", "both")

    @property
    def scores(self) -> bool:
        """A cross-encoder: reads a query and a document together and says how well they match."""
        return self.task == "rerank"


def read(path: Path, task: Task) -> Checkpoint:
    """Check `path` and settle its task. Raises Refusal BP654 (unusable directory) or BP655 (wrong task)."""
    if not path.is_dir():
        raise _unusable(path, "is not a directory", "download the model or correct models[].path")
    config = _json(path, "config.json", needed=True)
    if not any(path.glob("*.safetensors")):
        raise _unusable(path, "has no *.safetensors file", "use a revision published as safetensors (no pickles)")
    if not (path / "tokenizer.json").is_file():
        raise _unusable(
            path,
            "has no tokenizer.json",
            "convert it: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
        )
    words = sentence.read(path, config)
    return Checkpoint(
        path=path.resolve(),
        task=_settled(path, task, config),
        config=config,
        generation=_settings(path),
        sentence=words,
        longest_input=min((limit for limit in (words.longest_input, _longest_input(path)) if limit), default=None),
        created=int((path / "config.json").stat().st_mtime),
    )


def _settings(path: Path) -> dict[str, Any]:
    """generation_config.json, without what no request could ask for: an answer would fail at it."""
    settings = _json(path, "generation_config.json", needed=False)
    for name, (low, high) in _RANGES.items():
        value = settings.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and low <= value <= high):
            log.warning("left out of generation_config.json", path=str(path), setting=name, value=str(value)[:100])
            del settings[name]
    if settings.get("top_k") is not None:
        settings["top_k"] = int(settings["top_k"])
    return settings


def _settled(path: Path, task: Task, config: dict[str, Any]) -> Duty:
    architectures = config.get("architectures") or []
    if any(name.endswith("ForSequenceClassification") for name in architectures) and task in ("auto", "rerank"):
        labels = len(config.get("id2label") or {0: "", 1: ""})
        if labels != 1 or config.get("pad_token_id") is None:
            found = f"{labels} labels, pad_token_id {config.get('pad_token_id')}"
            raise Refusal(
                "BP655",
                f"{path}: a classifier with {found}; a reranker has one label and a pad token.",
                "set task: embedding.",
            )
        return "rerank"
    generates = any(name.endswith("ForCausalLM") for name in architectures)
    template = (path / "chat_template.jinja").is_file() or bool(
        _json(path, "tokenizer_config.json", needed=False).get("chat_template")
    )
    if task == "rerank":
        raise Refusal(
            "BP655", f"{path}: task is rerank but its architecture is {architectures}.", "set task: embedding."
        )
    if task == "auto":
        if not generates or (not template and (path / "modules.json").is_file()):
            return "embedding"
        return "both" if template else "completion"
    if task != "embedding" and not (generates and (template or task == "completion")):
        found = "it has no chat template" if generates else f"its architecture is {architectures}"
        other = "completion" if generates else "embedding"
        raise Refusal(
            "BP655",
            f"{path}: task is {task} but {found}.",
            f"set task: {other}, or use a chat model (…ForCausalLM).",
        )
    return task


def _longest_input(path: Path) -> int | None:
    """Transformers writes 10^30 where there is no limit."""
    limit = _json(path, "tokenizer_config.json", needed=False).get("model_max_length")
    return int(limit) if isinstance(limit, int | float) and 0 < limit < 10**9 else None


def _json(path: Path, name: str, *, needed: bool) -> dict[str, Any]:
    file = path / name
    if not needed and not file.is_file():
        return {}
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable(path, f"has no readable {name} ({error})", "copy the model again") from None
    return content if isinstance(content, dict) else {}


def _unusable(path: Path, found: str, fix: str) -> Refusal:
    return Refusal("BP654", f"{path}: {found}.", f"{fix}.")
