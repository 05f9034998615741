"""Filters of the role bedplate_bundle: what a bundle on the controller holds for a host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils

# Ansible finds plugins/module_utils for modules; for plugins on the controller this does.
ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from ansible.module_utils.bedplate import bundle, bundle_machine, manifest  # noqa: E402 - needs the path above


def problem(folder: str, work: str) -> str:
    """Why the bundle cannot be used at all: it is none, or a byte of it is wrong. Empty when it is whole."""
    try:
        read = bundle.read(folder)
    except bundle.BundleError as error:
        return str(error)
    with manifest.remembered(Path(work) / "hashes.json") as known:
        phrases = bundle.damaged(folder, read, known)
    return bundle.damage_problem(folder, phrases) if phrases else ""


def lack(folder: str, wishes: Mapping[str, Any]) -> str:
    """Why this host cannot be installed from the bundle alone. Empty when it can."""
    read = bundle.read(folder)
    missing = bundle.lacking(read, wishes)
    return bundle.lack_problem(folder, read, missing) if missing else ""


def part(folder: str, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """What the host takes: `tree` (a manifest), `bootstrap` (packages for a server without rsync), `models` by folder."""
    read = bundle.read(folder)
    return {
        "tree": bundle.tree_of(read, wishes["platform"]),
        "bootstrap": read["platforms"][wishes["platform"]]["bootstrap"],
        "models": bundle.models_for(read, wishes["models"]),
    }


def sources(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sources of a model_list that are fetched from somewhere: those with an address."""
    return [str(model["source"]) for model in models if "://" in str(model.get("source", ""))]


def locks(
    environments: Sequence[Mapping[str, Any]], tool_lock: str, torch: Mapping[str, str], index: str
) -> list[dict[str, str]]:
    """What to fetch wheels by: uv's lock and those of each environment.

    torch: `lock`, that of PyTorch among them; `bytes`, the one that is installed for it; its `variant`. index: where the indexes of
    the variants are, or empty.
    """
    wanted = [(environments[0]["prefix"], tool_lock)]
    wanted += [(one["prefix"], path) for one in environments for path in one["locks"]]
    return [
        {
            "python": f"{prefix}/bin/python",
            "requirements": Path(torch["bytes"] if path == torch["lock"] else path).read_text(encoding="utf-8"),
            "wheel_index": f"{index}/{torch['variant']}" if index and path == torch["lock"] else "",
        }
        for prefix, path in wanted
    ]


def trees(folder: str, taken: Mapping[str, Any], platform: str, root: str) -> list[dict[str, Any]]:
    """Folders of the bundle that go to the server: source, dest, manifest; link where one leads there."""
    revision = taken["tree"]["revision"][:12]
    source = {"source": f"{folder}/platforms/{platform}", "manifest": taken["tree"]}
    return [
        {**source, "dest": f"{root}/bundle/{revision}", "link": f"{root}/bundle/current"},
        *(
            {"source": f"{folder}/models/{name}", "dest": f"{root}/models/{name}", "manifest": model}
            for name, model in taken["models"].items()
        ),
    ]


class FilterModule:
    """Filters of a bundle's folder, of a host's facts, environments and models; the functions they name tell the rest."""

    def filters(self) -> dict[str, object]:
        return {
            "bundle_problem": problem,
            "bundle_lack": lack,
            "bundle_part": part,
            "bundle_platform": bundle.platform_of,
            "bundle_models": sources,
            "bundle_as": bundle_machine.as_machine,
            "bundle_locks": locks,
            "bundle_trees": trees,
        }
