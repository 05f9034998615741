"""The receipt keeps what others wrote, changes only when something differs, and survives a half-written file."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.conftest import ModuleRunner


def test_sections_are_merged_and_a_second_write_changes_nothing(tmp_path: Path, run_module: ModuleRunner) -> None:
    path = tmp_path / "facts.d" / "bedplate.fact"
    assert run_module("bedplate_receipt", path=str(path), sections={"conda": {"version": "26.3.2"}})["changed"]
    second = run_module("bedplate_receipt", path=str(path), sections={"nginx": {"version": "1.22"}})
    assert second["changed"]
    assert json.loads(path.read_text()) == {"conda": {"version": "26.3.2"}, "nginx": {"version": "1.22"}}
    assert not run_module("bedplate_receipt", path=str(path), sections={"nginx": {"version": "1.22"}})["changed"]


def test_check_mode_says_what_would_change_and_writes_nothing(tmp_path: Path, run_module: ModuleRunner) -> None:
    path = tmp_path / "bedplate.fact"
    result = run_module("bedplate_receipt", path=str(path), sections={"conda": {}}, _check_mode=True)
    assert result["changed"] and result["receipt"] == {"conda": {}}
    assert not path.exists()


def test_a_half_written_receipt_is_replaced(tmp_path: Path, run_module: ModuleRunner) -> None:
    path = tmp_path / "bedplate.fact"
    path.write_text('{"conda": {"ver')
    assert run_module("bedplate_receipt", path=str(path), sections={"nginx": {}})["receipt"] == {"nginx": {}}
