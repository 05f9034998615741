"""What an ansible-playbook run did, read from the events of the ansible.posix.jsonl callback."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

# Actions that run on the controller alone: everything else that was not skipped is a module call on a host.
CONTROLLER_ACTIONS = {
    "assert",
    "bedplate_validate",
    "debug",
    "fail",
    "import_tasks",
    "include_role",
    "include_tasks",
    "include_vars",
    "meta",
    "set_fact",
    "validate_argument_spec",
}


@dataclass
class Task:
    """One task as it ran: when it began, what came of it on each host."""

    name: str
    role: str
    layer: str
    start: datetime
    end: datetime
    results: dict[str, str] = field(default_factory=dict)
    module_calls: int = 0
    # What debug tasks told, by host.
    said: dict[str, list[str]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Wall time in seconds, all hosts together."""
        return (self.end - self.start).total_seconds()


@dataclass
class Failure:
    """Why a host stopped."""

    host: str
    task: str
    message: str
    detail: dict[str, Any]


@dataclass
class Run:
    """A playbook run. `feed` it events as they come; it can be read at any time."""

    tasks: list[Task] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    stats: dict[str, dict[str, int]] = field(default_factory=dict)
    layer: str = ""

    def feed(self, event: dict[str, Any]) -> None:
        """Take one event of the callback."""
        kind = event["_event"]
        if kind == "v2_playbook_on_play_start":
            self.layer = Path(event["play"]["path"].rsplit(":", 1)[0]).stem
        elif kind in ("v2_playbook_on_task_start", "v2_playbook_on_handler_task_start"):
            moment = datetime.fromisoformat(event["_timestamp"])
            role, _, name = event["task"]["name"].rpartition(" : ")
            self.tasks.append(Task(name=name, role=role or self.layer, layer=self.layer, start=moment, end=moment))
        elif kind == "v2_playbook_on_stats":
            self.stats = event["stats"]
        elif kind.startswith("v2_runner_on_") and event.get("hosts") and self.tasks:
            self._result(kind.removeprefix("v2_runner_on_"), event)

    def _result(self, outcome: str, event: dict[str, Any]) -> None:
        task = self.tasks[-1]
        task.end = datetime.fromisoformat(event["_timestamp"])
        for host, result in event["hosts"].items():
            # A host that goes on was rescued, or its failure ignored: only the last word of a stopped host is why it stopped.
            self.failures = [failure for failure in self.failures if failure.host != host]
            task.results[host] = "changed" if outcome == "ok" and result.get("changed") else outcome
            action = str(result.get("action", "")).rpartition(".")[2]
            if action == "debug" and outcome == "ok":
                told = result.get("msg", "")
                task.said[host] = [str(line) for line in told] if isinstance(told, list) else [str(told)]
            if outcome != "skipped" and action not in CONTROLLER_ACTIONS:
                task.module_calls += sum(not item.get("skipped") for item in result.get("results", [{}]))
            if outcome in ("failed", "unreachable") and not (
                result.get("ignore_errors") or result.get("ignore_unreachable")
            ):
                self.failures.append(Failure(host, task.name, message_of(result), result))

    def by_role(self) -> Iterator[tuple[str, str, list[Task]]]:
        """(layer, role, its tasks), in the order they first ran."""
        groups: dict[tuple[str, str], list[Task]] = {}
        for task in self.tasks:
            groups.setdefault((task.layer, task.role), []).append(task)
        for (layer, role), tasks in groups.items():
            yield layer, role, tasks

    @property
    def changed(self) -> int:
        """Changed tasks over all hosts."""
        return sum(host["changed"] for host in self.stats.values())


def message_of(result: dict[str, Any]) -> str:
    """What a failed task says: its message, or that of the loop items that failed."""
    items = [item for item in result.get("results", []) if isinstance(item, dict) and item.get("failed")]
    text = "\n".join(message_of(item) for item in items) if items else str(result.get("msg", "no message"))
    # Ansible puts its own frame around a module's message.
    return text.removeprefix("Task failed: ").removeprefix("Action failed: ")


def read_events(lines: Iterable[str]) -> Iterator[dict[str, Any] | str]:
    """Events as dictionaries; lines of other callbacks and warnings as they are."""
    for line in lines:
        if line.startswith("{"):
            try:
                yield json.loads(line)
                continue
            except ValueError:
                pass
        yield line.rstrip("\n")
