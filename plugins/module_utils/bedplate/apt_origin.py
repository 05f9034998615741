"""Where an apt host gets its driver packages: its own mirrors with further components, or NVIDIA's repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.apt import Apt, Refused
from ansible.module_utils.bedplate.apt_sources import (
    Source,
    component_file,
    dearmored,
    key_fingerprints,
    parse_sources,
    parse_targets,
    repository_file,
)
from ansible.module_utils.bedplate.driver_files import write_file
from ansible.module_utils.bedplate.driver_packages import branch_of
from ansible.module_utils.bedplate.files import replace_file
from ansible.module_utils.bedplate.hostfacts import read_text
from ansible.module_utils.bedplate.refusal import refusal
from ansible.module_utils.urls import open_url

COMPONENTS = "/etc/apt/sources.list.d/bedplate-nvidia.sources"
REPOSITORY = "/etc/apt/sources.list.d/bedplate-nvidia-repository.sources"
KEYRING = "/usr/share/keyrings/bedplate-nvidia.gpg"


class AptOrigin:
    """Makes wanted packages available. wanted: parameters branch, version, components, origins, repository. kept: the host
    has copies of the wanted driver, so nothing of it need be offered.
    """

    def __init__(self, apt: Apt, wanted: Mapping[str, Any], kept: bool) -> None:
        self.apt, self.wanted, self.kept = apt, wanted, kept
        self.unread = ""

    def provide(self, names: Sequence[str], headers: Sequence[str], refresh: bool) -> dict[str, list[str]]:
        """Versions of each package, after whatever source was missing has been added. Raises Refused BP128, BP164.

        refresh: read the indexes again even where all is offered.
        """
        if self.wanted["repository"]:
            self._add_repository()
        everything = [*names, *headers]
        offered: dict[str, list[str]] = self.apt.offered(everything)
        if refresh or self._lacking(offered, names, headers):
            self.unread = self.apt.update()
            offered = self.apt.offered(everything)
        if not self.kept and self._lacking(offered, names, []) and self._add_components():
            self.unread = self.apt.update()
            offered = self.apt.offered(everything)
        if without := [name for name in headers if not offered[name]]:
            fix = (
                "boot the newest kernel the mirror has headers for (reboot after apt-get upgrade), or give the server a mirror "
                "that keeps old kernels."
            )
            found = f"no {', '.join(without)} in the repositories. {self.unread}".strip()
            raise Refused(
                refusal("BP128", "no headers for the running kernel", found, "headers DKMS can build with", fix)
            )
        return offered

    def no_version(self, driver: Mapping[str, Sequence[str]]) -> str:
        """The refusal when no version of the driver is complete in the repositories (BP122)."""
        exact = self.wanted["version"] or f"a version of R{self.wanted['branch']} that all of them have"
        found = "; ".join(f"{name}: {', '.join(sorted(set(versions))) or 'none'}" for name, versions in driver.items())
        fix = (
            "set nvidia_driver_source, nvidia_driver_branch or nvidia_driver_version to what the repositories have, or give the "
            "server a mirror that has it (nvidia_driver_repository)."
        )
        text: str = refusal(
            "BP122", "no such driver in the repositories", f"{found}. {self.unread}".strip(), exact, fix
        )
        return text

    def _lacking(self, offered: Mapping[str, Sequence[str]], names: Sequence[str], headers: Sequence[str]) -> bool:
        branch = int(self.wanted["branch"])
        lacking = any(not offered[name] for name in [*names, *headers])
        exact = self.wanted["version"]
        defining = self.wanted["packages"]["versioned"][0]
        fitting = [text for text in offered[defining] if branch_of(text) == branch and (not exact or exact in text)]
        return lacking or not fitting

    def _add_components(self) -> bool:
        if not self.wanted["components"]:
            return False
        targets = self.apt.run("apt-get", "indextargets", "Created-By: Packages").stdout
        text = component_file(host_sources(), parse_targets(targets, self.wanted["origins"]), self.wanted["components"])
        return text is not None and write_file(COMPONENTS, text, self.apt.did)

    def _add_repository(self) -> None:
        repository = self.wanted["repository"]
        fingerprint = repository["fingerprint"].replace(" ", "").upper()
        try:
            key = Path(KEYRING).read_bytes()
        except OSError:
            key = b""
        if not key or fingerprints(key) != [fingerprint]:
            key = fetched(repository["key_url"])
            found = fingerprints(key)
            if found != [fingerprint]:
                fix = "check nvidia_driver_repository and nvidia_driver_repository_key: the mirror must carry NVIDIA's own key."
                told = f"{', '.join(found) or 'no key'} at {repository['key_url']}"
                raise Refused(refusal("BP164", "wrong key of NVIDIA's repository", told, fingerprint, fix))
            replace_file(KEYRING, dearmored(key))
            self.apt.did.append(f"wrote {KEYRING}")
        if write_file(REPOSITORY, repository_file(repository["url"], KEYRING), self.apt.did):
            self.unread = self.apt.update()


def host_sources() -> list[Source]:
    """Every active entry of the host's own source files."""
    found = []
    folder = Path("/etc/apt/sources.list.d")
    for path in [Path("/etc/apt/sources.list"), *sorted(folder.glob("*.list")), *sorted(folder.glob("*.sources"))]:
        if str(path) not in (COMPONENTS, REPOSITORY):
            found += parse_sources(read_text(path) or "", deb822=path.suffix == ".sources")
    return found


def fingerprints(key: bytes) -> list[str]:
    """Fingerprints of a key file, armoured or not; none for what is no key."""
    try:
        found: list[str] = key_fingerprints(dearmored(key))
    except (ValueError, IndexError):
        return []
    return found


def fetched(url: str) -> bytes:
    """A small file from a URL, or from a path on this host. Raises Refused BP164."""
    try:
        if url.startswith("/"):
            return Path(url).read_bytes()
        body: bytes = open_url(url, timeout=30).read()
    except (OSError, ValueError) as error:
        fix = "give the server a way there (proxy), or a mirror: nvidia_driver_repository and nvidia_driver_repository_key."
        text = refusal("BP164", "key of NVIDIA's repository not fetched", f"{error} at {url}", "its public key", fix)
        raise Refused(text) from error
    return body
