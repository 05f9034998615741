"""`./bedplate resolve`: the stack resolver for a person and for scripts. Needs no network and no server."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from ops.paths import LOCKS
from plugins.module_utils.bedplate.torch_locks import read_folders, read_lock
from plugins.module_utils.stack import Decision, StackError
from plugins.module_utils.stack import resolve as decide
from plugins.module_utils.stack.explain import lines

USAGE = './bedplate resolve --facts FILE, or --gpu "Tesla T4" --driver 535.216.01 (see ./bedplate --help resolve)'
OK, REJECTED, UNREADABLE = 0, 1, 2


class _TextLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML that keeps numbers as they are written: 3.10 is a version, not 3.1."""

    yaml_implicit_resolvers: ClassVar[Any] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[1] in ("null", "bool", "merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True)
class Question:
    """One host and one wish. id: its name in a file of cases."""

    facts: Mapping[str, Any]
    want: Mapping[str, Any]
    id: str | None = None


def resolve(facts_file: Path | None, flags: Mapping[str, Any], as_json: bool) -> int:
    """Answer the questions of a file, or the one of the flags, on standard output.

    Returns 0, or for people 1 when a stack was rejected, and 2 for a question that cannot be read. With as_json a reject is an
    answer: 0.
    """
    try:
        questions = questions_of(facts_file) if facts_file else [question_of(flags)]
        if facts_file and any(flags.values()):
            raise StackError("BP143", f"both --facts {facts_file} and flags were given", "give one of them")
    except StackError as error:
        print(error, file=sys.stderr if as_json else sys.stdout)
        return UNREADABLE
    answers = [answer(question) for question in questions]
    if as_json:
        listed = [as_data(question, found) for question, found in zip(questions, answers, strict=True)]
        single = len(listed) == 1 and questions[0].id is None
        print(json.dumps(listed[0] if single else listed, indent=2, ensure_ascii=False))
        return UNREADABLE if single and isinstance(answers[0], StackError) else OK
    for question, found in zip(questions, answers, strict=True):
        if question.id is not None:
            print(f"[{question.id}]")
        print("\n".join([str(found)] if isinstance(found, StackError) else lines(found)))
    if any(isinstance(found, StackError) for found in answers):
        return UNREADABLE
    return REJECTED if any(not isinstance(found, StackError) and found.verdict == "reject" for found in answers) else OK


def answer(question: Question) -> Decision | StackError:
    """The decision, or why the question cannot be read: one bad case does not hide the others."""
    try:
        return decide(question.facts, question.want)
    except StackError as error:
        return error


def as_data(question: Question, found: Decision | StackError) -> dict[str, Any]:
    """The fields of a decision, with the id of a case. A question that cannot be read is rejected with the error as explanation."""
    named = {} if question.id is None else {"id": question.id}
    if isinstance(found, StackError):
        explanation = (f"{found.code} {found.cause}",)
        found = Decision("reject", None, (), None, None, None, (), False, False, explanation, found.fix)
    return {**named, **found.as_dict()}


def questions_of(path: Path) -> list[Question]:
    """The questions of a YAML or JSON file: {facts, want}, {cases: [{id, facts, want}]} or a list of such cases."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_TextLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        cause = f"{path} cannot be read: {' '.join(str(error).split())}"
        raise StackError("BP140", cause, "give a YAML or JSON file") from error
    cases = data.get("cases") if isinstance(data, dict) and "cases" in data else data
    if isinstance(cases, list):
        return [
            _question(path, case, str(case.get("id", n)) if isinstance(case, dict) else "")
            for n, case in enumerate(cases)
        ]
    return [_question(path, cases, None)]


def _question(path: Path, case: Any, name: str | None) -> Question:
    facts, want = (case.get(key) for key in ("facts", "want")) if isinstance(case, dict) else (None, None)
    if not isinstance(facts, dict) or not isinstance(want or {}, dict):
        where = f"{path}, case {name}" if name else str(path)
        raise StackError("BP140", f"{where} has no question: wanted {{facts: {{...}}, want: {{...}}}}", USAGE)
    return Question(facts, want or {}, name)


def question_of(flags: Mapping[str, Any]) -> Question:
    """The question of the command line's flags."""
    if not any(flags.values()):
        raise StackError("BP140", "no question was asked", USAGE)
    system = flags.get("os")
    if flags.get("glibc"):
        name, _, release = str(system or "").rpartition("-")
        system = {"id": name or release, "version": release, "glibc": flags["glibc"]}
    return Question(
        facts={
            "gpus": [{"name": name} for name in flags.get("gpu") or []],
            "driver": flags.get("driver"),
            "kernel_module": flags.get("module"),
            "os": system,
            "arch": flags.get("arch"),
            "python": flags.get("python"),
            "cuda_compat": flags.get("compat"),
        },
        want={
            "torch": flags.get("torch"),
            "variant": flags.get("variant"),
            "libs": _libraries(flags.get("lib") or []),
            "stacks": locked_stacks() if flags.get("locked") else None,
        },
    )


def locked_stacks() -> list[dict[str, Any]]:
    """The builds this checkout has locks for."""
    return [read_lock(path, text) for path, text in read_folders([str(LOCKS)])]


def _libraries(given: list[str]) -> dict[str, str | None]:
    """['vllm=0.23.0', 'peft'] -> {'vllm': '0.23.0', 'peft': None}."""
    split = (re.match(r"([\w.-]+?)(?:==?(.+))?$", text.strip()) for text in given)
    return {match[1]: match[2] for match in split if match}
