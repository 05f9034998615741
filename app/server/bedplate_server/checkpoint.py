"""What a model directory says about itself, read without loading the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .config import Task
from .errors import Refusal

Duty = Literal["chat", "embedding", "both"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model directory that passed the checks. `task` is settled: what the model is served for.

    `generation` is generation_config.json, `longest_input` what the tokenizer's author allows (tokens), if
    that.
    """

    path: Path
    task: Duty
    generation: dict[str, Any]
    longest_input: int | None
    created: int

    @property
    def chats(self) -> bool:
        return self.task != "embedding"

    @property
    def embeds(self) -> bool:
        return self.task != "chat"


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
    return Checkpoint(
        path=path.resolve(),
        task=_settled(path, task, config),
        generation=_json(path, "generation_config.json", needed=False),
        longest_input=_longest_input(path),
        created=int((path / "config.json").stat().st_mtime),
    )


def _settled(path: Path, task: Task, config: dict[str, Any]) -> Duty:
    generates = any(name.endswith("ForCausalLM") for name in config.get("architectures") or [])
    template = (path / "chat_template.jinja").is_file() or bool(
        _json(path, "tokenizer_config.json", needed=False).get("chat_template")
    )
    if task == "auto":
        return "both" if generates and template else "embedding"
    if task != "embedding" and not (generates and template):
        found = "it has no chat template" if generates else f"its architecture is {config.get('architectures')}"
        raise Refusal(
            "BP655",
            f"{path}: task is {task} but {found}.",
            "set task: embedding or use a chat model (…ForCausalLM).",
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
