"""What an inventory describes leads to one folder name, and descriptions that cannot be made are refused beforehand."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.bedplate.environments import (
    conda_cause,
    environment_problems,
    pinned_versions,
    resolve,
    stays,
    superseded,
    unfinished,
    unlinked,
    unmade,
)

LOCK = "torch==2.13.0 \\\n    --hash=sha256:aa\nnumpy==2.4.6 \\\n    --hash=sha256:bb\n"
ENVIRONMENT: dict[str, Any] = {"name": "inference", "python": "3.11", "locks": ["a.txt"], "proof": ["torch"]}


def hash_of(environment: dict[str, Any], lock: str = LOCK, tool: str = "uv==1 --hash=sha256:cc") -> str:
    return str(resolve(environment, {"a.txt": lock, "b.txt": lock, "e.txt": lock}, tool, "/opt/bedplate")["hash"])


def test_prefix_and_link_follow_from_name_and_hash() -> None:
    found = resolve(ENVIRONMENT, {"a.txt": LOCK}, "uv==1", "/opt/bedplate")
    assert found["link"] == "/opt/bedplate/envs/inference"
    assert found["prefix"] == f"/opt/bedplate/envs/inference-{found['hash']}"
    assert len(found["hash"]) == 12


@pytest.mark.parametrize(
    "change",
    [{"python": "3.12"}, {"packages": ["ffmpeg"]}, {"explicit": "e.txt"}, {"locks": ["a.txt", "b.txt"]}],
)
def test_whatever_decides_what_is_installed_changes_the_hash(change: dict[str, Any]) -> None:
    assert hash_of({**ENVIRONMENT, **change}) != hash_of(ENVIRONMENT)


def test_a_changed_lock_and_a_changed_tool_change_the_hash() -> None:
    assert len({hash_of(ENVIRONMENT), hash_of(ENVIRONMENT, lock=LOCK + "#"), hash_of(ENVIRONMENT, tool="uv==2")}) == 3


def test_what_does_not_decide_leaves_the_hash() -> None:
    assert hash_of({**ENVIRONMENT, "proof": ["numpy"], "enabled": True}) == hash_of(ENVIRONMENT)
    assert hash_of({**ENVIRONMENT, "packages": ["b", "a"]}) == hash_of({**ENVIRONMENT, "packages": ["a", "b"]})


def test_a_good_environment_has_no_problem() -> None:
    assert environment_problems([ENVIRONMENT], {"a.txt": LOCK}) == []


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"name": "In ference"}, "lower-case"),
        ({"python": 3.1}, "found python 3.1"),
        ({"python": "latest"}, "'latest'"),
        ({"lock": ["a.txt"]}, "the key lock"),
        ({"locks": ["missing.txt"]}, "no file missing.txt"),
        ({"locks": ["a.txt", "other.txt"]}, "numpy 2.4.6 in a.txt and 2.5.0 in other.txt"),
        ({"locks": ["bare.txt"]}, "no hash for numpy"),
        ({"explicit": "bare.txt"}, "no @EXPLICIT line"),
        ({"explicit": "unsummed.txt"}, "no hash after http://x/linux-64/python.conda"),
    ],
)
def test_an_environment_that_cannot_be_made_is_refused(change: dict[str, Any], cause: str) -> None:
    texts: dict[str, str | None] = {
        "a.txt": LOCK,
        "missing.txt": None,
        "other.txt": "numpy==2.5.0 --hash=sha256:dd\n",
        "bare.txt": "numpy==2.4.6\n",
        "unsummed.txt": "@EXPLICIT\nhttp://x/linux-64/python.conda\n",
    }
    problems = environment_problems([{**ENVIRONMENT, **change}], texts)
    assert any(problem.startswith("BP204 ") and cause in problem for problem in problems), problems


def test_two_environments_of_one_name_are_refused() -> None:
    assert "two environments" in environment_problems([ENVIRONMENT, ENVIRONMENT], {"a.txt": LOCK})[0]


def test_pinned_versions_normalises_names() -> None:
    assert pinned_versions("Typing_Extensions==4.1 \\\n --hash=x\nhttpx[http2]==1.0\n# c==1\n") == {
        "typing-extensions": "4.1",
        "httpx": "1.0",
    }


def found(stamped_at: int | None, pristine: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"stamp": {} if stamped_at is None else {"uv": "1"}, "stamped_at": stamped_at, "pristine": pristine}


PREFIX = "/opt/bedplate/envs/inference-"
WANTED: dict[str, Any] = {"name": "inference", "prefix": PREFIX + "0" * 12, "link": "/opt/bedplate/envs/inference"}


@pytest.mark.parametrize(
    ("state", "is_unmade", "is_unfinished"),
    [(None, True, True), (found(None), True, True), (found(None, {}), False, True), (found(5), False, False)],
    ids=["absent", "interrupted", "fresh from conda", "finished"],
)
def test_what_is_to_be_done_follows_from_the_marks(
    state: dict[str, Any] | None, is_unmade: bool, is_unfinished: bool
) -> None:
    on_server = {} if state is None else {WANTED["prefix"]: state}
    assert (unmade([WANTED], on_server) == [WANTED]) is is_unmade
    assert (unfinished([WANTED], on_server) == [WANTED]) is is_unfinished


def test_a_link_to_another_prefix_is_switched() -> None:
    assert unlinked([WANTED], {"inference": PREFIX + "1" * 12}) == [WANTED]
    assert unlinked([WANTED], {"inference": WANTED["prefix"]}) == []


def test_the_latest_finished_environment_is_kept_for_a_rollback() -> None:
    on_server = {
        WANTED["prefix"]: found(10),
        PREFIX + "1" * 12: found(20),
        PREFIX + "2" * 12: found(30),
        PREFIX + "3" * 12: found(None),
        "/opt/bedplate/envs/inference-other-" + "4" * 12: found(1),
    }
    assert superseded([WANTED], on_server, keep=2) == [PREFIX + "1" * 12, PREFIX + "3" * 12]
    assert superseded([WANTED], on_server, keep=1) == [PREFIX + digit * 12 for digit in "123"]


def test_an_environment_that_runs_stays_before_a_later_one() -> None:
    on_server = {WANTED["prefix"]: found(40), PREFIX + "1" * 12: found(20), PREFIX + "2" * 12: found(30)}
    running = [PREFIX + "1" * 12]
    assert superseded([WANTED], on_server, 2, running) == [PREFIX + "2" * 12]
    assert superseded([WANTED], on_server, 1, running) == [PREFIX + "2" * 12]


def test_the_cause_is_what_conda_names_and_not_its_progress() -> None:
    printed = "Collecting package metadata: ...failed\n\nPackagesNotFoundError: not available:\n\n  - nosuch\n"
    assert conda_cause(printed) == "PackagesNotFoundError: not available: - nosuch"
    assert conda_cause("a\n" * 9 + "No space left on device\n").endswith("a No space left on device")


def test_a_failure_says_which_environment_stays() -> None:
    links = {"inference": PREFIX + "1" * 12}
    proven = {"stamp": {"proof": {"torch": {"version": "2.10.0+cu128"}}}, "stamped_at": 1, "pristine": None}
    assert stays("inference", links, {PREFIX + "1" * 12: proven}) == (
        f"inference stays at {PREFIX}{'1' * 12} (torch 2.10.0+cu128)"
    )
    assert stays("inference", {}, {}) == "no environment inference is in use yet"
    assert stays("inference", links, {}) == "no environment inference is in use yet"
