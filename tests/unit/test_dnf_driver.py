"""The driver's packages on a dnf host, against a stand-in for dnf and rpm (no such system is at hand): stream, versions, lock, way back."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.bedplate import dnf_driver
from ansible.module_utils.bedplate.apt import Refused
from ansible.module_utils.bedplate.dnf_driver import DnfDriver

OFFERED = {
    "kmod-nvidia-open-dkms": ["3:580.95.05-1.el9", "3:580.82.07-1.el9"],
    "nvidia-driver-cuda": ["3:580.95.05-1.el9", "3:580.82.07-1.el9"],
}
SET = {
    "versioned": list(OFFERED), "helpers": ["nvidia-modprobe"], "first": ["epel-release"], "rivals": ["kmod-nvidia-latest-dkms"],
    "headers": ["kernel-devel-5.14.0-503.el9.x86_64"], "prebuilt": False, "stream": "580-open",
}  # fmt: skip


class Host:
    """dnf and rpm as far as the driver uses them: what is installed, locked, offered; every changing command is noted."""

    def __init__(self) -> None:
        self.installed: dict[str, str] = {"bash": "5.1-1"}
        self.locked: set[str] = set()
        self.stream = ""
        self.changes: list[str] = []

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        words = [word for word in argv if word not in ("-y", "-q") and not word.startswith("--setopt")]
        if words[0] == "timeout":
            words = words[2:]
            self.changes.append(" ".join(words))
        out, code = self.answer(words)
        return subprocess.CompletedProcess(argv, code, out, "")

    def answer(self, words: list[str]) -> tuple[str, int]:
        match words:
            case ["rpm", "-qa", *_]:
                return "".join(f"{name}\t{text}\n" for name, text in self.installed.items()), 0
            case ["rpm", "-q", name]:
                return "", 0 if name in self.installed else 1
            case ["rpm", "-qp", *_, file]:
                name, text = Path(file).stem.split("=")
                return f"{name}\t{text}", 0
            case ["dnf", "module", "list", *_]:
                return f"nvidia-driver {self.stream} [e]\n", 0
            case ["dnf", "module", "enable", stream]:
                self.stream = stream.split(":")[1]
            case ["dnf", "repoquery", *_]:
                return "".join(f"{name}\t{text}\n" for name in OFFERED for text in OFFERED[name]), 0
            case ["dnf", "download", "--destdir", folder, *names]:
                for word in names:
                    name = next(known for known in self.installed if word == f"{known}-{self.installed[known]}")
                    (Path(folder) / f"{name}={self.installed[name]}.rpm").write_text(word)
            case ["dnf", "remove", "--noautoremove", *names]:
                for name in names:
                    self.installed.pop(name)
            case ["dnf", "--allowerasing", "install", *names]:
                for word in names:
                    name, text = Path(word).stem.split("=") if word.endswith(".rpm") else self.named(word)
                    self.installed[name] = text
            case ["dnf", "install", *names]:
                self.installed |= dict.fromkeys(names, "1-1")
            case ["dnf", "versionlock", "list"]:
                return "".join(f"{name}-{self.installed.get(name, '0')}.*\n" for name in self.locked), 0
            case ["dnf", "versionlock", "add", *names]:
                self.locked |= set(names)
            case ["dnf", "versionlock", "delete", *names]:
                self.locked -= set(names)
        return "", 0

    def named(self, word: str) -> tuple[str, str]:
        for name, texts in OFFERED.items():
            for text in texts:
                if word == f"{name}-{text}":
                    return name, text
        return word, "1-1"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    made = Host()
    monkeypatch.setattr(DnfDriver, "run", lambda self, *argv: made.run(*argv))
    monkeypatch.setattr(DnfDriver, "modules_ready", lambda self, version: True)
    monkeypatch.setattr(dnf_driver.ModuleBuild, "ready", lambda self, version: True)
    monkeypatch.setattr(dnf_driver, "SINCE_BOOT", tmp_path / "since-boot")
    monkeypatch.setattr(dnf_driver, "KEY", str(tmp_path / "key"))
    monkeypatch.setattr(dnf_driver, "REPOSITORY", str(tmp_path / "nvidia.repo"))
    monkeypatch.setattr(dnf_driver, "fetched", lambda url: b"key")
    monkeypatch.setattr(dnf_driver, "fingerprints", lambda key: ["ABCD"] if key else [])
    return made


def driver(tmp_path: Path, check: bool = False, **changed: Any) -> DnfDriver:
    wanted = {
        "packages": SET, "branch": "580", "version": None, "at_least": None, "flavour": "open", "source": "nvidia",
        "kernel": "5.14.0-503.el9.x86_64", "hold": True, "root": str(tmp_path / "driver"), "wait": 1,
        "repository": {"url": "https://mirror.example/rhel9/x86_64", "key_url": "x", "fingerprint": "ABCD"},
        "former_version": None, "former_flavour": None, "former_source": None,
    }  # fmt: skip
    return DnfDriver({**wanted, **changed}, check)


def test_a_bare_host_gets_the_stream_the_newest_complete_version_and_a_lock(host: Host, tmp_path: Path) -> None:
    result = driver(tmp_path).ensure(newest=False)
    assert (result["version"], result["held"], host.stream) == ("580.95.05", True, "580-open")
    assert host.installed["kmod-nvidia-open-dkms"] == "3:580.95.05-1.el9"
    assert {"kmod-nvidia-open-dkms", "nvidia-driver-cuda", "nvidia-modprobe"} <= host.locked
    assert len(list((tmp_path / "driver" / "580.95.05-open").glob("*.rpm"))) == 3
    assert "gpgcheck=1" in (tmp_path / "nvidia.repo").read_text()


def test_a_second_run_changes_nothing_and_an_installed_version_of_the_branch_stays(host: Host, tmp_path: Path) -> None:
    driver(tmp_path, version="580.82.07").ensure(newest=False)
    host.changes.clear()
    again = driver(tmp_path).ensure(newest=False)
    assert (again["version"], again["did"], host.changes) == ("580.82.07", [], [])


def test_a_kept_driver_comes_back_in_its_exact_versions(host: Host, tmp_path: Path) -> None:
    driver(tmp_path, version="580.82.07").ensure(newest=False)
    driver(tmp_path).ensure(newest=True)
    assert host.installed["nvidia-driver-cuda"] == "3:580.95.05-1.el9"
    result = driver(tmp_path).restore(tmp_path / "driver" / "580.82.07-open")
    assert (result["version"], host.installed["nvidia-driver-cuda"], result["held"]) == (
        "580.82.07",
        "3:580.82.07-1.el9",
        True,
    )


def test_check_mode_says_what_it_would_do_and_does_nothing(host: Host, tmp_path: Path) -> None:
    (said,) = driver(tmp_path, check=True).ensure(newest=False)["did"]
    assert "would install driver R580: kmod-nvidia-open-dkms" in said and host.changes == []


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"version": "580.1.1"}, "BP122"),
        ({"repository": {"url": "u", "key_url": "k", "fingerprint": "EEEE"}}, "BP164"),
    ],
)
def test_a_wrong_key_or_a_version_that_is_not_there_is_refused(
    host: Host, tmp_path: Path, changed: Any, code: str
) -> None:
    with pytest.raises(Refused, match=code):
        driver(tmp_path, **changed).ensure(newest=False)
    assert not [change for change in host.changes if "install" in change and "nvidia" in change]


def test_a_driver_of_nvidias_installer_has_nothing_to_go_back_to(host: Host, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="BP155"):
        driver(tmp_path, former_version="570.86.15", former_flavour="open").prepare()
