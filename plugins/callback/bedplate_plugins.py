"""Loads Jinja's plugins once, before the first task.

Ansible runs each task in a fork of its own, and the first filter or test that a fork uses loads the files of all of them: 0.1 s
of nearly every task, a third of a run that finds nothing to do. What the parent has loaded its forks have, too.
"""

from __future__ import annotations

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = """
name: bedplate_plugins
type: aggregate
short_description: Loads filters and tests before the first task
description:
  - Tells nothing. Has all filter and test plugins loaded before the first task, so that they are not loaded anew for each.
requirements:
  - enable in configuration
"""


class CallbackModule(CallbackBase):
    """Does its work as the playbook starts."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "bedplate_plugins"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: object) -> None:
        """Looked up, one name has the files of all loaded."""
        filter_loader.get("ansible.builtin.hash")
        test_loader.get("ansible.builtin.version")
