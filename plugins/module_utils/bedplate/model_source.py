"""Where a model comes from, what it is called on the server, and whether it may go there.

Runs on the controller for directories and on the server for a hub. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from .manifest import Manifest, tree_manifest
from .model_code import brought_code, code_problems
from .model_facts import facts_of_directory
from .model_reference import FORMS, reference_of
from .refusal import refusal

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SERVICE_KEYS = (
    "task",
    "dtype",
    "quantization",
    "device",
    "devices",
    "replicas",
    "cuda_graphs",
    "max_batch",
    "context_length",
    "kv_memory_mb",
    "tool_parser",
    "reasoning_parser",
    "pooling",
    "normalize",
)
_KEYS = {"name", "source", "adapters", "ignore_remote_code", *SERVICE_KEYS}
_ADAPTER_KEYS = {"name", "source", "adapter_of"}
# Formats that run code when they are loaded.
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
# What the service reads. A hub's other files (other formats, images, examples) stay where they are.
WANTED = (".safetensors", ".json", ".jinja", ".txt", ".model", ".md", ".tiktoken")
WANTED_NAMES = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY")
ARCHITECTURE = re.compile(r"[A-Z]\w*")


def directory_name(repo: str, revision: str) -> str:
    """Folder of a model on the server: `org--name@rev12`."""
    return f"{repo.replace('/', '--')}@{revision[:12]}"


def plan(
    models: Sequence[Mapping[str, Any]],
    known: MutableMapping[str, str] | None = None,
    locks: Mapping[str, Mapping[str, Any]] | None = None,
    origins: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Each model of the inventory with its source read: adds `kind`, `repo`, `revision`, `directory`, `manifest`, `facts`, `copy_from`, `problems`.

    locks: the entries of models.lock; without one a source that needs it has neither directory nor manifest. origins: folders on
    the controller that may hold the model by its directory; `copy_from` is the folder to copy from, if there is one.
    A model's adapters follow it as entries of their own, with `adapter_of`.
    """
    wanted = [one for model in models for one in (model, *_adapters(model))]
    planned = [{"task": "auto", **model, **_source(model, known, locks or {}, origins)} for model in wanted]
    names = [model.get("name") for model in wanted]
    for model in planned:
        model["problems"] += _misplaced(model)
        if names.count(model.get("name")) > 1:
            model["problems"].append(_wrong(model, "two models of that name", "one", "rename one of them"))
    return planned


def located(
    planned: Iterable[Mapping[str, Any]],
    whole: Sequence[str],
    links: Mapping[str, str],
    published: Mapping[str, Mapping[str, str]],
) -> list[dict[str, Any]]:
    """What the server has of each planned model: adds `whole` and `settled` (whole and linked).

    whole: folders that are published and untouched. links: folder by model name. published: what each folder's manifest says of
    itself, `requested` (the source it was locked as) and `revision`. A folder that came by the same source stands in for a lock.
    """
    sources = {about.get("requested"): folder for folder, about in published.items() if folder in whole}
    found = []
    for model in planned:
        directory = model["directory"] or sources.get(model["source"], "")
        revision = (model["manifest"] or {}).get("revision")
        is_whole = directory in whole and revision in (None, published.get(directory, {}).get("revision"))
        settled = is_whole and links.get(model["name"]) == directory
        found.append({**model, "directory": directory, "whole": is_whole, "settled": settled})
    return found


def unlocked(models: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Name and source of the models that a lock is needed for and nothing stands in for it, each source once."""
    needed = {
        model["source"]: {"name": model["name"], "source": model["source"]}
        for model in models
        if model["kind"] not in (None, "directory") and not model["directory"] and not model["problems"]
    }
    return list(needed.values())


def receipt(models: Iterable[Mapping[str, Any]], folder: str) -> list[dict[str, Any]]:
    """What the receipt says of each model; `service` is handed to the inference service, with the model's adapters."""
    every = list(models)
    found = []
    for model in every:
        if model.get("adapter_of"):
            continue
        mine = [one for one in every if one.get("adapter_of") == model["name"]]
        adapters = [{"name": one["name"], "path": f"{folder}/{one['directory']}"} for one in mine]
        service = {key: model[key] for key in SERVICE_KEYS if key in model}
        found.append(
            {
                "name": model["name"],
                "source": model["repo"] if model["kind"] == "directory" else model["source"],
                "path": f"{folder}/{model['directory']}",
                "service": {**service, "adapters": adapters} if adapters else service,
            }
        )
    return found


def is_adapter(paths: Iterable[str]) -> bool:
    """Whether these files are a LoRA adapter, as PEFT writes it, rather than a model."""
    names = set(paths)
    return "adapter_config.json" in names and "config.json" not in names


def _adapters(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The adapters of an entry (name: source), as entries."""
    named = model.get("adapters") or {}
    return [{"name": name, "source": source, "adapter_of": model.get("name")} for name, source in named.items()]


def _misplaced(model: Mapping[str, Any]) -> list[str]:
    """A model that is named as an adapter, or the other way round."""
    files = [entry["path"] for entry in (model["manifest"] or {}).get("files") or []]
    if not files or is_adapter(files) is bool(model.get("adapter_of")):
        return []
    if model.get("adapter_of"):
        fix = "name the folder or repository that PEFT's save_pretrained wrote"
        return [_wrong(model, f"{model['source']} without adapter_config.json", "a LoRA adapter", fix)]
    fix = "name it in adapters of the model it was trained on"
    return [_wrong(model, f"{model['source']}, which is an adapter", "a model", fix)]


def _source(
    model: Mapping[str, Any],
    known: MutableMapping[str, str] | None,
    locks: Mapping[str, Mapping[str, Any]],
    origins: Sequence[str],
) -> dict[str, Any]:
    name, source = str(model.get("name", "")), str(model.get("source", ""))
    problems: list[str] = []
    if not _NAME.fullmatch(name):
        problems.append(_wrong(model, f"the name {name!r}", "letters, digits, '.', '_' and '-'", "correct the name"))
    known_keys = _ADAPTER_KEYS if "adapter_of" in model else _KEYS
    unknown = sorted(set(model) - known_keys)
    if unknown:
        problems.append(
            _wrong(model, f"the key {', '.join(unknown)}", f"one of {', '.join(sorted(known_keys))}", "correct the key")
        )
    read: dict[str, Any] = {
        "source": source,
        "kind": None,
        "repo": "",
        "revision": "",
        "directory": "",
        "manifest": None,
        "copy_from": "",
        "facts": None,
    }
    reference = reference_of(source)
    if reference is None or (reference.kind == "directory" and not Path(source).is_dir()):
        found = f"the source {source!r}" + (", which is no folder here" if reference else "")
        return {**read, "problems": [*problems, _wrong(model, found, FORMS, "correct the source")]}
    if reference.kind == "directory":
        found_there, wrong = _directory(name, source, known, model.get("ignore_remote_code"))
        return {**read, **found_there, "problems": [*problems, *wrong]}
    read |= {"kind": reference.kind, "repo": reference.repo, "revision": reference.revision}
    entry = locks.get(source)
    if entry:
        manifest = {**entry, "source": reference.kind, "requested": source}
        code, commit = entry.get("remote_code") or {}, str(entry.get("commit") or entry["revision"])
        problems += code_problems(name, code, commit, model.get("ignore_remote_code"))
        copies = [Path(origin) / entry["directory"] for origin in origins if origin.startswith("/")]
        copy = next((str(folder) for folder in copies if folder.is_dir()), "")
        read |= {
            "directory": entry["directory"],
            "manifest": manifest,
            "copy_from": copy,
            "facts": entry.get("facts") or None,
        }
    return {**read, "problems": problems}


def _directory(
    name: str, source: str, known: MutableMapping[str, str] | None, opted: object
) -> tuple[dict[str, Any], list[str]]:
    """A folder on the controller, which is named by its content, and what is wrong with it."""
    manifest, repo = tree_manifest(source, known), f"bedplate/{name}"
    texts = {
        entry["path"]: _small_text(Path(source) / entry["path"])
        for entry in manifest["files"]
        if entry["path"].endswith(".json")
    }
    problems = [*model_problems(name, source, manifest["files"], texts), *_cut_files(name, source, manifest)]
    if not is_adapter(texts):
        problems += code_problems(name, brought_code(texts), manifest["revision"], opted)
    read = {
        "kind": "directory",
        "repo": repo,
        "revision": manifest["revision"],
        "directory": directory_name(repo, manifest["revision"]),
        "manifest": {"repo": repo, "source": "directory", **manifest},
        "facts": None if problems or is_adapter(texts) else facts_of_directory(source),
        "copy_from": source,
    }
    return read, problems


def _wrong(model: Mapping[str, Any], found: str, wanted: str, fix: str) -> str:
    return str(refusal("BP501", f"model_list entry {model.get('name')}", found, wanted, f"{fix} in model_list."))


def _small_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.stat().st_size < 1 << 22 else ""


def model_problems(name: str, source: str, files: Iterable[Mapping[str, Any]], texts: Mapping[str, str]) -> list[str]:
    """Refusals for a model by its file list and the text of its small JSON files."""
    paths = [entry["path"] for entry in files]
    problems = []
    pickles = [path for path in paths if path.endswith(PICKLES)]
    weights = [path for path in paths if path.endswith(".safetensors")]
    if pickles:
        fix = f"use safetensors: remove {', '.join(pickles[:3])} from {source}, or convert it with save_pretrained()."
        problems.append(
            refusal(
                "BP502", f"model {name} has pickle weights", pickles[0], "safetensors only (a pickle runs code)", fix
            )
        )
    if not weights and not pickles:
        fix = "use a revision that is published as safetensors."
        problems.append(
            refusal("BP502", f"model {name} has no weights", f"no .safetensors in {source}", "safetensors", fix)
        )
    if is_adapter(paths):
        return [*problems, *_adapter_problems(name, source, paths, texts["adapter_config.json"])]
    if "config.json" not in paths:
        fix = "name the folder that holds config.json."
        return [
            *problems,
            refusal("BP503", f"model {name} has no config.json", f"none in {source}", "a Transformers model", fix),
        ]
    return [*problems, *_config_problems(name, texts.get("config.json", "")), *_index_problems(name, paths, texts)]


def _adapter_problems(name: str, source: str, paths: list[str], text: str) -> list[str]:
    """What the service would not take (engine/adapters.py) and a file list tells."""
    try:
        kind = json.loads(text).get("peft_type")
    except (ValueError, AttributeError) as error:
        kind = f"unreadable: {error}"
    found = f"peft_type {kind}" if kind != "LORA" else "no adapter_model.safetensors"
    if kind == "LORA" and "adapter_model.safetensors" in paths:
        return []
    fix = f"save it again with PEFT's save_pretrained(), or merge it into the model: {source}."
    wanted = "LORA, with adapter_model.safetensors"
    return [refusal("BP503", f"adapter {name} cannot be served", found, wanted, fix)]


def _config_problems(name: str, text: str) -> list[str]:
    try:
        config = json.loads(text)
    except ValueError as error:
        return [
            refusal("BP503", f"model {name}: config.json is not readable", str(error), "JSON", "copy the model again.")
        ]
    architectures, kind = config.get("architectures"), config.get("model_type")
    if not (
        isinstance(architectures, list)
        and architectures
        and all(ARCHITECTURE.fullmatch(str(one)) for one in architectures)
        and kind
    ):
        found = f"architectures={architectures!r}, model_type={kind!r}"
        fix = "correct config.json; a model saved with save_pretrained() has both."
        return [refusal("BP504", f"model {name}: architecture unknown", found, "both named in config.json", fix)]
    return []


def _index_problems(name: str, paths: list[str], texts: Mapping[str, str]) -> list[str]:
    """Shards an index names but the source lacks."""
    problems = []
    for path in (path for path in paths if path.endswith(".safetensors.index.json")):
        try:
            shards = set(json.loads(texts.get(path, ""))["weight_map"].values())
        except (ValueError, KeyError, AttributeError):
            shards = {"(an unreadable index)"}
        missing = sorted(shards - set(paths))
        if missing:
            fix = "finish the download of the source."
            problems.append(
                refusal("BP505", f"model {name} is incomplete", f"no {missing[0]}", f"every shard of {path}", fix)
            )
    return problems


def _cut_files(name: str, source: str, manifest: Manifest) -> list[str]:
    """Weights that are shorter than their own header says: a download that was cut."""
    problems = []
    for entry in manifest["files"]:
        wanted = (
            safetensors_bytes(Path(source) / entry["path"]) if entry["path"].endswith(".safetensors") else entry["size"]
        )
        if wanted != entry["size"]:
            found = f"{entry['path']} with {entry['size']} bytes"
            fix = "finish the download of the source."
            problems.append(
                refusal("BP505", f"model {name} is incomplete", found, f"{wanted} bytes by its own header", fix)
            )
    return problems


def safetensors_bytes(path: Path) -> int:
    """Size a safetensors file should have by its header, -1 when the header cannot be read."""
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        ends = [tensor["data_offsets"][1] for key, tensor in header.items() if key != "__metadata__"]
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError, OverflowError, MemoryError):
        return -1
    return int(8 + length + max(ends, default=0))


def wanted_files(paths: Iterable[str]) -> list[str]:
    """Those of a hub's files that the service reads. Pickles are left out where safetensors stand beside them."""
    every = list(paths)
    chosen = [path for path in every if path.endswith(WANTED) or path.rpartition("/")[2].startswith(WANTED_NAMES)]
    # Without safetensors the pickles stay in the list, so that the refusal can name them.
    return (
        chosen
        if any(path.endswith(".safetensors") for path in chosen)
        else [*chosen, *(path for path in every if path.endswith(PICKLES))]
    )
