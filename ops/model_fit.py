"""`./bedplate model fit`: whether a model fits a GPU or a host, from its config and the headers of its weights alone."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.sources import upstream
from plugins.module_utils.bedplate.model_facts import facts_of, facts_of_directory
from plugins.module_utils.bedplate.model_listing import SourceError, listing_of
from plugins.module_utils.bedplate.model_memory import GIB, Device, Fit, Wish, fit
from plugins.module_utils.bedplate.model_reference import reference_of
from plugins.module_utils.bedplate.model_refusals import service_problems
from plugins.module_utils.bedplate.model_shape import parameters
from plugins.module_utils.bedplate.model_words import advice, arithmetic, as_data, gib
from plugins.module_utils.bedplate.refusal import refusal
from plugins.module_utils.bedplate.web import WebError
from plugins.module_utils.stack import load_tables
from plugins.module_utils.stack.gpus import gpu_named, nearest_names

FITS, DOES_NOT, UNREADABLE = 0, 1, 2
_MIG = re.compile(r"\bMIG\s+\S*?(\d+)gb", re.IGNORECASE)


class Unanswerable(Exception):
    """A question that cannot be answered; the message is the whole refusal."""


@dataclass(frozen=True)
class Question:
    """What is asked: a model, where it is to run (a GPU's name, or GiB of a host's memory), and how."""

    reference: str
    gpu: str | None
    memory_gib: float | None
    wish: Wish


def model_fit(question: Question, as_json: bool) -> int:
    """Answer on standard output. Returns 0: it fits as wished; 1: it does not; 2: the question cannot be answered."""
    try:
        facts = facts_of_model(question.reference)
        device = device_of(question.gpu, question.memory_gib)
    except Unanswerable as error:
        print(error, file=sys.stderr)
        return UNREADABLE
    problems = service_problems(question.reference, facts, question.wish.task, question.wish.quantization)
    if problems or facts["shape"]["kv_elements"] is None:
        unknown = f"BP532 {question.reference}: config.json does not say how many heads its layers have. Fix: take another model."
        print("\n".join(problems or [unknown]), file=sys.stderr)
        return UNREADABLE
    answer = fit(facts["shape"], device, question.wish)
    instead = [] if answer.verdict == "fits" else advice(facts["shape"], answer, [] if device.cpu else gpus())
    if as_json:
        print(json.dumps({"model": question.reference, **as_data(facts["shape"], answer, instead)}, indent=2))
    else:
        print("\n".join(lines(question.reference, facts["shape"], answer, instead)))
    return FITS if answer.verdict == "fits" else DOES_NOT


def lines(reference: str, shape: dict[str, Any], answer: Fit, instead: list[str]) -> list[str]:
    """The answer for a person."""
    wish, device = answer.wish, answer.device
    kind = f"{answer.dtype}{f', linear layers {wish.quantization}' if wish.quantization else ''}"
    rows = [("weights", gib(answer.weights), f"{parameters(shape) / 1e6:,.1f} million parameters, {kind}")]
    rows.append(("runtime", gib(device.runtime), "PyTorch and its libraries before the first weight"))
    if answer.per_token:
        each = f"{answer.per_token / 1024:.0f} KiB per token"
        rounded = (
            ""
            if answer.kv_wanted == wish.concurrency * answer.context * answer.per_token
            else ", in blocks of powers of two"
        )
        rows.append(
            ("keys, values", gib(answer.kv_wanted), f"{wish.concurrency} x {answer.context} tokens, {each}{rounded}")
        )
    rows.append(("together", gib(answer.wanted), f"of {gib(device.bytes)}: {device.name}"))
    said = [reference, *(f"  {name:<13} {size:>9}  {why}" for name, size, why in rows)]
    if answer.per_token and answer.plan:
        share = "a quarter, at most 8 GiB," if device.cpu else "9/10 less 0.5 GiB, for what a pass needs,"
        left = f"{share} of the rest is {gib(answer.kv_budget)} for keys and values"
        said.append(f"  {left}: {answer.full_sequences} x {answer.context} tokens")
    if answer.verdict == "fits":
        return [*said, "fits"]
    served = "" if answer.plan is None else f" (it is served, with {answer.plan.tokens} tokens at once)"
    found = f"{arithmetic(answer)} on {device.name}"
    fix = f"{'; '.join(instead) or 'take a smaller model'}."
    title = f"{reference} does not fit as wished{served}"
    return [*said, refusal("BP530", title, found, f"at most {gib(device.bytes)}, with room for a pass", fix)]


def gpus() -> list[Device]:
    """The data centre's GPUs that the resolver knows, as devices."""
    known = (gpu for gpu in load_tables().gpus if gpu.kind == "datacenter" and gpu.usable_bytes)
    return [Device(gpu.names[0], gpu.usable_bytes or 0) for gpu in known]


def device_of(name: str | None, memory_gib: float | None) -> Device:
    """The GPU of that name, a MIG slice by the memory in its name; else a host with so much memory. Raises Unanswerable."""
    if (name is None) == (memory_gib is None):
        wanted = '--gpu "NVIDIA A10", or --memory 64 for a host without one'
        raise Unanswerable(
            refusal("BP535", "no device", "both or none of --gpu and --memory", wanted, "give one of them.")
        )
    if name is None:
        return Device(f"a CPU host with {memory_gib:g} GiB", int((memory_gib or 0) * GIB), cpu=True)
    tables = load_tables()
    gpu = gpu_named(tables, name)
    if gpu is None or gpu.usable_bytes is None:
        near = ", ".join(nearest_names(tables, name))
        raise Unanswerable(
            refusal("BP535", "unknown GPU", repr(name), "a name as nvidia-smi prints it", f"did you mean {near}?")
        )
    mig = _MIG.search(name)
    return Device(name, int(int(mig[1]) * GIB * 0.97) if mig else gpu.usable_bytes)


def facts_of_model(reference: str) -> dict[str, Any]:
    """Facts of a directory, or of a source as in model_list; hf://org/name means its main. Raises Unanswerable."""
    if (Path(reference) / "config.json").is_file():
        try:
            return facts_of_directory(reference)
        except (OSError, ValueError) as error:
            fix = "copy the model again."
            raise Unanswerable(refusal("BP535", f"{reference} cannot be read", str(error), "a model", fix)) from None
    named = reference if "@" in reference or "://" not in reference else f"{reference}@main"
    source = reference_of(named) if "://" in reference else None
    if source is None or source.kind not in ("hub", "modelscope", "list"):
        wanted = (
            "a model's directory, hf://org/name@revision, modelscope://org/name@revision or an address of checksums"
        )
        raise Unanswerable(refusal("BP535", "no model", repr(reference), wanted, "correct the reference."))
    endpoints = {"hub": os.environ.get("HF_ENDPOINT") or upstream("hugging_face"), "modelscope": upstream("modelscope")}
    try:
        listing = listing_of(source, endpoints, os.environ.get("HF_TOKEN", ""), tries=2)
        return facts_of(listing.files, lambda path, start, length: listing.read(path, start, length))
    except SourceError as error:
        raise Unanswerable(str(error)) from None
    except (WebError, OSError, ValueError) as error:
        fix = "check proxy and mirror (HF_ENDPOINT), then ask again."
        raise Unanswerable(refusal("BP535", f"{reference} cannot be read", str(error), "headers", fix)) from None
