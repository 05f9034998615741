"""Make a bundle out of what was collected: indexes of its repositories, the page, the manifest, the SBOM."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.paths import ROOT, WORK
from ops.sbom import sbom
from plugins.module_utils.bedplate.bundle import FORMAT, INDEX, channel_index, closure, packages_index
from plugins.module_utils.bedplate.manifest import sha256_of
from plugins.module_utils.bedplate.wheelmeta import wheel_metadata

Item = dict[str, Any]

SUBDIRS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}
# What the manifest says of a file; the rest of what was collected made the indexes.
SAID = ("path", "size", "sha256", "kind", "name", "version", "licence", "source", "architecture")
RUN_LOCK = ROOT / "ops" / "requirements" / "run.txt"


def assemble(output: Path, same: Mapping[str, Sequence[str]], controller: bool = True) -> dict[str, Any]:
    """Write the indexes, `bundle.json` and `sbom.cdx.json`; returns the manifest.

    same: for each collected host the hosts it stands for. controller: with the packages of this checkout's own .venv. Files that
    belong to no collected host are removed.
    """
    wishes = {path.stem: json.loads(path.read_text()) for path in sorted((output / "wishes").glob("*.json"))}
    collected = {path.stem: json.loads(path.read_text()) for path in sorted((output / "collected").glob("*.json"))}
    items = _once(item for host in wishes for item in collected[host])
    platforms: dict[str, Any] = {}
    entries: list[Item] = []
    for wish in wishes.values():
        part = platforms.setdefault(wish["platform"], {"installers": [], "environments": [], "bootstrap": []})
        part["installers"] = sorted({*part["installers"], *filter(None, [wish["installer"]])})
        part["environments"] = sorted({*part["environments"], *wish["environments"]})
    for name, part in platforms.items():
        mine = [item for item in items if item["path"].startswith(f"platforms/{name}/")]
        part["bootstrap"] = closure("rsync", [item for item in mine if item["kind"] == "deb"])
        entries += write_indexes(output, name, mine)
    page = next((wish["page"] for wish in wishes.values() if wish["page"]), "")
    entries += [*page_items(output, page), *(controller_items(output) if controller else [])]
    found = {
        "format": FORMAT,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "checkout": _commit(),
        "hosts": sorted(name for host in wishes for name in same.get(host, [host])),
        "platforms": platforms,
        "models": {item["model"]["directory"]: item["model"]["manifest"] for item in items if item["kind"] == "model"},
        "page": page,
        "bytes": sum(item["size"] for item in [*items, *entries]),
        "files": sorted(
            ({key: item[key] for key in SAID if key in item} for item in [*items, *entries]),
            key=lambda entry: entry["path"],
        ),
    }
    _forget_strangers(output, {entry["path"] for entry in found["files"]})
    (output / "sbom.cdx.json").write_text(sbom(found, page_packages() if page else []) + "\n", encoding="utf-8")
    (output / INDEX).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def size_of(found: Mapping[str, Any]) -> str:
    """1.2 GB in 312 files."""
    return f"{found['bytes'] / 1e9:.2f} GB in {len(found['files'])} files"


def write_indexes(output: Path, platform: str, items: Sequence[Item]) -> list[Item]:
    """apt's and conda's indexes of one platform; returns their own entries."""
    top = output / "platforms" / platform
    texts = {"apt/Packages": packages_index(item for item in items if item["kind"] == "deb")}
    for subdir in ("noarch", SUBDIRS[platform.rpartition("-")[2]]):
        index = channel_index((item["record"] for item in items if item["kind"] == "conda"), subdir)
        texts[f"conda/{subdir}/repodata.json"] = json.dumps(index, indent=1, sort_keys=True) + "\n"
    found = []
    for path, text in texts.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text, encoding="utf-8")
        found.append(entry_of(output, top / path, "index", source="./bedplate bundle"))
    (top / "wheels").mkdir(exist_ok=True)
    return found


def page_items(output: Path, page: str) -> list[Item]:
    """The built chat page, copied from this checkout's work folder."""
    shutil.rmtree(output / "page", ignore_errors=True)
    if not page:
        return []
    shutil.copytree(WORK / "web" / page, output / "page" / page)
    files = (path for path in sorted((output / "page" / page).rglob("*")) if path.is_file())
    return [entry_of(output, path, "page", version=page, licence="Apache-2.0", source="app/web") for path in files]


def page_packages() -> list[dict[str, str]]:
    """The npm packages whose code is in the page, from its lock: name, version, licence, source."""
    lock = json.loads((ROOT / "app" / "web" / "package-lock.json").read_text(encoding="utf-8"))
    return [
        {
            "name": path.rpartition("node_modules/")[2],
            "version": package["version"],
            "licence": str(package.get("license", "")),
            "source": str(package.get("resolved", "")),
        }
        for path, package in sorted(lock["packages"].items())
        if path and not package.get("dev") and not package.get("link")
    ]


def controller_items(output: Path) -> list[Item]:
    """The wheels of this checkout's own .venv, for a controller without the internet."""
    folder = output / "controller"
    folder.mkdir(exist_ok=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-qq",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
    ]
    subprocess.run([*pip, "--only-binary", ":all:", "-d", str(folder), "-r", str(RUN_LOCK)], check=True)
    found = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version, licence = wheel_metadata(wheel)
        facts = {"name": name, "version": version, "licence": licence, "source": "ops/requirements/run.txt"}
        found.append(entry_of(output, wheel, "controller", **facts))
    return found


def entry_of(output: Path, path: Path, kind: str, **facts: str) -> Item:
    """A file as the manifest names it."""
    whole = {
        "kind": kind,
        "path": path.relative_to(output).as_posix(),
        "size": path.stat().st_size,
        "sha256": sha256_of(path),
    }
    return {**whole, "name": path.name, "version": "", "licence": "", "source": "", **facts}


def _once(items: Iterable[Item]) -> list[Item]:
    """Each path once: hosts of one platform share packages."""
    return list({item["path"]: item for item in items}.values())


def _forget_strangers(output: Path, named: set[str]) -> None:
    """Remove what an earlier bundle in the same folder held and this one does not."""
    for folder in ("platforms", "models", "page", "controller"):
        for path in sorted((output / folder).rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()) and path.name != "wheels":
                    path.rmdir()
            elif path.relative_to(output).as_posix() not in named:
                path.unlink()
    for folder in ("collected", "wishes"):
        shutil.rmtree(output / folder, ignore_errors=True)


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
