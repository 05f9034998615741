"""The package transaction of a driver on an apt host: version, copies to go back to, installation, build, hold, proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.apt import Apt, Refused
from ansible.module_utils.bedplate.apt_origin import AptOrigin
from ansible.module_utils.bedplate.driver_build import SINCE_BOOT, ModuleBuild
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
from ansible.module_utils.bedplate.hostfacts import read_text
from ansible.module_utils.bedplate.refusal import refusal

PIN = "/etc/apt/preferences.d/bedplate-nvidia"


@dataclass(frozen=True)
class Transaction:
    """One installation as apt simulated it. touched: package -> version it gets, None: it goes. whole: the driver afterwards."""

    version: str
    names: list[str]
    headers: list[str]
    touched: Mapping[str, str | None]
    whole: Mapping[str, str]

    @property
    def removals(self) -> list[str]:
        """Packages that go, as apt-get wants them."""
        return [f"{name}-" for name, text in self.touched.items() if text is None]


class AptDriver:
    """One host's driver packages. wanted: the module's parameters (see bedplate_driver_packages)."""

    def __init__(self, wanted: Mapping[str, Any], check: bool) -> None:
        self.wanted, self.check = wanted, check
        self.set: Mapping[str, Any] = wanted["packages"]
        self.root = Path(wanted["root"])
        self.apt = Apt(wanted["wait"])
        self.log = self.apt
        self.modules = self._modules()
        self.installed = self.apt.installed()

    def _modules(self) -> ModuleBuild:
        """Asked anew once DKMS itself may have been installed."""
        return ModuleBuild(self.apt.run, str(self.wanted["kernel"]), self.set["prebuilt"], self.root)

    def driver_packages(self) -> dict[str, str]:
        """Installed packages of any driver, with helpers: what is held and kept."""
        return {name: text for name, text in self.installed.items() if is_driver_package(name)}

    def result(self, version: str | None) -> dict[str, Any]:
        """What the role writes into the receipt, and what was done, in words."""
        packages = self.driver_packages()
        held = bool(packages) and set(packages) <= self.apt.holds()
        return {
            "version": version,
            "packages": packages,
            "held": held,
            "did": self.apt.did,
            "since_boot": SINCE_BOOT.exists(),
        }

    def ensure(self, newest: bool) -> dict[str, Any]:
        """Install what is missing and hold it. newest: take the repository's newest of the branch, not the installed one."""
        version = self._newest_known() if newest else self._installed_version()
        if version is None or not self._complete(version):
            if self.check:
                return {**self.result(version), "did": [self._would()]}
            version = self._install(None if newest else version)
        self._secure(version)
        return self.result(version)

    def hold(self) -> dict[str, Any]:
        """Hold the driver that is there, whoever installed it."""
        version = self.wanted["version"]
        if version in {upstream(text) for text in self.driver_packages().values()}:
            self._secure(version)
        return self.result(version)

    def modules_ready(self, version: str | None) -> bool:
        """Whether the next boot finds the driver's modules."""
        return bool(self._modules().ready(version))

    # What is there, what would be

    def _installed_version(self) -> str | None:
        """Version of the installed driver of the wanted set; None if it is not the one wanted."""
        found = upstream(self.installed.get(self.set["versioned"][0], ""))
        if found is None or branch_of(found) != int(self.wanted["branch"]):
            return None
        if self.wanted["version"] not in (None, found):
            return None
        least = self.wanted["at_least"]
        return None if least and sort_key(found) < sort_key(least) else found

    def _newest_known(self) -> str | None:
        """What the indexes as last read offer, if that is what is installed."""
        offered = self.apt.offered(self.set["versioned"])
        branch, exact = int(self.wanted["branch"]), self.wanted["version"]
        target = choose_version(offered, branch, exact, self.wanted["at_least"])
        return self._installed_version() if target in (None, self._installed_version()) else None

    def _complete(self, version: str) -> bool:
        """Whether nothing is left to install."""
        names = [*self.set["first"], *self._names(), *self.set["headers"], *self._followers()]
        right = all(upstream(self.installed.get(name, "")) == version for name in self.set["versioned"])
        present = all(name in self.installed for name in names) and not set(self.set["rivals"]) & set(self.installed)
        return right and present and not self.apt.broken() and self.modules.ready(version)

    def _names(self) -> list[str]:
        return [*self.set["versioned"], *self.set["helpers"]]

    def _followers(self) -> list[str]:
        """Headers that follow the kernel package the host follows, so that DKMS builds for its next kernel too."""
        if self.set["prebuilt"]:
            return []
        return [new for image, new in self.wanted["follow"].items() if image in self.installed]

    def _would(self) -> str:
        exact = self.wanted["version"] or f"the newest of R{self.wanted['branch']}"
        names = [*self._names(), *self.set["headers"]]
        missing = [name for name in names if name not in self.installed]
        gone = to_replace(self.installed, self.set["versioned"], self.wanted["version"] or "")
        gone += [name for name in self.set["rivals"] if name in self.installed]
        text = f"would install driver {exact}: {', '.join(missing or names)}"
        return text + (f"; would remove {', '.join(sorted(set(gone)))}" if gone else "") + "; would hold them"

    # The installation

    def _install(self, version: str | None) -> str:
        self._refuse_unsigned()
        self._repair()
        target, headers = self._target(version)
        before = read_text(PIN)
        write_file(PIN, pin_text(target, {}), self.apt.did)
        try:
            transaction = self._simulated(target, headers)
            self._keep(transaction)
            self._perform(transaction)
        except Refused:
            # A pin of a version that is not there would only confuse who repairs this by hand.
            if upstream(self.apt.present().get(self.set["versioned"][0], "")) != target:
                write_file(PIN, before, self.apt.did)
            raise
        return target

    def _repair(self) -> None:
        # What was cut off is built only now, so the last boot cannot have loaded it.
        if any(is_driver_package(name) for name in self.apt.broken()):
            SINCE_BOOT.touch()
        try:
            if self.apt.repair():
                self.installed = self.apt.installed()
        except Refused as refused:
            self._give_up_build(set(self.installed), said=str(refused))
            raise

    def _target(self, version: str | None) -> tuple[str, list[str]]:
        """The version to install and the headers still missing. Raises Refused BP122, BP128, BP164."""
        branch, exact = int(self.wanted["branch"]), version or self.wanted["version"]
        origin = AptOrigin(self.apt, self.wanted, bool(self._kept_set(exact)))
        headers = [name for name in [*self.set["headers"], *self._followers()] if name not in self.installed]
        offered = origin.provide([*self.set["first"], *self._names()], headers, refresh=version is None)
        driver = {name: offered[name] for name in self.set["versioned"]}
        if version:
            # What is installed already need not be offered any more.
            driver = {name: [*driver[name], self.installed.get(name, "")] for name in driver}
        for name, text in self._kept_set(exact).items():
            # The repositories may have given up what was installed here once.
            driver[name] = [*driver[name], text]
        target: str | None = choose_version(driver, branch, exact, self.wanted["at_least"])
        if not target:
            raise Refused(origin.no_version(driver))
        first = [name for name in self.set["first"] if name not in self.installed]
        if first:
            self.apt.install(f"installed {', '.join(first)}", first)
        return target, headers

    def _kept_set(self, version: str | None) -> dict[str, str]:
        """The versioned packages as they were kept when this version was installed here; empty if they were not."""
        have = kept(folder_of(self.root, version, self.wanted["flavour"])) if version else {}
        names = self.set["versioned"]
        return {name: have[name] for name in names} if set(names) <= set(have) else {}

    def _simulated(self, target: str, headers: list[str]) -> Transaction:
        """What apt would do under the pin, with everything of another driver gone. Raises Refused BP161, BP162."""
        names, there = self._names(), self.apt.present()
        offered = self.apt.offered(self.set["versioned"])
        if not all(any(upstream(text) == target for text in texts) for texts in offered.values()):
            folder = folder_of(self.root, target, self.wanted["flavour"])
            names = verified_files(folder) if self._kept_set(target) else names
        rivals = [f"{name}-" for name in self.set["rivals"] if name in there]
        touched = self.apt.simulate("install", *names, *headers, *rivals)
        stale = [name for name in to_replace(there, touched, target) if name not in self._names()]
        offered = self.apt.offered(stale)
        # What nothing of the new driver asks for goes, unless the new driver has it too.
        stays = [name for name in stale if any(upstream(text) == target for text in offered[name])]
        gone = [f"{name}-" for name in stale if name not in stays]
        touched = self.apt.simulate("install", *names, *stays, *headers, *rivals, *gone)
        self._refuse_surprises(touched, target)
        after: dict[str, str | None] = {**there, **touched}
        whole = {name: text for name, text in after.items() if text is not None and is_driver_package(name)}
        return Transaction(target, self._names(), headers, touched, whole)

    def _keep(self, transaction: Transaction) -> Path:
        """Copies of the whole driver as it will be, to install from now and to come back to later."""
        folder: Path = folder_of(self.root, transaction.version, self.wanted["flavour"])
        named = {"version": transaction.version, "flavour": self.wanted["flavour"], "source": self.wanted["source"]}
        keep(self.apt, folder, transaction.whole, self.installed, named)
        return folder

    def _perform(self, transaction: Transaction) -> None:
        fresh = {name for name, text in transaction.touched.items() if text is not None}
        bare = {name.split(":")[0] for name in fresh}
        folder = folder_of(self.root, transaction.version, self.wanted["flavour"])
        files = [file for file in verified_files(folder) if Path(file).name.split("_")[0] in bare]
        # Helpers that are no part of the kept driver come from the repository.
        others = [name for name in transaction.names if name in fresh and name not in kept(folder)]
        had = set(self.installed)
        if transaction.touched:
            words = [*files, *others, *transaction.headers, *transaction.removals]
            SINCE_BOOT.touch()
            try:
                self.apt.install(f"installed driver {transaction.version} with {len(files)} packages", words)
            except Refused as refused:
                modules = self._modules()
                if modules.by_dkms and not modules.ready(transaction.version):
                    self._give_up_build(had, transaction.version, str(refused))
                raise
        self.installed = self.apt.installed()
        self._verify(transaction.version)
        self._build(transaction.version, had)

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

    def _build(self, target: str, had: set[str]) -> None:
        """See that the module was built for the kernel that runs."""
        modules = self._modules()
        if modules.by_dkms and not modules.ready(target):
            if not modules.build(target):
                self._give_up_build(had, target)
            self.apt.did.append(f"built the module for {modules.kernel}")

    def _give_up_build(self, had: set[str], version: str | None = None, said: str = "") -> None:
        """Refuse a driver whose module cannot be built (BP129). Where there was none before, its packages are taken away again:
        they blacklist nouveau, and a server must not be left without a driver and without a display."""
        there = self.apt.present()
        version = version or next((upstream(there[name]) for name in self.apt.broken() if "dkms" in name), None)
        if version is None:
            return
        reason = (
            self.modules.reason(version)
            or said.partition("found ")[2].partition(", wanted")[0]
            or "nothing of it in `dkms status`"
        )
        fresh = sorted(name for name in there if name not in had and is_driver_package(name))
        left = "what was installed is left as it is"
        if not any("dkms" in name for name in had if is_driver_package(name)):
            gone = self.apt.run("apt-get", "remove", "-y", "-q", "--allow-change-held-packages", *fresh)
            left = "its packages were removed again" if gone.returncode == 0 else "its packages could not be removed"
            write_file(PIN, None, self.apt.did)
        fix = "take a branch that builds for this kernel (nvidia_driver_branch, nvidia_driver_source), or boot an older kernel."
        found = f"{reason}; {left}"
        title = f"module not built for kernel {self.modules.kernel}"
        raise Refused(refusal("BP129", title, found, f"driver {version} built by DKMS", fix))

    # Safety

    def _refuse_unsigned(self) -> None:
        """Secure Boot loads only signed modules: without an enrolled key a DKMS build would leave no driver and no display."""
        if not self.wanted["secure_boot"] or self.set["prebuilt"]:
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
            told = [*(f"{name} would be removed" for name in strangers), *(f"{one} instead" for one in mixed)]
            fix = "repair the host's packages by hand (apt-get -s install shows the conflict), then run again."
            text = refusal("BP162", "apt would not do what was asked", "; ".join(told), f"driver {target} alone", fix)
            raise Refused(text)

    def _secure(self, version: str) -> None:
        """Pin, hold, keep from unattended upgrades; then prove that an upgrade touches none of it."""
        packages = self.driver_packages()
        if not self.wanted["hold"]:
            self._release(packages)
            return
        before = len(self.apt.did)
        helpers = {name: text for name, text in packages.items() if upstream(text) != version and ":" not in name}
        files = {PIN: pin_text(version, helpers), **self.wanted["hold_files"]}
        for path, text in files.items():
            write_file(path, text, self.apt.did, self.check)
        if self.set["prebuilt"]:
            # A newer kernel would come without modules: the packages that bring kernels are held too.
            brings = [*self.wanted["follow"], *self.wanted["follow"].values()]
            brings += [name.replace("linux-image-", "linux-", 1) for name in self.wanted["follow"]]
            packages = {**packages, **{name: self.installed[name] for name in brings if name in self.installed}}
        missing = sorted(set(packages) - self.apt.holds())
        if self.check:
            self.apt.did += [f"would hold {len(missing)} packages"] if missing else []
            return
        self.apt.hold(packages)
        if len(self.apt.did) > before and (threatened := self.apt.threatened()):
            fix = "run site.yml again; if it stays, report the output of apt-get -s dist-upgrade."
            found = f"an upgrade would touch {', '.join(threatened)}"
            text = refusal("BP163", "the hold does not hold", found, "no driver package in a simulated upgrade", fix)
            raise Refused(text)

    def _release(self, packages: Mapping[str, str]) -> None:
        for path in (PIN, *self.wanted["hold_files"]):
            write_file(path, None, self.apt.did, self.check)
        held = sorted(set(packages) & self.apt.holds())
        if held and not self.check:
            self.apt.act(f"released {len(held)} packages", "apt-mark", "unhold", *held)
        elif held:
            self.apt.did.append(f"would release {len(held)} packages")
