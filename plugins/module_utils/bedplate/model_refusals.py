"""Why a model must not or cannot be served here, told before its first byte is fetched: pure functions over its facts and files.

Pickles, code of its own and files an index lacks are model_source's. Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .architectures import MODEL_TYPES, OWN_ATTENTION, TRANSFORMERS
from .model_memory import GIB, Device, Wish, fit, weight_bytes
from .model_shape import answers
from .model_words import advice, arithmetic
from .refusal import refusal

# The layer kinds whose memory is keys and values by position (app/server/bedplate_server/engine/attention.py).
LAYER_KINDS = ("chunked_attention", "full_attention", "sliding_attention")
# What loads checkpoints that were quantized elsewhere, and is not in the service's environment.
LIBRARIES = {
    "aqlm": "aqlm", "awq": "gptqmodel", "auto-round": "auto-round", "compressed-tensors": "compressed-tensors", "eetq": "eetq",
    "gptq": "gptqmodel", "higgs": "flute", "hqq": "hqq", "quanto": "optimum-quanto", "spqr": "spqr-quant", "torchao": "torchao",
    "vptq": "vptq",
}  # fmt: skip
_NO_PATH = re.compile(r"(^|/)\.\.?(/|$)|^/|\\|//|^$|[\x00-\x1f]")


def refusals(models: Sequence[Mapping[str, Any]], host: Mapping[str, Any]) -> list[str]:
    """Refusals for the models of one host, empty when all may be brought there.

    models: entries of model_list with `facts` (model_facts) and `manifest`, where they are known. host: `gpus`, bytes of
    memory of each GPU, and `memory`, of the machine; None where nobody looked. `cpu_bfloat16`: its CPU computes in it.
    """
    problems: list[str] = []
    for model in models:
        problems += path_problems(model["name"], (model.get("manifest") or {}).get("files") or [])
        if model.get("facts"):
            problems += service_problems(
                model["name"], model["facts"], str(model.get("task", "auto")), model.get("quantization")
            )
    # Whether something fits is no question for what cannot be served at all.
    return problems or fit_problems([model for model in models if model.get("facts")], host)


def path_problems(name: str, files: Iterable[Mapping[str, Any]]) -> list[str]:
    """Files that a manifest would put elsewhere than into the model's own folder, or names twice."""
    paths = [str(entry["path"]) for entry in files]
    wrong = sorted({path for path in paths if _NO_PATH.search(path) or paths.count(path) > 1})
    if not wrong:
        return []
    fix = "use another revision; whoever publishes such a list is not to be trusted."
    found = f"{wrong[0]!r} among {len(paths)} files"
    return [
        refusal("BP531", f"model {name} names a file outside its folder", found, "plain relative paths, each once", fix)
    ]


def service_problems(name: str, facts: Mapping[str, Any], task: str, quantization: str | None = None) -> list[str]:
    """Why the inference service would refuse the model when it starts, said now."""
    shape = facts["shape"]
    problems = [_wrong_task(name, facts, task), _wrong_attention(name, facts, task)]
    if shape["model_type"] and shape["model_type"] not in MODEL_TYPES:
        found = f"model_type {shape['model_type']}"
        fix = "choose a model that this version knows, or serve it with a newer release of Bedplate."
        problems.append(
            refusal("BP532", f"model {name} is unknown", found, f"one that Transformers {TRANSFORMERS} has", fix)
        )
    if not facts["tokenizer"]:
        fix = "convert it: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR), and use that folder."
        problems.append(refusal("BP533", f"model {name} has no fast tokenizer", "no tokenizer.json", "one", fix))
    library = LIBRARIES.get(str(shape["quantized"]))
    if library:
        found = f"weights quantized with {shape['quantized']}, which need {library}"
        fix = "use the model's plain checkpoint and set quantization: int8 or nf4."
        problems.append(
            refusal("BP534", f"model {name} cannot be loaded", found, "weights the service's environment loads", fix)
        )
    elif shape["quantized"] and quantization:
        fix = "leave quantization out for it."
        found = f"quantization: {quantization} for weights that are quantized already ({shape['quantized']})"
        problems.append(refusal("BP534", f"model {name} cannot be loaded", found, "one of the two", fix))
    return [problem for problem in problems if problem]


def _wrong_task(name: str, facts: Mapping[str, Any], task: str) -> str | None:
    """As bedplate_server/checkpoint.py settles a task."""
    architectures = facts["shape"]["architectures"]
    classifier = any(one.endswith("ForSequenceClassification") for one in architectures)
    found = f"architectures {architectures}"
    if task == "rerank" or (task == "auto" and classifier):
        if not classifier:
            return refusal(
                "BP532", f"model {name} does not rerank", found, "…ForSequenceClassification", "correct its task."
            )
        if facts["labels"] != 1:
            found += f" with {facts['labels']} labels"
            return refusal("BP532", f"model {name} does not rerank", found, "one label", "set task: embedding.")
    if task in ("chat", "both"):
        if not answers(facts["shape"], task):
            return refusal(
                "BP532",
                f"model {name} does not chat",
                found,
                "…ForCausalLM",
                "set task: embedding, or take a chat model.",
            )
        if not facts["template"]:
            fix = "take its instruct version, or set task: embedding."
            return refusal("BP532", f"model {name} does not chat", "no chat template", "chat_template.jinja", fix)
    return None


def _wrong_attention(name: str, facts: Mapping[str, Any], task: str) -> str | None:
    """As engine/runner.py finds out by loading it: whether sequences of this model can run in one batch."""
    if not answers(facts["shape"], task) or not (facts["template"] or task in ("chat", "both")):
        return None
    own = sorted(set(facts["shape"]["architectures"]) & OWN_ATTENTION)
    other = sorted(set(facts["layer_kinds"]) - set(LAYER_KINDS))
    shared = ["layers that share keys and values"] if facts["shared_layers"] else []
    if not own + other + shared:
        return None
    found = f"{', '.join([*own, *other, *shared])}, which the engine cannot batch"
    return refusal(
        "BP532", f"model {name} does not chat here", found, "plain attention in every layer", "choose another model."
    )


def fit_problems(models: Sequence[Mapping[str, Any]], host: Mapping[str, Any]) -> list[str]:
    """Models that the engine could not load and give one useful sequence to, what others take beside them reckoned in."""
    problems = []
    for device, held in _devices(models, host):
        for model in held:
            others = sum(_weights(other, device) + device.runtime for other in held if other is not model)
            answer = fit(model["facts"]["shape"], replace(device, others=others), _wish(model))
            if answer.verdict == "no":
                found = f"{arithmetic(answer)} on {device.name}"
                wanted = f"at most {device.bytes / GIB:.1f} GiB"
                fix = f"{'; '.join(advice(model['facts']['shape'], answer)) or 'take a smaller model'}."
                problems.append(refusal("BP530", f"model {model['name']} does not fit", found, wanted, fix))
    return problems


def _devices(
    models: Sequence[Mapping[str, Any]], host: Mapping[str, Any]
) -> list[tuple[Device, list[Mapping[str, Any]]]]:
    """The devices of a host that is known, each with the models that go there: `auto` is the first GPU, if there is one."""
    gpus, memory = list(host.get("gpus") or []), host.get("memory")
    places: dict[str, list[Mapping[str, Any]]] = {}
    for model in models:
        wanted = str(model.get("device", "auto"))
        wanted = ("cuda:0" if gpus else "cpu") if wanted == "auto" else "cuda:0" if wanted == "cuda" else wanted
        places.setdefault(wanted, []).append(model)
    found = []
    for place, held in sorted(places.items()):
        if place == "cpu" and memory:
            bfloat16 = bool(host.get("cpu_bfloat16"))
            found.append((Device("this machine's memory", int(memory), cpu=True, bfloat16=bfloat16), held))
        elif place.startswith("cuda:") and int(place[5:]) < len(gpus) and gpus[int(place[5:])]:
            found.append((Device(f"GPU {place[5:]}", int(gpus[int(place[5:])])), held))
    return found


def _wish(model: Mapping[str, Any]) -> Wish:
    kv = model.get("kv_memory_mb")
    return Wish(
        context=model.get("context_length"),
        concurrency=int(model.get("max_batch") or 32),
        dtype=str(model.get("dtype") or "auto"),
        quantization=model.get("quantization"),
        kv_bytes=int(kv) << 20 if kv else None,
        task=str(model.get("task") or "auto"),
    )


def _weights(model: Mapping[str, Any], device: Device) -> int:
    return weight_bytes(model["facts"]["shape"], _wish(model), device)
