"""`./bedplate resolve` and the Ansible filters: the same answers for a person, a script and a play."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.plugins.loader import filter_loader

from ops.resolve import questions_of, resolve
from plugins.module_utils.stack import Decision, StackError
from plugins.module_utils.stack import resolve as decide
from plugins.module_utils.stack.explain import lines

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "unit" / "data" / "stack" / "cases.yml"
FIELDS = [
    "verdict", "reason", "also", "driver", "torch", "variant", "alternatives", "minor_compat", "forward_compat", "explanation", "fix",
]  # fmt: skip
QUESTION = {
    "facts": {"gpus": [{"name": "Tesla T4"}], "driver": "580.95.05", "python": "3.12"},
    "want": {"torch": "2.9.1"},
}


def fab(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fabric", "--search-root", str(ROOT), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def question_file(tmp_path: Path) -> Path:
    path = tmp_path / "question.yml"
    path.write_text(yaml.safe_dump(QUESTION))
    return path


def test_one_question_gives_one_object_with_the_fields_of_the_contract(
    question_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resolve(question_file, {}, as_json=True) == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == FIELDS
    assert answer == decide(QUESTION["facts"], QUESTION["want"]).as_dict()


def test_cases_give_a_list_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve(CASES, {}, as_json=True) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["id"] for answer in answers] == [question.id for question in questions_of(CASES)]
    assert all(list(answer) == ["id", *FIELDS] for answer in answers)


def test_json_is_a_question_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "question.json"
    path.write_text(json.dumps([{"id": 7, **QUESTION}]))
    assert resolve(path, {}, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == "7"


def test_unquoted_versions_in_a_file_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "question.yml"
    path.write_text(
        "facts: {gpus: [], driver: null, python: 3.10, os: {id: ubuntu, version: 22.04}}\nwant: {torch: 2.10}\n"
    )
    question = questions_of(path)[0]
    assert (question.facts["python"], question.want["torch"], question.facts["driver"]) == ("3.10", "2.10", None)
    decision = decide(question.facts, question.want)
    assert isinstance(decision, Decision) and decision.torch == "2.10.0"


@pytest.mark.parametrize(
    ("flags", "status", "says"),
    [
        ({"gpu": ["NVIDIA L4"], "driver": "580.95.05", "os": "debian-12"}, 0, "ok: torch 2.15.0+cu130"),
        ({"gpu": ["NVIDIA L4", "Tesla V100-PCIE-16GB"], "module": "proprietary", "driver": "580.95.05"}, 0, "torch 2.14.1+cu126"),
        ({"gpu": ["NVIDIA L4"]}, 0, "plan: driver 580 with the open kernel modules"),
        ({"gpu": ["NVIDIA L4"], "driver": "535.216.01", "variant": "cu130"}, 1, "reject BP146 driver_too_old_for_cuda"),
        ({"gpu": ["NVIDIA L4"], "lib": ["vllm=0.20.0"], "os": "debian-11", "driver": "580.95.05"}, 1, "needs glibc 2.35"),
        ({"gpu": ["NVIDIA L4"], "glibc": "2.17", "os": "scientific-7", "driver": "580.95.05", "torch": "2.9.1"}, 1, "scientific 7 has 2.17"),
        ({"gpu": ["NVIDIA L5"]}, 2, "BP141 unknown GPU 'NVIDIA L5', nearest known names: NVIDIA L"),
        ({}, 2, "BP140 no question was asked"),
    ],
)  # fmt: skip
def test_flags_ask_and_the_status_tells(
    flags: dict[str, Any], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resolve(None, flags, as_json=False) == status
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("facts: [", "BP140 .*cannot be read"), ("just text", "BP140 .*has no question"), ("cases: [{id: a}]", "BP140 .*case a has no question"),
        ("{facts: {gpus: []}, want: cpu}", "BP140 .*has no question"),
    ],
)  # fmt: skip
def test_a_file_without_a_question_is_refused(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "question.yml"
    path.write_text(text)
    assert resolve(path, {}, as_json=True) == 2
    printed = capsys.readouterr()
    assert re.search(message + r".*\. Fix: ", printed.err) and printed.out == ""
    with pytest.raises(StackError, match="BP140"):
        questions_of(tmp_path / "missing.yml")


def test_a_file_and_flags_contradict(question_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve(question_file, {"driver": "580.95.05"}, as_json=False) == 2
    assert "BP143" in capsys.readouterr().out


def test_one_unreadable_case_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cases.yml"
    path.write_text(
        yaml.safe_dump({"cases": [{"id": "bad", "facts": {"gpus": [{"name": "GPU X"}]}}, {"id": "good", **QUESTION}]})
    )
    assert resolve(path, {}, as_json=True) == 0
    bad, good = json.loads(capsys.readouterr().out)
    assert (bad["verdict"], bad["reason"], good["verdict"]) == ("reject", None, "ok")
    assert bad["explanation"][0].startswith("BP141") and list(bad) == ["id", *FIELDS]
    assert resolve(path, {}, as_json=False) == 2


def test_the_verb_takes_several_gpus_and_prints_nothing_but_json() -> None:
    done = fab(
        "resolve", "--gpu", "Tesla T4", "--gpu", "NVIDIA L4", "--driver", "535.216.01", "--python", "3.12", "--json"
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["verdict"], answer["torch"], answer["minor_compat"]) == ("ok", "2.14.1", True)


def test_the_example_in_the_documentation_is_real() -> None:
    text = (ROOT / "docs" / "resolver.md").read_text(encoding="utf-8")
    example = re.search(r"\$ \./bedplate (resolve .+?)\n(.+?)```", text.replace("\\\n", ""), re.DOTALL)
    assert example
    done = fab(*shlex.split(example[1]))
    assert done.stdout.strip() == example[2].strip()


def test_locked_asks_as_the_play_does(capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"gpu": ["Tesla T4"], "driver": "580.95.05", "python": "3.11", "locked": True}
    resolve(None, {**flags, "torch": "2.14.1"}, as_json=True)
    rejected = json.loads(capsys.readouterr().out)
    assert (rejected["verdict"], rejected["reason"]) == ("reject", "not_locked")
    assert rejected["fix"].startswith("lock it: ./bedplate lock --torch 2.14.1 --variant cu130")
    resolve(None, flags, as_json=True)
    chosen = json.loads(capsys.readouterr().out)
    assert any(line.startswith("lock: torch ") and "would come first" in line for line in chosen["explanation"])


def test_every_reason_is_explained_in_the_documentation() -> None:
    from plugins.module_utils.stack.findings import REASONS

    text = (ROOT / "docs" / "resolver.md").read_text(encoding="utf-8")
    assert [reason for reason in REASONS if f"| `{reason}` |" not in text] == []


def test_the_play_gets_the_same_answer_through_the_filter() -> None:
    filter_loader.add_directory(str(ROOT / "plugins" / "filter"))
    facts, want = (
        {**QUESTION["facts"], "kernel_module": None, "cuda_compat": None},
        {**QUESTION["want"], "variant": "auto"},
    )
    answer = filter_loader.get("stack_decision").j2_function(facts, want)
    decision = decide(facts, want)
    assert {field: answer["section"][field] for field in FIELDS} == decision.as_dict()
    assert (answer["lines"], answer["problem"]) == (lines(decision), "")
