"""Changing a driver on an apt host with a way back: everything fetched beforehand, and the old driver brought back from its copies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.apt import Refused
from ansible.module_utils.bedplate.apt_driver import PIN, AptDriver
from ansible.module_utils.bedplate.driver_build import SINCE_BOOT
from ansible.module_utils.bedplate.driver_files import write_file
from ansible.module_utils.bedplate.driver_packages import is_driver_package, pin_text, to_replace, upstream
from ansible.module_utils.bedplate.driver_store import MANIFEST, folder_of, keep, kept, verified_files
from ansible.module_utils.bedplate.hostfacts import read_json, read_text
from ansible.module_utils.bedplate.refusal import refusal


class AptChange(AptDriver):  # type: ignore[misc]  # Ansible has no types
    """Adds to AptDriver what playbooks/upgrade_driver.yml needs."""

    installed: dict[str, str]

    def prepare(self) -> dict[str, Any]:
        """Keep the old driver, choose and fetch the new one, and say whether anything would change. The service still runs.

        Returns also: due, target (version), folder (of the new driver), former {version, flavour, folder} or {}.
        """
        former = self._keep_former()
        if self.check:
            version = self._newest_known()
            due = version is None or not self._complete(version)
            self.apt.did += [self._would()] if due else []
            return {**self.result(version), "due": due, "target": version, "folder": "", "former": former}
        self._refuse_unsigned()
        self._repair()
        target, headers = self._target(None)
        with self._pinned(target):
            transaction = self._simulated(target, headers)
            folder = self._keep(transaction)
        due = bool(transaction.touched) or not self._complete(target)
        return {**self.result(target), "due": due, "target": target, "folder": str(folder), "former": former}

    def fetch(self) -> dict[str, Any]:
        """Bring what an installation would take, all it depends on too, into apt's cache: for who collects it for another server.

        With the headers of every kernel package that a server may follow. Returns also: target (version).
        """
        if self.check:
            self.apt.did.append(f"would fetch driver {self.wanted['version'] or 'R' + self.wanted['branch']}")
            return {**self.result(None), "target": None}
        target, headers = self._target(None)
        follow = [] if self.set["prebuilt"] else list(self.wanted["follow"].values())
        headers += [name for name, versions in self.apt.offered(follow).items() if versions]
        with self._pinned(target):
            transaction = self._simulated(target, headers)
            words = [*transaction.names, *headers, *transaction.removals]
            self.apt.install(f"fetched driver {target}", ["--download-only", *words])
        return {**self.result(target), "target": target}

    @contextmanager
    def _pinned(self, version: str) -> Iterator[None]:
        """apt sees no other version of the driver meanwhile."""
        before, said = read_text(PIN), len(self.apt.did)
        write_file(PIN, pin_text(version, {}), self.apt.did)
        try:
            yield
        finally:
            write_file(PIN, before, [])
            self.apt.did[said:] = [text for text in self.apt.did[said:] if not text.endswith(PIN)]

    def _keep_former(self) -> dict[str, str]:
        """Copies of the driver that works now, wherever they are to be had. Raises Refused BP155."""
        version, flavour = self.wanted["former_version"], self.wanted["former_flavour"]
        if not version:
            return {}
        folder = folder_of(self.root, version, flavour)
        packages = self.driver_packages()
        own = [name for name, text in packages.items() if upstream(text) == version]
        if not own and not kept(folder):
            fix = "remove it with its own uninstaller (nvidia-uninstall), then run site.yml."
            found = f"driver {version}, and no package of that version"
            title = "the driver was not installed from packages"
            raise Refused(refusal("BP155", title, found, "packages to go back to", fix))
        # An interrupted change has removed some already: what was kept whole stays.
        if own and not self.apt.broken() and set(kept(folder)) <= set(packages):
            if self.check:
                self.apt.did += [] if kept(folder) else [f"would keep {len(packages)} packages in {folder}"]
            else:
                named = {"version": version, "flavour": flavour, "source": self.wanted["former_source"]}
                keep(self.apt, folder, packages, self.installed, named)
        return {"version": version, "flavour": flavour, "folder": str(folder)}

    def restore(self, folder: Path) -> dict[str, Any]:
        """Bring a kept driver back, exactly: its packages in their versions, none of another driver."""
        manifest = read_json(folder / MANIFEST) or {}
        packages, version = kept(folder), str(manifest.get("version"))
        files = verified_files(folder)
        # No repair first: it would go on with the installation that failed.
        there = self.apt.present()
        wrong = [name for name, text in packages.items() if self.installed.get(name) != text]
        others = set(to_replace(there, packages, version))
        # The other flavour of the same version too, and what was cut off in the middle.
        others |= {name for name in there if is_driver_package(name) and ("dkms" in name or "kernel-support" in name)}
        others |= {name for name in self.apt.broken() if is_driver_package(name)}
        others -= set(packages)
        if wrong or others or not self.modules.ready(version):
            if self.check:
                return {**self.result(version), "did": [f"would bring driver {version} back from {folder}"]}
            write_file(PIN, pin_text(version, {}), self.apt.did)
            SINCE_BOOT.touch()
            self._replace(files, sorted(others), version)
            self.installed = self.apt.installed()
            self._build(version, set(self.installed))
        self._secure(version)
        done: dict[str, Any] = self.result(version)
        return done

    def _replace(self, files: list[str], others: list[str], version: str) -> None:
        did = f"brought driver {version} back with {len(files)} packages"
        try:
            self.apt.install(did, [*files, *(f"{name}-" for name in others)])
        except Refused:
            # A package whose scripts fail cannot be removed by apt together with others: dpkg takes it away alone.
            self.apt.run("dpkg", "--remove", "--force-all", *others)
            self.apt.repair()
            self.apt.install(did, files)
