"""A run as read from the callback's events: roles, module calls, failures, and lines that are no events."""

from __future__ import annotations

from typing import Any

from ops.events import Run, message_of, read_events


def event(kind: str, second: int = 0, **fields: Any) -> dict[str, Any]:
    return {"_event": kind, "_timestamp": f"2026-01-01T00:00:{second:02d}.000000Z", **fields}


def sample() -> Run:
    run = Run()
    for each in [
        event("v2_playbook_on_play_start", play={"name": "Base", "path": "/x/playbooks/base.yml:2"}),
        event("v2_playbook_on_task_start", 1, task={"name": "conda : Probe"}),
        event("v2_runner_on_ok", 3, hosts={"a": {"action": "bedplate_base_probe", "changed": False}}),
        event("v2_playbook_on_task_start", 3, task={"name": "conda : Decide"}),
        event("v2_runner_on_ok", 4, hosts={"a": {"action": "ansible.builtin.set_fact", "changed": False}}),
        event("v2_playbook_on_task_start", 4, task={"name": "conda : Install"}),
        event("v2_runner_on_skipped", 5, hosts={"a": {"action": "ansible.builtin.command", "skipped": True}}),
        event(
            "v2_runner_on_ok",
            6,
            hosts={"b": {"action": "ansible.builtin.command", "changed": True, "results": [{}, {"skipped": True}, {}]}},
        ),
        event(
            "v2_runner_on_failed", 7, hosts={"c": {"action": "ansible.builtin.command", "msg": "Task failed: BP201 no"}}
        ),
        event("v2_playbook_on_stats", 8, stats={"a": {"changed": 0}, "b": {"changed": 1}}),
    ]:
        run.feed(each)
    return run


def test_tasks_know_their_layer_role_and_time() -> None:
    run = sample()
    assert [(task.layer, task.role, task.seconds) for task in run.tasks] == [
        ("base", "conda", 2.0),
        ("base", "conda", 1.0),
        ("base", "conda", 3.0),
    ]
    assert [(layer, role, len(tasks)) for layer, role, tasks in run.by_role()] == [("base", "conda", 3)]


def test_module_calls_leave_out_the_controller_and_what_was_skipped() -> None:
    # The probe; two of three loop items on b; the failed command on c.
    assert [task.module_calls for task in sample().tasks] == [1, 0, 3]


def test_a_failure_names_host_task_and_message() -> None:
    run = sample()
    (failure,) = run.failures
    assert (failure.host, failure.task, failure.message) == ("c", "Install", "BP201 no")
    assert run.changed == 1


def test_message_of_a_loop_is_that_of_the_failed_items() -> None:
    result = {"msg": "One or more items failed", "results": [{"failed": True, "msg": "BP502 bad"}, {"msg": "fine"}]}
    assert message_of(result) == "BP502 bad"


def test_lines_of_other_callbacks_pass_as_text() -> None:
    read = list(read_events(['{"_event": "x"}\n', "TASKS RECAP ***\n", "{not json\n"]))
    assert read == [{"_event": "x"}, "TASKS RECAP ***", "{not json"]


def test_a_rescued_failure_gives_way_to_the_one_that_stopped_the_host() -> None:
    run = sample()
    run.feed(event("v2_playbook_on_task_start", 9, task={"name": "conda : Say why"}))
    run.feed(event("v2_runner_on_failed", 9, hosts={"c": {"action": "fail", "msg": "BP205 because"}}))
    assert [failure.message for failure in run.failures] == ["BP205 because"]
    run.feed(event("v2_runner_on_ok", 10, hosts={"c": {"action": "debug"}}))
    assert run.failures == []
