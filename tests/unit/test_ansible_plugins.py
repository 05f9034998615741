"""How Ansible runs here: what ansible.cfg switches on beside the playbooks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ops.paths import ROOT, VENV_BIN

PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {msg: "{{ 'a' | counted }}"}
    - ansible.builtin.debug: {msg: "{{ 'b' | counted }}"}
    - ansible.builtin.debug: {msg: "{{ 'c' | counted }}"}
"""
# A filter whose file notes each time it is loaded.
FILTER = """
with open({loads!r}, "a") as loads:
    loads.write("x")


class FilterModule:
    def filters(self):
        return {{"counted": str.upper}}
"""


def test_filters_are_loaded_once_and_not_by_each_task(tmp_path: Path) -> None:
    loads = tmp_path / "loads"
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    filters = tmp_path / "filters"
    filters.mkdir()
    (filters / "counted.py").write_text(FILTER.format(loads=str(loads)))
    command = [VENV_BIN / "ansible-playbook", "-i", "localhost,", "-c", "local", tmp_path / "play.yml"]
    environment = {**os.environ, "ANSIBLE_FILTER_PLUGINS": str(filters)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert all(f"msg: {letter}" in ran.stdout for letter in "ABC")
    assert loads.read_text() == "x"
