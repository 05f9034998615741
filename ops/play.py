"""Run a playbook with live progress on the terminal and the whole story in a log file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import yaml
from rich.console import Console
from rich.status import Status

from ops.events import Run, Task, read_events
from ops.paths import LOGS, ROOT, VENV_BIN

TRANSFER = re.compile(r"\S+: model \S+: .+ of .+ \(\d+ %\)")
MARKS = {"ok": "✔", "changed": "✔", "failed": "✗", "unreachable": "✗", "skipped": "-"}


@dataclass
class Outcome:
    """How a playbook run ended."""

    run: Run
    returncode: int
    seconds: float
    log: Path

    @property
    def ok(self) -> bool:
        """True when every host came through."""
        return self.returncode == 0


def play(
    playbook: str,
    inventory: Path | None,
    console: Console,
    *,
    extra: Mapping[str, Any] | None = None,
    check: bool = False,
    limit: str | None = None,
    lines: bool = True,
) -> Outcome:
    """Run a playbook; prints one line per role and, on a terminal, the task it is at.

    extra: variables given with -e. check: run in check mode. limit: these hosts only. lines: False leaves out the lines.

    The log file holds every task, host and result; the events are kept
    beside it as JSON lines.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{Path(playbook).stem}-{time.strftime('%Y%m%d-%H%M%S')}.log"
    argv = [str(VENV_BIN / "ansible-playbook"), playbook]
    argv += ["-i", str(inventory)] if inventory else []
    argv += ["-e", json.dumps(dict(extra))] if extra else []
    argv += ["--check"] if check else []
    argv += ["--limit", limit] if limit else []
    env = {
        **os.environ,
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.jsonl",
        "PYTHONUNBUFFERED": "1",
    }
    started = time.monotonic()
    run = Run()
    with (
        log.open("w") as log_file,
        log.with_suffix(".jsonl").open("w") as event_file,
        subprocess.Popen(
            argv,
            cwd=ROOT,
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
        Progress(console, run, started, lines) as progress,
    ):
        log_file.write(f"$ {' '.join(argv)}\n")
        assert process.stdout is not None
        for event in read_events(process.stdout):
            if isinstance(event, str):
                log_file.write(event + "\n")
                progress.told(event)
                continue
            event_file.write(json.dumps(event) + "\n")
            run.feed(event)
            write_log(log_file, event)
            log_file.flush()
            progress.update()
    return Outcome(run, process.returncode, time.monotonic() - started, log)


def write_log(log: TextIO, event: dict[str, Any]) -> None:
    """One event as a person reads it: task headings, then host and outcome; changed and failed results in full."""
    kind = event["_event"]
    if kind == "v2_playbook_on_play_start":
        log.write(f"\nPLAY {event['play']['name']}\n")
    elif kind.endswith("task_start"):
        log.write(f"\n{event['_timestamp'][11:19]} TASK {event['task']['name']}\n")
    elif kind == "v2_playbook_on_stats":
        log.write(yaml.safe_dump({"stats": event["stats"]}))
    elif kind.startswith("v2_runner_on_"):
        for host, result in event.get("hosts", {}).items():
            outcome = kind.removeprefix("v2_runner_on_")
            log.write(f"  {'changed' if result.get('changed') else outcome}: {host}\n")
            if (
                result.get("changed")
                or outcome in ("failed", "unreachable")
                or result.get("action", "").endswith("debug")
            ):
                shown = {
                    key: value
                    for key, value in result.items()
                    if not key.startswith("_ansible") and key != "invocation"
                }
                log.write(
                    "    "
                    + yaml.safe_dump(shown, allow_unicode=True, width=160).rstrip().replace("\n", "\n    ")
                    + "\n"
                )


class Progress:
    """One line per finished role; on a terminal also a line that says what is being done now."""

    def __init__(self, console: Console, run: Run, started: float, lines: bool) -> None:
        self.console, self.run, self.started, self.lines = console, run, started, lines
        self.printed = 0
        self.status: Status | None = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.status = self.console.status("starting Ansible")
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status:
            self.status.stop()
        self._print_roles(len(list(self.run.by_role())))

    def update(self) -> None:
        """Show the state after an event."""
        roles = list(self.run.by_role())
        # The last role may still be running.
        self._print_roles(len(roles) - 1)
        if self.status and self.run.tasks:
            task = self.run.tasks[-1]
            elapsed = clock(time.monotonic() - self.started)
            hosts = ", ".join(task.results) or "..."
            self.status.update(f"{elapsed}  {task.layer} / {task.role}  {task.name}  [dim]{hosts}[/dim]")

    def told(self, line: str) -> None:
        """A line beside the events: how far a model's transfer is."""
        if TRANSFER.match(line):
            if self.status:
                self.status.update(f"{clock(time.monotonic() - self.started)}  {line}")
            elif self.lines:
                self.console.print(f"   {line}", highlight=False, markup=False)

    def _print_roles(self, until: int) -> None:
        for layer, role, tasks in list(self.run.by_role())[self.printed : until]:
            self.printed += 1
            changed = any("changed" in task.results.values() for task in tasks)
            # A layer's own few tasks are worth a line only when they did something.
            if self.lines and role != "bedplate_defaults" and (changed or role not in (layer, "bedplate_bundle")):
                self.console.print(role_line(layer, role, tasks), highlight=False)


def role_line(layer: str, role: str, tasks: list[Task]) -> str:
    """✔ base / conda  1:08  bed1: 5 changed"""
    failed = any(result in ("failed", "unreachable") for task in tasks for result in task.results.values())
    changes: dict[str, int] = {}
    for task in tasks:
        for host, result in task.results.items():
            changes[host] = changes.get(host, 0) + (result == "changed")
    said = ", ".join(f"{host}: {count} changed" for host, count in changes.items() if count) or "nothing to do"
    seconds = sum(task.seconds for task in tasks)
    name = role if role == layer else f"{layer} / {role}"
    return f" {'✗' if failed else '✔'} {name:<34} {clock(seconds):>6}  {said}"


def clock(seconds: float) -> str:
    """Minutes and seconds: 1:08."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def print_failures(outcome: Outcome, console: Console, resume: str) -> None:
    """Why each host stopped, where the log is, and the command to go on."""
    for failure in outcome.run.failures:
        console.print(f"\n[bold red]✗ {failure.host}[/bold red]  at: {failure.task}", highlight=False)
        console.print(failure.message.rstrip(), highlight=False, markup=False)
    if not outcome.run.failures:
        console.print(
            f"[bold red]✗ ansible-playbook ended with {outcome.returncode}[/bold red]; the last lines of its log:",
            highlight=False,
        )
        console.print("\n".join(outcome.log.read_text().splitlines()[-15:]), highlight=False, markup=False)
    console.print(f"\nlog      {outcome.log.relative_to(ROOT)}\ngo on    {resume}", highlight=False)
