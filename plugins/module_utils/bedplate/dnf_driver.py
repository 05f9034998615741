"""The package transaction of a driver on a dnf host (RHEL, Rocky, AlmaLinux 9): stream, exact versions, copies, versionlock.

Not run on a real one yet: the commands are those of NVIDIA's driver installation guide, tests replay their answers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.apt import Refused
from ansible.module_utils.bedplate.apt_origin import fetched, fingerprints
from ansible.module_utils.bedplate.driver_build import SINCE_BOOT, ModuleBuild
from ansible.module_utils.bedplate.driver_files import write_file
from ansible.module_utils.bedplate.driver_packages import (
    branch_of,
    choose_version,
    is_driver_package,
    sort_key,
    to_replace,
    upstream,
)
from ansible.module_utils.bedplate.driver_store import MANIFEST, folder_of, kept, verified_files
from ansible.module_utils.bedplate.hostfacts import file_sha256, read_json
from ansible.module_utils.bedplate.refusal import refusal

REPOSITORY = "/etc/yum.repos.d/bedplate-nvidia.repo"
KEY = "/etc/pki/rpm-gpg/RPM-GPG-KEY-bedplate-nvidia"


class Log:
    """What was done, in words."""

    def __init__(self) -> None:
        self.did: list[str] = []


class DnfDriver:
    """One host's driver packages. wanted: the module's parameters (see bedplate_driver_packages)."""

    def __init__(self, wanted: Mapping[str, Any], check: bool) -> None:
        self.wanted, self.check = wanted, check
        self.set: Mapping[str, Any] = wanted["packages"]
        self.root = Path(wanted["root"])
        self.log = Log()
        self.modules = ModuleBuild(self.run, str(wanted["kernel"]), False, self.root)
        self.installed = self.present()

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A command; its result is for the caller to judge."""
        return subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})

    def act(self, did: str, *argv: str) -> None:
        """A command that changes the host. dnf waits for its own lock. Raises Refused BP160, BP161."""
        try:
            done = self.run("timeout", str(self.wanted["wait"] + 3600), *argv)
        except OSError as error:
            raise Refused(refusal("BP161", "package manager failed", str(error), "dnf", "install dnf.")) from error
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())[-400:]
            fix = "correct what it names (repositories, disk, subscription), then run again."
            raise Refused(
                refusal("BP161", "package manager failed", f"`{' '.join(argv[:4])} ...`: {said}", "it to end well", fix)
            )
        if did:
            self.log.did.append(did)

    def present(self) -> dict[str, str]:
        """Every installed package: its epoch, version and release."""
        listed = self.run("rpm", "-qa", "--qf", "%{NAME}\\t%{EVR}\\n").stdout
        return dict(line.split("\t", 1) for line in listed.splitlines() if "\t" in line)

    def modules_ready(self, version: str | None) -> bool:
        """Whether the next boot finds the driver's modules."""
        return bool(ModuleBuild(self.run, self.modules.kernel, False, self.root).ready(version))

    def result(self, version: str | None) -> dict[str, Any]:
        """What the role writes into the receipt, and what was done, in words."""
        packages = {name: text for name, text in self.installed.items() if is_driver_package(name)}
        held = bool(packages) and set(packages) <= self._locked()
        return {
            "version": version,
            "packages": packages,
            "held": held,
            "did": self.log.did,
            "since_boot": SINCE_BOOT.exists(),
        }

    def ensure(self, newest: bool) -> dict[str, Any]:
        """Install what is missing and lock it."""
        version = None if newest else self._installed_version()
        if version is None or not self._complete(version):
            if self.check:
                names = ", ".join([*self.set["versioned"], *self.set["helpers"], *self.set["headers"]])
                return {
                    **self.result(version),
                    "did": [f"would install driver R{self.wanted['branch']}: {names}; would lock them"],
                }
            version = self._install()
        self._lock(version)
        return self.result(version)

    def hold(self) -> dict[str, Any]:
        """Lock the driver that is there."""
        version = self.wanted["version"]
        if version in {upstream(text) for name, text in self.installed.items() if is_driver_package(name)}:
            self._lock(version)
        return self.result(version)

    def prepare(self) -> dict[str, Any]:
        """Keep the old driver, add the source, choose and fetch the new one."""
        former: dict[str, str] = {}
        version, flavour = self.wanted["former_version"], self.wanted["former_flavour"]
        if version:
            folder = folder_of(self.root, version, flavour)
            own = {name: text for name, text in self.installed.items() if is_driver_package(name)}
            if version not in {upstream(text) for text in own.values()}:
                fix = "remove it with its own uninstaller (nvidia-uninstall), then run site.yml."
                found = f"driver {version}, and no package of that version"
                title = "the driver was not installed from packages"
                raise Refused(refusal("BP155", title, found, "packages to go back to", fix))
            if not self.check:
                self._keep(
                    folder, own, {"version": version, "flavour": flavour, "source": self.wanted["former_source"]}
                )
            former = {"version": version, "flavour": flavour, "folder": str(folder)}
        if self.check:
            return {**self.result(None), "due": True, "target": None, "folder": "", "former": former}
        target = self._target()
        due = not self._complete(target)
        return {**self.result(target), "due": due, "target": target, "folder": "", "former": former}

    def restore(self, folder: Path) -> dict[str, Any]:
        """Bring a kept driver back, exactly."""
        manifest, packages, files = read_json(folder / MANIFEST) or {}, kept(folder), verified_files(folder)
        version = str(manifest.get("version"))
        others = sorted({name for name in self.installed if is_driver_package(name)} - set(packages))
        wrong = [name for name, text in packages.items() if self.installed.get(name) != text]
        if wrong or others or not self.modules_ready(version):
            if self.check:
                return {**self.result(version), "did": [f"would bring driver {version} back from {folder}"]}
            self._unlock()
            if others:
                self.act("", "dnf", "-y", "remove", "--noautoremove", *others)
            SINCE_BOOT.touch()
            self.act(f"brought driver {version} back", "dnf", "-y", "--allowerasing", "install", *files)
            self.installed = self.present()
            self._build(version)
        self._lock(version)
        return self.result(version)

    def _installed_version(self) -> str | None:
        found = upstream(self.installed.get(self.set["versioned"][0], ""))
        if (
            found is None
            or branch_of(found) != int(self.wanted["branch"])
            or self.wanted["version"] not in (None, found)
        ):
            return None
        least = self.wanted["at_least"]
        return None if least and sort_key(found) < sort_key(least) else found

    def _complete(self, version: str) -> bool:
        right = all(upstream(self.installed.get(name, "")) == version for name in self.set["versioned"])
        # kernel-devel-5.14.0-503.el9.x86_64 is a name with its version.
        there = all(
            name in self.installed or self._provided(name) for name in [*self.set["helpers"], *self.set["headers"]]
        )
        return right and there and not set(self.set["rivals"]) & set(self.installed) and self.modules_ready(version)

    def _provided(self, name: str) -> bool:
        return self.run("rpm", "-q", name).returncode == 0

    def _target(self) -> str:
        """Add repository, EPEL and stream; the version that all packages have. Raises Refused BP122, BP164."""
        self._add_repository()
        first = [name for name in self.set["first"] if name not in self.installed]
        if first:
            self.act(f"installed {', '.join(first)}", "dnf", "-y", "install", *first)
        stream = f"nvidia-driver:{self.set['stream']}"
        enabled = self.run("dnf", "-q", "module", "list", "--enabled", "nvidia-driver").stdout
        if not any(line.split()[:2] == ["nvidia-driver", self.set["stream"]] for line in enabled.splitlines()):
            self.act("", "dnf", "-y", "module", "reset", "nvidia-driver")
            self.act(f"enabled {stream}", "dnf", "-y", "module", "enable", stream)
        names = self.set["versioned"]
        listed = self.run("dnf", "-q", "repoquery", "--showduplicates", "--qf", "%{name}\\t%{evr}", *names).stdout
        offered: dict[str, list[str]] = {name: [] for name in names}
        for line in listed.replace("\\t", "\t").splitlines():
            name, _, text = line.strip().partition("\t")
            if name in offered:
                offered[name].append(text)
        branch, exact = int(self.wanted["branch"]), self.wanted["version"]
        target: str | None = choose_version(offered, branch, exact, self.wanted["at_least"])
        if not target:
            found = "; ".join(f"{name}: {', '.join(texts) or 'none'}" for name, texts in offered.items())
            fix = "set nvidia_driver_branch or nvidia_driver_version to what the repository has, or nvidia_driver_repository to your mirror."
            wanted = exact or f"a version of R{branch} that all of them have"
            raise Refused(refusal("BP122", "no such driver in the repositories", found, wanted, fix))
        self.exact = {name: next(text for text in offered[name] if upstream(text) == target) for name in names}
        return target

    def _install(self) -> str:
        had = {name for name in self.installed if is_driver_package(name)}
        target = self._target()
        gone = [
            *to_replace(self.installed, self.set["versioned"], target),
            *(set(self.set["rivals"]) & set(self.installed)),
        ]
        self._unlock()
        if gone:
            self.act(
                f"removed {len(gone)} packages of another driver",
                "dnf",
                "-y",
                "remove",
                "--noautoremove",
                *sorted(set(gone)),
            )
        words = [*(f"{name}-{text}" for name, text in self.exact.items()), *self.set["helpers"], *self.set["headers"]]
        SINCE_BOOT.touch()
        options = ("--setopt=install_weak_deps=False", "--allowerasing")
        self.act(f"installed driver {target}", "dnf", "-y", *options, "install", *words)
        self.installed = self.present()
        wrong = [name for name in self.set["versioned"] if upstream(self.installed.get(name, "")) != target]
        if wrong:
            fix = "name a branch that NVIDIA's repository still has (nvidia_driver_branch)."
            raise Refused(refusal("BP162", "another driver was installed", ", ".join(wrong), target, fix))
        self._build(target, had)
        driver = {name: text for name, text in self.installed.items() if is_driver_package(name)}
        facts = {"version": target, "flavour": self.wanted["flavour"], "source": self.wanted["source"]}
        self._keep(folder_of(self.root, target, self.wanted["flavour"]), driver, facts)
        return target

    def _build(self, target: str, had: Iterable[str] = ()) -> None:
        modules = ModuleBuild(self.run, self.modules.kernel, False, self.root)
        if modules.by_dkms and not modules.ready(target) and not modules.build(target):
            if not had:
                fresh = [name for name in self.present() if is_driver_package(name)]
                self.run("dnf", "-y", "remove", "--noautoremove", *fresh)
            reason = modules.reason(target) or "nothing of it in `dkms status`"
            fix = "take a branch that builds for this kernel (nvidia_driver_branch), or boot an older kernel."
            title = f"module not built for kernel {modules.kernel}"
            raise Refused(refusal("BP129", title, reason, f"driver {target} built by DKMS", fix))

    def _keep(self, folder: Path, packages: Mapping[str, str], facts: Mapping[str, Any]) -> None:
        if kept(folder) == dict(packages):
            return
        incoming = folder.parent / f".{folder.name}.incoming"
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir(mode=0o755, parents=True)
        words = [f"{name}-{text}" for name, text in packages.items()]
        self.act("", "dnf", "-q", "download", "--destdir", str(incoming), *words)
        entries = {}
        for file in sorted(incoming.glob("*.rpm")):
            name, _, text = self.run("rpm", "-qp", "--qf", "%{NAME}\\t%{EVR}", str(file)).stdout.partition("\t")
            entries[name] = {"version": text, "file": file.name, "sha256": file_sha256(file)}
        if missing := sorted(set(packages) - set(entries)):
            fix = "give the server a mirror that still has them."
            raise Refused(refusal("BP155", "driver packages cannot be kept", ", ".join(missing), "a copy of each", fix))
        (incoming / MANIFEST).write_text(json.dumps({**facts, "packages": entries}, indent=2, sort_keys=True) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        incoming.rename(folder)
        self.log.did.append(f"kept {len(entries)} packages in {folder}")

    def _locked(self) -> set[str]:
        listed = self.run("dnf", "-q", "versionlock", "list").stdout.split()
        return {name for name in self.installed if any(line.startswith(f"{name}-") for line in listed)}

    def _lock(self, version: str) -> None:
        packages = [name for name in self.installed if is_driver_package(name)]
        missing = sorted(set(packages) - self._locked()) if self.wanted["hold"] else []
        if missing and self.check:
            self.log.did.append(f"would lock {len(missing)} packages")
        elif missing:
            if not self._provided("python3-dnf-plugin-versionlock"):
                self.act("", "dnf", "-y", "install", "python3-dnf-plugin-versionlock")
            self.act(f"locked {len(missing)} packages", "dnf", "-q", "versionlock", "add", *missing)

    def _unlock(self) -> None:
        if locked := sorted(name for name in self._locked() if is_driver_package(name)):
            self.act("", "dnf", "-q", "versionlock", "delete", *locked)

    def _add_repository(self) -> None:
        repository: Mapping[str, Any] = self.wanted["repository"]
        key = Path(KEY).read_bytes() if Path(KEY).exists() else b""
        if fingerprints(key) != [repository["fingerprint"]]:
            key = fetched(repository["key_url"])
            found: Sequence[str] = fingerprints(key)
            if found != [repository["fingerprint"]]:
                fix = "check nvidia_driver_repository and nvidia_driver_repository_key: the mirror must carry NVIDIA's own key."
                told = f"{', '.join(found) or 'no key'} at {repository['key_url']}"
                raise Refused(
                    refusal("BP164", "wrong key of NVIDIA's repository", told, repository["fingerprint"], fix)
                )
            write_file(KEY, key.decode(), self.log.did)
        text = (
            "# Written by Bedplate (role nvidia_driver): NVIDIA's driver repository (nvidia_driver_repository).\n"
            f"[bedplate-nvidia]\nname=NVIDIA driver\nbaseurl={repository['url'].rstrip('/')}/\nenabled=1\ngpgcheck=1\n"
            f"gpgkey=file://{KEY}\n"
        )
        write_file(REPOSITORY, text, self.log.did)
