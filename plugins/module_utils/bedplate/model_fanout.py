"""Who fetches which model from where: a model's origins in order, and the server of a group that gives it to the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .model_listing import file_url
from .model_reference import reference_of
from .sizes import size_words

# Of what is to be fetched: file system blocks, the manifest.
SPARE = 1.02

Origin = dict[str, Any]


def origins_of(
    model: Mapping[str, Any],
    endpoints: Mapping[str, str],
    before: Sequence[str] = (),
    giver: str = "",
    address: str = "",
    port: int = 0,
) -> list[Origin]:
    """Where a model's files are, in the order they are asked, as the module bedplate_model_fetch takes it.

    endpoints: address of `hub` and `modelscope`. before: model_origins. giver: server of the group that shares it, at address and port.
    """
    folder, manifest = model["directory"], model["manifest"]
    found: list[Origin] = []
    if giver:
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{port}/{{secret}}/{folder}/{{path}}"
        found.append({"kind": "files", "name": giver, "url": url, "secret": "share", "tries": 2})
    for base in before:
        if base.startswith("file://"):
            found.append({"kind": "folder", "name": base, "path": f"{base[len('file://') :].rstrip('/')}/{folder}"})
        elif base.startswith(("http://", "https://")):
            found.append({"kind": "files", "name": base, "url": f"{base.rstrip('/')}/{folder}/{{path}}"})
    reference = reference_of(model["source"])
    if reference is None:
        return found
    if reference.kind == "server":
        return [*found, {"kind": "folder", "name": model["source"], "path": reference.path}]
    if reference.kind == "archive":
        return [*found, {"kind": "archive", "name": model["source"], "url": model["source"], **manifest["archive"]}]
    endpoint = endpoints.get(reference.kind, "").rstrip("/")
    url = file_url(reference, endpoint, manifest.get("commit") or "")
    own = {"kind": "files", "name": endpoint or model["source"], "url": url}
    return [*found, {**own, "secret": "hub"} if reference.kind == "hub" else own]


def seeds(servers: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """By group and model folder, the server that gives it to the others: one that has it, else the first that will.

    servers: `{host, group, has, due}` of each, in the order of the play. A model that one server alone needs has none, and neither
    has a server without a group.
    """
    found: dict[str, dict[str, str]] = {}
    every = [server for server in servers if server["group"]]
    for server in every:
        for folder in server["due"]:
            mates = [one for one in every if one["group"] == server["group"]]
            having = [one["host"] for one in mates if folder in one["has"]]
            wanting = [one["host"] for one in mates if folder in one["due"]]
            if having or len(wanting) > 1:
                found.setdefault(server["group"], {})[folder] = (having or wanting)[0]
    return found


def fed_by_others(due: Iterable[Mapping[str, Any]], givers: Mapping[str, str], host: str) -> list[str]:
    """Folders of what is due that another server gives."""
    return [model["directory"] for model in due if givers.get(model["directory"], host) != host]


def missing_bytes(models: Iterable[Mapping[str, Any]], incoming: Mapping[str, int]) -> int:
    """Room the models still need on the disk. incoming: what interrupted transfers hold already, by folder."""
    needed = {
        model["directory"]: SPARE * model["manifest"]["bytes"]
        + model["manifest"].get("archive", {}).get("size", 0)
        - incoming.get(model["directory"], 0)
        for model in models
        if model["manifest"] and not model["whole"]
    }
    return int(sum(max(0.0, count) for count in needed.values()))


def change_words(model: Mapping[str, Any]) -> str:
    """What a run would do for a model that the server does not have."""
    size = size_words(model["manifest"]["bytes"]) + " as " if model["manifest"] else ""
    return f"model {model['name']} is published: {size}{model['directory'] or model['source']}"
