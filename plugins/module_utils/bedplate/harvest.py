"""What a server fetched while the roles ran on it, gathered in one folder: the packages themselves, licence and source of each.

Nothing here knows what a role wants: apt's and conda's caches, the locks of the environments and the published models tell.
Runs on the collecting server as root: standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ansible.module_utils.bedplate.condameta import records
from ansible.module_utils.bedplate.hostfacts import read_json, read_text
from ansible.module_utils.bedplate.manifest import sha256_of
from ansible.module_utils.bedplate.pipconfig import requirement_options
from ansible.module_utils.bedplate.refusal import refusal
from ansible.module_utils.bedplate.wheelmeta import wheel_metadata

# What conda's index says of a package; its record in an environment says more.
CHANNEL_KEYS = (
    "build", "build_number", "constrains", "depends", "features", "fn", "license", "license_family", "md5", "name", "noarch",
    "sha256", "size", "subdir", "timestamp", "track_features", "version",
)  # fmt: skip
_LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)

Item = dict[str, Any]


class NotHarvested(Exception):
    """A refusal, whole."""


def place(file: Path, target: Path) -> Path:
    """Put a file into the harvest, as a hard link where that is possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        try:
            os.link(file, target)
        except OSError:
            shutil.copy2(file, target)
    return target


def item(kind: str, folder: Path, file: Path, **facts: Any) -> Item:
    """What the bundle says of a file, by its path in the folder; facts: name, version, licence, source, and what its kind needs."""
    size, digest = file.stat().st_size, sha256_of(file)
    return {"kind": kind, "path": file.relative_to(folder).as_posix(), "size": size, "sha256": digest, **facts}


def without_password(url: str) -> str:
    """An address as it may be written down."""
    return re.sub(r"://[^/@\s]+@", "://", url)


# Debian packages


def debs(folder: Path, files: Iterable[Path]) -> Iterator[Item]:
    """The packages apt downloaded, in folder/apt."""
    found = {}
    for file in files:
        control = _said("dpkg-deb", "-f", str(file))
        fields = HeaderParser().parsestr(control)
        # The name a repository gives a file: without the version's epoch, whose colon an address would have to escape.
        name = f"{fields['Package']}_{fields['Version'].partition(':')[2] or fields['Version']}_{fields['Architecture']}.deb"
        found[name] = (file, control, fields)
    sources = _deb_sources([fields for _, _, fields in found.values()])
    for name, (file, control, fields) in sorted(found.items()):
        target = place(file, folder / "apt" / name)
        yield item(
            "deb",
            folder,
            target,
            name=fields["Package"],
            version=fields["Version"],
            architecture=fields["Architecture"],
            licence=deb_licence(target),
            source=sources.get((fields["Package"], fields["Version"]), ""),
            depends=needed(fields),
            control=control,
        )


def needed(fields: Message) -> list[str]:
    """Names a package's Pre-Depends and Depends mention, the alternatives of each among them."""
    text = ",".join(fields.get(key) or "" for key in ("Pre-Depends", "Depends"))
    return sorted({re.split(r"[ (:]", word.strip())[0] for word in re.split(r"[,|]", text) if word.strip()})


def _deb_sources(packages: Sequence[Message]) -> dict[tuple[str, str], str]:
    """Address by name and version, of those that the server's repositories still offer."""
    wanted = {f"{fields['Package']}={fields['Version']}": fields for fields in packages}
    if not wanted:
        return {}
    ask = ("apt-get", "download", "--print-uris", "-qq")
    # One it does not know any more spoils the whole answer.
    said = _said(*ask, *wanted, fatal=False) or "".join(_said(*ask, name, fatal=False) for name in wanted)
    found = {}
    for url, file in re.findall(r"'([^']+)' (\S+)", said):
        name, version = unquote(file).split("_")[:2]
        found[name, version] = without_password(url)
    return found


def deb_licence(file: Path) -> str:
    """The licences its machine-readable copyright file names, joined by AND; empty where there is none."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(file)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        text = ""
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if not text and member.isfile() and re.search(r"usr/share/doc/[^/]+/copyright$", member.name):
                    stream = archive.extractfile(member)
                    text = stream.read().decode("utf-8", "replace") if stream else ""
    return " AND ".join(sorted({licence.strip() for licence in _LICENCE.findall(text)}))


# conda packages


def conda_packages(folder: Path, environments: Iterable[Path], caches: Sequence[Path]) -> Iterator[Item]:
    """The packages of the environments, in folder/conda/<subdir>, each with the record its channel's index needs."""
    seen = set()
    for record in (record for prefix in environments for record in records(prefix)):
        name = record["fn"]
        if name in seen:
            continue
        seen.add(name)
        file = next((cache / name for cache in caches if (cache / name).is_file()), None)
        if file is None:
            fix = "make the bundle on a bare collector; conda clean took the package away."
            raise NotHarvested(refusal("BP183", "conda package not kept", f"no {name} in conda's cache", "it", fix))
        target = place(file, folder / "conda" / record["subdir"] / name)
        source = without_password(str(record.get("url", "")))
        facts = {"name": record["name"], "version": str(record["version"]), "licence": record.get("license") or ""}
        found = item("conda", folder, target, source=source, **facts)
        index = {key: record[key] for key in CHANNEL_KEYS if record.get(key) not in (None, "")}
        yield {**found, "record": {**index, "size": found["size"], "sha256": found["sha256"]}}


def installers(folder: Path, cache: Path, addresses: Sequence[str]) -> Iterator[Item]:
    """The conda installers, in folder/installers, by their sha256."""
    for file in sorted(cache.glob("conda-*.sh")):
        digest = sha256_of(file)
        target = place(file, folder / "installers" / f"{digest}.sh")
        source = without_password(addresses[0]) if addresses else ""
        name = source.rpartition("/")[2] or file.name
        yield item("installer", folder, target, name=name, version=digest[:12], licence="", source=source)


# Python packages


def wheels(folder: Path, locks: Iterable[Mapping[str, str]], sources: Mapping[str, Any]) -> Iterator[Item]:
    """The wheels of the locks, in folder/wheels, fetched by pip with their hashes.

    locks: python, requirements (their text), wheel_index (for what the other places do not have, or empty). sources: as pipconfig has
    them.
    """
    log = folder / "pip.log"
    target = folder / "wheels"
    for lock in locks:
        reasons = []
        for wheel_index in dict.fromkeys(["", lock.get("wheel_index", "")]):
            reasons.append(_download(lock, requirement_options(sources, wheel_index), target, log))
            if not reasons[-1]:
                break
        else:
            fix = (
                "let the collecting server reach the index it installed from (pip configuration, pytorch_wheel_index)."
            )
            found = without_password(" / ".join(reasons))
            raise NotHarvested(refusal("BP183", "wheels not gathered", found, "every wheel of the lock", fix))
    told = read_text(log) or ""
    log.unlink(missing_ok=True)
    # "Found link https://.../x.whl#sha256=... (from ...)", "Found link file:///.../x.whl, version: ...".
    addresses = {unquote(url).rpartition("/")[2]: url for url in re.findall(r"Found link (\S+?\.whl)(?=[#,\s])", told)}
    for file in sorted(target.glob("*.whl")):
        name, version, licence = wheel_metadata(file)
        source = without_password(addresses.get(file.name, ""))
        yield item("wheel", folder, file, name=name, version=version, licence=licence, source=source)


def _download(lock: Mapping[str, str], options: str, target: Path, log: Path) -> str:
    """Empty when pip has fetched every wheel of the lock, else its last lines."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as text:
        text.write(options + lock["requirements"])
        text.flush()
        command = [lock["python"], "-m", "pip", "--quiet", "--disable-pip-version-check", "--log", str(log), "download"]
        command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--progress-bar", "off"]
        done = subprocess.run(
            [*command, "--dest", str(target), "-r", text.name], capture_output=True, text=True, check=False
        )
    return (
        "" if done.returncode == 0 else " ".join(done.stderr.strip().splitlines()[-4:]) or f"status {done.returncode}"
    )


# Models


def models(folder: Path, published: Path) -> Iterator[Item]:
    """The published models that came from somewhere else than the controller, in folder/models, each with its manifest."""
    for manifest_file in sorted(published.glob("*@*/manifest.json")):
        manifest = read_json(manifest_file)
        if not manifest or "://" not in manifest.get("requested", ""):
            continue
        directory = manifest_file.parent
        files = [{key: entry[key] for key in ("path", "size", "sha256")} for entry in manifest["files"]]
        for entry in files:
            target = place(directory / entry["path"], folder / "models" / directory.name / entry["path"])
            facts = {"name": manifest["repo"], "version": manifest.get("commit") or manifest["revision"]}
            yield {
                **{"kind": "model", **facts, "licence": manifest.get("licence") or "", "source": manifest["requested"]},
                **{**entry, "path": target.relative_to(folder).as_posix()},
                "model": {"directory": directory.name, "manifest": {**manifest, "files": files}},
            }


def _said(*argv: str, fatal: bool = True) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if fatal and done.returncode != 0:
        found = f"`{' '.join(argv[:3])}`: {done.stderr.strip()[-200:]}"
        raise NotHarvested(refusal("BP183", "package not readable", found, "a whole .deb", "use a fresh collector."))
    return done.stdout
