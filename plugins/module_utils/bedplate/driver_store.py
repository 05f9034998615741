"""The driver's packages kept on the server: what was installed can be installed again, without a network.

<root>/<version>-<flavour>/ holds the .deb files and manifest.json: {version, flavour, packages: {name: {version, file, sha256}}}.
A folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.apt import Apt, Refused
from ansible.module_utils.bedplate.hostfacts import read_json
from ansible.module_utils.bedplate.refusal import refusal

MANIFEST = "manifest.json"
CACHE = "/var/cache/apt/archives"


def folder_of(root: Path, version: str, flavour: str) -> Path:
    """Where the packages of a driver are kept."""
    return root / f"{version}-{flavour}"


def kept(folder: Path) -> dict[str, str]:
    """Name and package version of what a folder keeps; empty when it is missing or incomplete."""
    manifest = read_json(folder / MANIFEST)
    packages: dict[str, Any] = manifest.get("packages", {}) if isinstance(manifest, dict) else {}
    if not all((folder / package["file"]).is_file() for package in packages.values()):
        return {}
    return {name: package["version"] for name, package in packages.items()}


def verified_files(folder: Path) -> list[str]:
    """The kept .deb files, each compared with its sha256. Raises Refused BP166."""
    manifest = read_json(folder / MANIFEST)
    packages = manifest.get("packages", {}) if isinstance(manifest, dict) else {}
    damaged = [
        name
        for name, package in packages.items()
        if not (folder / package["file"]).is_file() or sha256_of(folder / package["file"]) != package["sha256"]
    ]
    if damaged or not packages:
        found = f"{', '.join(damaged[:5])} changed or missing" if packages else "no manifest"
        fix = f"remove {folder} and run again: it is then fetched from the repository."
        raise Refused(
            refusal("BP166", f"kept driver packages in {folder} not usable", found, "every sha256 as kept", fix)
        )
    return [str(folder / package["file"]) for package in packages.values()]


def keep(
    apt: Apt, folder: Path, packages: Mapping[str, str], installed: Mapping[str, str], facts: Mapping[str, Any]
) -> bool:
    """Bring packages (name: version) into a folder, with a manifest; returns whether anything was to be done.

    Each comes from the folder itself, apt's cache, the repository or, where it is installed and nowhere to be had, dpkg-repack.
    Raises Refused BP155.
    """
    have = kept(folder)
    if all(have.get(name) == version for name, version in packages.items()):
        return False
    incoming = folder.parent / f".{folder.name}.incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(mode=0o755, parents=True)
    entries = {}
    for name, version in packages.items():
        file = _from_folder(folder, name, version) or _from_cache(name, version)
        if file:
            shutil.copy2(file, incoming / file.name)
    lacking = [name for name, version in packages.items() if not _deb(incoming, name, version)]
    if lacking:
        apt.run("apt-get", "download", "-q", *(f"{name}={packages[name]}" for name in lacking), cwd=str(incoming))
        _one_by_one(apt, incoming, {name: packages[name] for name in lacking}, installed)
    for name, version in packages.items():
        file = _deb(incoming, name, version)
        assert file is not None, name
        entries[name] = {"version": version, "file": file.name, "sha256": sha256_of(file)}
    (incoming / MANIFEST).write_text(json.dumps({**facts, "packages": entries}, indent=2, sort_keys=True) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    incoming.rename(folder)
    apt.did.append(f"kept {len(entries)} packages in {folder}")
    return True


def sha256_of(file: Path) -> str:
    """sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _one_by_one(apt: Apt, incoming: Path, packages: Mapping[str, str], installed: Mapping[str, str]) -> None:
    """apt-get download stops at the first package it cannot get: fetch the rest singly, and repack what is only installed."""
    missing = []
    for name, version in packages.items():
        if _deb(incoming, name, version):
            continue
        said = apt.run("apt-get", "download", "-q", f"{name}={version}", cwd=str(incoming)).stderr
        if not _deb(incoming, name, version) and installed.get(name) == version:
            said += _repack(apt, incoming, name)
        if not _deb(incoming, name, version):
            missing.append(f"{name} {version} ({said.strip()[-120:] or 'not there'})")
    if missing:
        fix = "give the server a mirror that still has them, or put the .deb files into /var/cache/apt/archives."
        raise Refused(
            refusal(
                "BP155", "driver packages cannot be kept", "; ".join(missing[:5]), "a copy of each to go back to", fix
            )
        )


def _repack(apt: Apt, incoming: Path, name: str) -> str:
    if not shutil.which("dpkg-repack"):
        apt.run("apt-get", "install", "-y", "-q", "--no-install-recommends", "dpkg-repack")
    if not shutil.which("dpkg-repack"):
        return "dpkg-repack is not there"
    said: str = apt.run("dpkg-repack", name, cwd=str(incoming)).stderr
    return said


def _from_folder(folder: Path, name: str, version: str) -> Path | None:
    return _deb(folder, name, version) if kept(folder).get(name) == version else None


def _from_cache(name: str, version: str) -> Path | None:
    return _deb(Path(CACHE), name, version)


def _deb(folder: Path, name: str, version: str) -> Path | None:
    """The file of a package: apt writes the colon of an epoch as %3a, dpkg-repack leaves the epoch out."""
    bare, _, architecture = name.partition(":")
    for spelled in (version.replace(":", "%3a"), version.partition(":")[2] or version):
        for file in folder.glob(f"{bare}_{spelled}_{architecture or '*'}.deb"):
            return file
    return None
