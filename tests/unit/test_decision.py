"""From probe to question, from answer to receipt, and what is said when a server changed since the last run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.bedplate.decision import drift, stack_facts
from ansible.plugins.loader import filter_loader

from ops.paths import LOCKS, ROOT

HOSTS = Path(__file__).resolve().parents[1] / "fixtures" / "hosts"
SYSTEM = {"distribution": "Debian", "distribution_version": "12.15", "architecture": "x86_64"}
SERVICE_LOCK = ROOT / "app" / "server" / "requirements" / "inference.txt"
ENVIRONMENTS = [
    {
        "name": "inference",
        "python": "3.11",
        "locks": [str(SERVICE_LOCK), "/nowhere/torch-undecided.txt"],
        "proof": ["torch", "transformers", "fastapi"],
    }
]


def probe(tree: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((HOSTS / tree / "host.yml").read_text())["probe"]
    return {"glibc": "2.36", **found}


def filters(name: str) -> Any:
    return filter_loader.get(name).j2_function


@pytest.fixture(scope="module", autouse=True)
def filter_plugins() -> None:
    filter_loader.add_directory(str(ROOT / "plugins" / "filter"))


def decided(
    tree: str, receipt: dict[str, Any] | None = None, torch: str = "auto", variant: str = "auto"
) -> dict[str, Any]:
    """The section cuda_match a run on this tree leaves after one that left `receipt`."""
    locks = filters("locked_stacks")([str(LOCKS)])
    want = filters("stack_wish")(ENVIRONMENTS, "inference", torch, variant, locks)
    facts = stack_facts(probe(tree), SYSTEM, "3.11")
    return dict(filters("stack_decision")(facts, want, receipt)["section"])


def test_a_driver_change_decides_anew_and_says_so() -> None:
    before = {"cuda_match": decided("a100-535")}
    after = decided("a100-580", before)
    assert (before["cuda_match"]["torch"], before["cuda_match"]["variant"]) == ("2.10.0", "cu128")
    assert (after["verdict"], after["torch"], after["variant"]) == ("ok", "2.13.0", "cu130")
    old, new = (probe(tree)["nvidia_module"] for tree in ("a100-535", "a100-580"))
    flavours = [f"kernel modules {old['flavour']} → {new['flavour']}"] if old["flavour"] != new["flavour"] else []
    changes = ", ".join([f"driver {old['version']} → {new['version']}", *flavours])
    assert drift(before, probe("a100-580"), after) == [
        f"{changes} since the last run: torch resolved again: 2.10.0+cu128 → 2.13.0+cu130"
    ]
    assert after["changed_from"] == {"driver": old["version"], "torch": "2.10.0", "variant": "cu128"}


def test_a_run_without_a_change_says_nothing_and_keeps_the_receipt() -> None:
    before = {"cuda_match": decided("a100-535")}
    after = {"cuda_match": decided("a100-580", before)}
    again = decided("a100-580", after)
    assert drift(after, probe("a100-580"), again) == []
    assert again == after["cuda_match"]


def test_the_first_run_and_one_after_an_older_release_say_nothing() -> None:
    section = decided("a100-535")
    assert "changed_from" not in section
    assert drift({}, probe("a100-535"), section) == []
    assert drift({"cuda_match": {"variant": "cpu", "verdict": "ok"}}, probe("a100-535"), section) == []


def pci_ids(found: dict[str, Any]) -> dict[str, Any]:
    """What role preflight leaves in the receipt."""
    return {"gpus": [gpu["pci_id"] for gpu in found["gpus"]]}


def test_a_lost_driver_and_another_wish_are_said() -> None:
    before = {"cuda_match": decided("a100-535"), "preflight": pci_ids(probe("a100-535"))}
    # The same GPUs: without a driver they have no names, which is no change of theirs.
    assert drift(before, probe("no-driver"), decided("no-driver", before)) == [
        "driver 535.261.03 → none, kernel modules proprietary → none since the last run: "
        "torch resolved again: 2.10.0+cu128 → 2.13.0+cu130"
    ]
    wished = decided("a100-535", before, variant="cu126")
    assert drift(before, probe("a100-535"), wished) == [
        "wish torch auto, variant auto → torch auto, variant cu126 since the last run: "
        "torch resolved again: 2.10.0+cu128 → 2.7.1+cu126"
    ]


def test_gpus_come_and_go() -> None:
    before = {"cuda_match": decided("a100-535"), "preflight": pci_ids(probe("a100-535"))}
    fewer = {**probe("a100-535"), "gpus": probe("a100-535")["gpus"][:1]}
    section = {**decided("a100-535", before), "gpus": ["NVIDIA A100 80GB PCIe"]}
    assert drift(before, fewer, section) == [
        "GPUs in use 2 x NVIDIA A100 80GB PCIe → 1 x NVIDIA A100 80GB PCIe since the last run: "
        "torch resolved again: 2.10.0+cu128 stays"
    ]
    # nvidia_driver_policy: ignore.
    section = {**decided("a100-535", before), "gpus": [], "torch": "2.13.0", "variant": "cpu"}
    assert drift(before, probe("a100-535"), section) == [
        "GPUs in use 2 x NVIDIA A100 80GB PCIe → none since the last run: torch resolved again: 2.10.0+cu128 → 2.13.0+cpu"
    ]


def test_without_a_driver_gpus_are_known_by_their_pci_id() -> None:
    facts = stack_facts(probe("no-driver"), SYSTEM, None)
    assert facts["driver"] is None and facts["python"] is None
    assert all(set(gpu) == {"pci_id"} for gpu in facts["gpus"]) and facts["gpus"]
    assert decided("no-driver")["verdict"] == "plan"


def test_a_host_without_gpus_has_the_cpu_build() -> None:
    facts = stack_facts({**probe("a100-535"), "gpus": []}, SYSTEM, "3.11")
    assert (facts["gpus"], facts["driver"], facts["cuda_compat"]) == ([], None, None)
    locks = filters("locked_stacks")([str(LOCKS)])
    want = filters("stack_wish")(ENVIRONMENTS, "inference", "auto", "auto", locks)
    decision = filters("stack_decision")(facts, want)["section"]
    assert (decision["verdict"], decision["torch"], decision["variant"]) == ("ok", "2.13.0", "cpu")


def test_the_revision_of_the_compat_package_is_no_part_of_its_version() -> None:
    package = {"package": "cuda-compat-13-0", "version": "580.95.05-0ubuntu1"}
    facts = stack_facts({**probe("a100-535"), "cuda_compat": package}, SYSTEM, None)
    assert facts["cuda_compat"] == "cuda-compat-13-0 580.95.05"


def test_the_wish_has_the_pinned_libraries_the_service_must_run() -> None:
    want = filters("stack_wish")(ENVIRONMENTS, "inference", "auto", "auto", [])
    assert list(want["libs"]) == ["transformers"]
    assert filters("environment_python")(ENVIRONMENTS, "inference") == "3.11"
    assert filters("environment_python")([{"name": "inference", "explicit": "x"}], "inference") == ""


@pytest.mark.parametrize(
    ("change", "torch", "begins"),
    [
        ({"driver": "470.256.02"}, "auto", "BP306 no PyTorch build fits: found not_locked: torch 2.7.1+cu118"),
        ({"driver": "535.261.03"}, "2.13.0", "BP306 no PyTorch build fits: found not_locked: torch 2.13.0+cu126"),
        ({"driver": "390.157"}, "auto", "BP145 no PyTorch build fits: found driver_too_old_for_gpu"),
        ({"gpus": [{"name": "Voodoo 2"}]}, "auto", "BP141 unknown GPU 'Voodoo 2'"),
        ({}, 2.1, "BP142 torch cannot be read"),
    ],
)
def test_what_cannot_run_is_refused_with_the_resolvers_code_and_fix(
    change: dict[str, Any], torch: Any, begins: str
) -> None:
    facts = {**stack_facts(probe("a100-535"), SYSTEM, "3.11"), **change}
    want = filters("stack_wish")(ENVIRONMENTS, "inference", torch, "auto", filters("locked_stacks")([str(LOCKS)]))
    answer = filters("stack_decision")(facts, want)
    assert answer["section"]["verdict"] == "reject"
    assert answer["problem"].startswith(begins) and "Fix: " in answer["problem"], answer["problem"]


def test_damaged_locks_and_missing_folders_are_refused_and_not_chosen_from(tmp_path: Path) -> None:
    damaged = tmp_path / "torch-2.14.1-cu130.txt"
    damaged.write_text("torch==2.14.1\n")
    problems = filters("lock_problems")([str(tmp_path), str(tmp_path / "none")])
    assert [problem.split()[0] for problem in problems] == ["BP307", "BP307"]
    assert filters("locked_stacks")([str(tmp_path)]) == []
