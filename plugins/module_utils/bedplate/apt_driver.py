"""The whole package transaction of a driver on an apt host: sources, version, copies to go back to, installation, hold, proof."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.apt import Apt, Refused, errors_of
from ansible.module_utils.bedplate.apt_origin import AptOrigin
from ansible.module_utils.bedplate.driver_files import write_file
from ansible.module_utils.bedplate.driver_packages import (
    branch_of,
    choose_version,
    is_driver_package,
    pin_text,
    sort_key,
    to_replace,
    upstream,
)
from ansible.module_utils.bedplate.driver_store import folder_of, keep, kept, verified_files
from ansible.module_utils.bedplate.hostfacts import read_json, read_text
from ansible.module_utils.bedplate.refusal import refusal

PIN = "/etc/apt/preferences.d/bedplate-nvidia"


class AptDriver:
    """One host's driver packages. wanted: the module's parameters (see bedplate_driver_packages)."""

    def __init__(self, wanted: Mapping[str, Any], check: bool) -> None:
        self.wanted, self.check = wanted, check
        self.set: Mapping[str, Any] = wanted["packages"]
        self.root = Path(wanted["root"])
        self.apt = Apt(wanted["wait"])
        self.installed = self.apt.installed()

    # What is there

    def driver_packages(self) -> dict[str, str]:
        """Installed packages of any driver, with helpers: what is held and kept."""
        return {name: text for name, text in self.installed.items() if is_driver_package(name)}

    def version(self) -> str | None:
        """Version of the installed driver of the wanted set; None if it is not the one wanted."""
        found = upstream(self.installed.get(self.set["versioned"][0], ""))
        if found is None or branch_of(found) != int(self.wanted["branch"]):
            return None
        if self.wanted["version"] not in (None, found):
            return None
        least = self.wanted["at_least"]
        return None if least and sort_key(found) < sort_key(least) else found

    def result(self, version: str | None) -> dict[str, Any]:
        """What the role writes into the receipt, and what was done, in words."""
        packages = self.driver_packages()
        return {
            "version": version,
            "packages": packages,
            "held": bool(packages) and set(packages) <= self.apt.holds(),
            "did": self.apt.did,
        }

    def _complete(self, version: str) -> bool:
        """Whether nothing is left to install."""
        names = [
            *self.set["first"],
            *self.set["versioned"],
            *self.set["helpers"],
            *self.set["headers"],
            *self._followers(),
        ]
        right = all(upstream(self.installed.get(name, "")) == version for name in self.set["versioned"])
        whole = all(state in ("installed", "config-files", "not-installed") for state, _ in self.apt.states().values())
        present = all(name in self.installed for name in names)
        return right and whole and present and not set(self.set["rivals"]) & set(self.installed) and self.built(version)

    def _followers(self) -> list[str]:
        """Headers that follow the kernel package the host follows, so that DKMS builds for its next kernel too."""
        return [new for image, new in self.wanted["follow"].items() if image in self.installed and self.set["headers"]]

    # The transactions

    def ensure(self, newest: bool) -> dict[str, Any]:
        """Install what is missing and hold it. newest: take the repository's newest of the branch, not the installed one."""
        version = None if newest else self.version()
        if version is None or not self._complete(version):
            if self.check:
                return {**self.result(version), "did": [self._would()]}
            version = self._install(version)
        self._secure(version)
        return self.result(version)

    def _would(self) -> str:
        exact = self.wanted["version"] or f"the newest of R{self.wanted['branch']}"
        names = [*self.set["versioned"], *self.set["helpers"], *self.set["headers"]]
        missing = [name for name in names if name not in self.installed]
        gone = to_replace(self.installed, self.set["versioned"], self.wanted["version"] or "")
        gone += [name for name in self.set["rivals"] if name in self.installed]
        text = f"would install driver {exact}: {', '.join(missing or names)}"
        return text + (f"; would remove {', '.join(sorted(set(gone)))}" if gone else "") + "; would hold them"

    def _install(self, version: str | None) -> str:
        self._refuse_unsigned()
        if self.apt.repair(self.apt.states()):
            self.installed = self.apt.installed()
        origin = AptOrigin(self.apt, self.wanted)
        names = [*self.set["versioned"], *self.set["helpers"]]
        headers = [name for name in [*self.set["headers"], *self._followers()] if name not in self.installed]
        offered = origin.provide([*self.set["first"], *names], headers)
        driver = {name: offered[name] for name in self.set["versioned"]}
        if version:
            # What is installed already need not be offered any more.
            driver = {name: [*driver[name], self.installed.get(name, "")] for name in driver}
        target: str | None = choose_version(
            driver, int(self.wanted["branch"]), version or self.wanted["version"], self.wanted["at_least"]
        )
        if not target:
            raise Refused(origin.no_version(driver))
        first = [name for name in self.set["first"] if name not in self.installed]
        if first:
            self.apt.install(f"installed {', '.join(first)}", first)
        before = read_text(PIN)
        write_file(PIN, pin_text(target, {}), self.apt.did)
        try:
            self._transact(target, names, headers)
        except Refused:
            # A pin of a version that is not there would only confuse who repairs this by hand.
            if upstream(self.installed.get(self.set["versioned"][0], "")) != target:
                write_file(PIN, before, self.apt.did)
            raise
        return target

    def _transact(self, target: str, names: list[str], headers: list[str]) -> None:
        """Simulate, keep copies, install from the copies, build."""
        rivals = [f"{name}-" for name in self.set["rivals"] if name in self.installed]
        touched = self.apt.simulate("install", *names, *headers, *rivals)
        gone = [name for name in to_replace(self.installed, touched, target) if name not in names]
        touched = self.apt.simulate("install", *names, *headers, *rivals, *(f"{name}-" for name in gone))
        self._refuse_surprises(touched, target)
        fresh = {name: text for name, text in touched.items() if text is not None}
        after = {**self.installed, **fresh}
        for name in (name for name, text in touched.items() if text is None):
            after.pop(name, None)
        whole = {name: text for name, text in after.items() if is_driver_package(name)}
        folder = folder_of(self.root, target, self.wanted["flavour"])
        facts = {"version": target, "flavour": self.wanted["flavour"], "source": self.wanted["source"]}
        keep(self.apt, folder, whole, self.installed, facts)
        files = [
            file for file in verified_files(folder) if Path(file).name.split("_")[0] in {n.split(":")[0] for n in fresh}
        ]
        if touched or headers:
            removals = [f"{name}-" for name, text in touched.items() if text is None]
            words = [
                *files,
                *(name for name in names if name in fresh and not is_driver_package(name)),
                *headers,
                *removals,
            ]
            self.apt.install(f"installed driver {target} with {len(files)} packages", words)
        had, self.installed = self.installed, self.apt.installed()
        self._verify(target)
        self._build(target, [name for name in whole if name not in had])

    def restore(self, folder: Path) -> dict[str, Any]:
        """Bring a kept driver back, exactly: its packages in their versions, none of another driver."""
        manifest = read_json(folder / "manifest.json") or {}
        packages, version = kept(folder), str(manifest.get("version"))
        files = verified_files(folder)
        self.apt.repair(self.apt.states())
        self.installed = self.apt.installed()
        wrong = {name for name, text in packages.items() if self.installed.get(name) != text}
        others = [name for name in to_replace(self.installed, packages, version) if name not in packages]
        # The other flavour of the same version, too: whatever builds a module and is not among the kept packages.
        others += [
            name for name in self.driver_packages() if "dkms" in name and name not in packages and name not in others
        ]
        if wrong or others or not self.built(version):
            if self.check:
                return {**self.result(version), "did": [f"would bring driver {version} back from {folder}"]}
            write_file(PIN, pin_text(version, {}), self.apt.did)
            self.apt.install(f"brought driver {version} back", [*files, *(f"{name}-" for name in others)])
            self.installed = self.apt.installed()
            self._build(version, [])
        self._secure(version)
        return self.result(version)

    def save(self) -> dict[str, Any]:
        """Keep the packages of the installed driver, wherever they are to be had."""
        version, packages = self.wanted["version"], self.driver_packages()
        own = [name for name, text in packages.items() if upstream(text) == version]
        if not own:
            fix = "remove it with its own uninstaller (nvidia-uninstall), then run site.yml."
            found = f"driver {version}, and no package of that version"
            raise Refused(
                refusal("BP155", "the driver was not installed from packages", found, "packages to go back to", fix)
            )
        folder = folder_of(self.root, version, self.wanted["flavour"])
        if self.check:
            self.apt.did += [] if kept(folder) else [f"would keep {len(packages)} packages in {folder}"]
        else:
            facts = {"version": version, "flavour": self.wanted["flavour"], "source": self.wanted["source"]}
            keep(self.apt, folder, packages, self.installed, facts)
        return {**self.result(version), "folder": str(folder)}

    def hold(self) -> dict[str, Any]:
        """Hold the driver that is there, whoever installed it."""
        version = self.wanted["version"]
        if version in {upstream(text) for text in self.driver_packages().values()}:
            self._secure(version)
        return self.result(version)

    # Safety

    def _refuse_unsigned(self) -> None:
        """Secure Boot loads only signed modules: without an enrolled key a DKMS build would leave no driver and no display."""
        if not self.wanted["secure_boot"] or self.set["prebuilt"] or self.built(self.version()):
            return
        for key in self.wanted["signing_keys"]:
            if Path(key).is_file() and "already enrolled" in self.apt.run("mokutil", "--test-key", key).stdout:
                return
        fix = (
            "enrol a key for DKMS once, at the console (docs/driver.md, Secure Boot), take signed packages "
            "(nvidia_driver_source=distribution on Ubuntu), or switch Secure Boot off in the firmware."
        )
        found = f"Secure Boot on and none of {', '.join(self.wanted['signing_keys'])} enrolled"
        wanted = "a key the firmware trusts, before the module is built"
        raise Refused(refusal("BP125", "Secure Boot would refuse the module", found, wanted, fix))

    def _refuse_surprises(self, touched: Mapping[str, str | None], target: str) -> None:
        strangers = [name for name, text in touched.items() if text is None and not is_driver_package(name)]
        mixed = [
            f"{name} {text}"
            for name, text in touched.items()
            if name in self.set["versioned"] and text is not None and upstream(text) != target
        ]
        if strangers or mixed:
            found = "; ".join(
                [*(f"{name} would be removed" for name in strangers), *(f"{one} instead" for one in mixed)]
            )
            fix = "repair the host's packages by hand (apt-get -s install shows the conflict), then run again."
            raise Refused(
                refusal("BP162", "apt would not install what was asked", found, f"driver {target} alone", fix)
            )

    def _verify(self, target: str) -> None:
        """A transitional package can bring another branch than its name says."""
        wrong = [
            f"{name} {self.installed.get(name, 'missing')}"
            for name in self.set["versioned"]
            if upstream(self.installed.get(name, "")) != target
        ]
        if wrong:
            fix = "name a branch and a source that still has it (nvidia_driver_branch, nvidia_driver_source)."
            raise Refused(refusal("BP162", "another driver was installed", ", ".join(wrong), target, fix))

    def built(self, version: str | None) -> bool:
        """Whether the driver's modules lie ready for the kernel that runs."""
        kernel = str(self.wanted["kernel"])
        if version and not self.set["prebuilt"] and shutil.which("dkms"):
            return self._dkms_has(version, kernel)
        modules = Path("/lib/modules") / kernel
        return any(modules.glob("updates/**/nvidia*.ko*")) or any(modules.glob("kernel/**/nvidia*.ko*"))

    def _build(self, target: str, fresh: list[str]) -> None:
        """See that DKMS built the module for the kernel that runs; packages that never worked are taken away again."""
        kernel = str(self.wanted["kernel"])
        if self.set["prebuilt"] or not shutil.which("dkms"):
            return
        if not self._dkms_has(target, kernel):
            done = self.apt.run("dkms", "autoinstall", "-k", kernel)
            self.apt.did.append(f"built the module for {kernel}")
            if not self._dkms_has(target, kernel):
                log = self._make_log(target)
                if fresh:
                    self.apt.install("", [f"{name}-" for name in fresh])
                fix = "see the log; take a branch that builds for this kernel, or a kernel the branch knows."
                left = "the new packages were removed again; " if fresh else ""
                found = f"{left}{errors_of(done)} {log}".strip()
                raise Refused(
                    refusal("BP129", f"module not built for kernel {kernel}", found, f"driver {target} built", fix)
                )

    def _dkms_has(self, target: str, kernel: str) -> bool:
        listed = self.apt.run("dkms", "status", "-k", kernel).stdout
        return any(re.search(rf"nvidia.*{re.escape(target)}.*installed", line) for line in listed.splitlines())

    def _make_log(self, target: str) -> str:
        for log in Path("/var/lib/dkms").glob(f"nvidia*/{target}/build/make.log"):
            copy = self.root / "make.log"
            shutil.copy2(log, copy)
            lines = [line for line in (read_text(copy) or "").splitlines() if "error" in line.lower()]
            return f"({copy}: {' '.join(lines[-2:])[-300:]})"
        return ""

    def _secure(self, version: str) -> None:
        """Pin, hold, keep from unattended upgrades; then prove that an upgrade touches none of it."""
        packages = self.driver_packages()
        before = len(self.apt.did)
        if not self.wanted["hold"]:
            self._release(packages)
            return
        helpers = {name: text for name, text in packages.items() if upstream(text) != version and ":" not in name}
        files = {PIN: pin_text(version, helpers), **self.wanted["hold_files"]}
        for path, text in files.items():
            write_file(path, text, self.apt.did, self.check)
        missing = sorted(set(packages) - self.apt.holds())
        if self.check:
            self.apt.did += [f"would hold {len(missing)} packages"] if missing else []
            return
        self.apt.hold(packages)
        if len(self.apt.did) > before and (threatened := self.apt.threatened()):
            fix = "run site.yml again; if it stays, report the output of apt-get -s dist-upgrade."
            found = f"an upgrade would touch {', '.join(threatened)}"
            raise Refused(
                refusal("BP163", "the hold does not hold", found, "no driver package in a simulated upgrade", fix)
            )

    def _release(self, packages: Mapping[str, str]) -> None:
        for path in (PIN, *self.wanted["hold_files"]):
            write_file(path, None, self.apt.did, self.check)
        held = sorted(set(packages) & self.apt.holds())
        if held and not self.check:
            self.apt.act(f"released {len(held)} packages", "apt-mark", "unhold", *held)
        elif held:
            self.apt.did.append(f"would release {len(held)} packages")
