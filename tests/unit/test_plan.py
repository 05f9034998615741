"""The plan in words: what roles say in check mode, and what a switch of environments means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.bedplate.environment_words import switch_plan

from ops.events import Run
from ops.plan import Step, steps
from tests.unit.test_events import event

DEBUG, FILE = "ansible.builtin.debug", "ansible.builtin.file"


def run_of(*tasks: tuple[str, str, bool, Any]) -> Run:
    """A check run of layer base on host a: (task, action, changed, msg)."""
    run = Run()
    run.feed(event("v2_playbook_on_play_start", play={"name": "Base", "path": "/x/playbooks/base.yml:2"}))
    for second, (name, action, changed, msg) in enumerate(tasks):
        run.feed(event("v2_playbook_on_task_start", second, task={"name": name}))
        run.feed(event("v2_runner_on_ok", second, hosts={"a": {"action": action, "changed": changed, "msg": msg}}))
    return run


RECEIPT = ("Write what the layer installed into the receipt", "bedplate_receipt", True, "")


def test_a_role_is_told_by_its_sentences_and_one_without_by_its_tasks() -> None:
    run = run_of(
        ("conda : Say what would change", DEBUG, True, ["conda is installed", "python too"]),
        ("conda : Run the installer", FILE, True, ""),
        ("nginx : Say something else", DEBUG, False, "the fingerprint"),
        ("nginx : Write the site", FILE, True, ""),
        ("nginx : Load the site", FILE, False, ""),
        ("bedplate_tree : Copy what differs", FILE, True, ""),
        RECEIPT,
    )
    assert steps(run, "a") == [
        Step("base", "conda", "conda is installed"),
        Step("base", "conda", "python too"),
        Step("base", "nginx", "Write the site"),
    ]
    assert steps(run, "b") == []


def test_a_receipt_that_alone_would_change_is_told() -> None:
    assert steps(run_of(RECEIPT), "a") == [Step("base", "base", RECEIPT[0])]


LOCK = "/locks/torch-2.13.0-cu130.txt"
WANTED = {
    "name": "inference",
    "python": "3.11",
    "locks": ["/locks/inference.txt", LOCK],
    "prefix": "/opt/bedplate/envs/inference-aaaaaaaaaaaa",
}
LOCKS = {LOCK: "torch==2.13.0 \\\n    --hash=sha256:00\n", "/locks/inference.txt": "numpy==2.0 --hash=sha256:00\n"}
OLD = "/opt/bedplate/envs/inference-bbbbbbbbbbbb"
STAMP = {"torch": "2.7.1", "variant": "cu126", "proof": {"torch": {"version": "2.13.0+cpu"}}}


def test_a_switch_of_environments_names_both_sides() -> None:
    found = {OLD: {"stamp": STAMP}}
    contents = "Python 3.11, torch 2.13.0+cu130 with its CUDA libraries, several GB"
    assert switch_plan([WANTED], found, {"inference": OLD}, LOCKS) == [
        f"environment inference is built anew as inference-aaaaaaaaaaaa: {contents} (now torch 2.7.1+cu126)"
    ]
    finished = {**found, WANTED["prefix"]: {"stamp": STAMP}}
    assert (
        "is switched to inference-aaaaaaaaaaaa, which is finished"
        in switch_plan([WANTED], finished, {"inference": OLD}, LOCKS)[0]
    )
    assert switch_plan([WANTED], {}, {}, LOCKS)[0].endswith("(now none)")
    assert switch_plan([WANTED], finished, {"inference": str(WANTED["prefix"])}, LOCKS) == []


def test_every_role_with_a_plan_says_it_in_check_mode() -> None:
    roles = Path(__file__).resolve().parents[2] / "roles"
    for role in ("conda", "pytorch", "nginx", "model", "inference", "web_client", "demo"):
        told = [path for path in (roles / role / "tasks").glob("*.yml") if "Say what would change" in path.read_text()]
        assert len(told) == 1, role
