"""`./bedplate key` and role inference agree on the keys of an inventory, and neither stores a key itself."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from ops.key import KeyRefused, KeyStore, key, moment
from tests.unit.test_certificate import KEYS


def run(action: str, file: Path, **asked: Any) -> tuple[int, str]:
    console = Console(width=300, record=True, quiet=False, file=(file.parent / "out").open("w"))
    return key(action, file.parent / "no-inventory", file, asked, console), console.export_text()


def test_a_key_is_shown_once_and_stored_as_what_the_role_takes(tmp_path: Path) -> None:
    file = tmp_path / "keys.yml"
    status, said = run("add", file, name="laptop", expires="90d", requests_per_minute=60)
    made = re.search(r"bp-([0-9a-f]{8})-[0-9a-f]{64}", said)
    assert status == 0 and made
    (entry,) = yaml.safe_load(file.read_text())["keys"]
    assert (entry["id"], entry["sha256"]) == (made[1], hashlib.sha256(made[0].encode()).hexdigest())
    assert made[0][12:] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert KEYS.key_problems([entry]) == []
    assert KEYS.stored_keys([entry]) == [entry], "the role must not change what the verb wrote"
    assert made[1] in run("list", file)[1]


def test_every_key_has_256_random_bits_of_its_own(tmp_path: Path) -> None:
    made = [KeyStore(tmp_path / "keys.yml").add("one", None, {}) for _ in range(20)]
    assert len({text[12:] for text in made}) == 20
    assert all(len(bytes.fromhex(text[12:])) == 32 for text in made)


def test_a_revoked_key_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.yml")
    first, second = (store.add(name, None, {}).split("-")[1] for name in ("first", "second"))
    assert run("revoke", store.path, id=first)[0] == 0
    assert [entry["id"] for entry in store.entries()] == [second]
    status, said = run("revoke", store.path, id=first)
    assert status == 2 and said.startswith("BP012") and second in said


@pytest.mark.parametrize("expires", ["2001-01-01", "0d", "tomorrow"])
def test_a_time_that_is_none_or_past_is_refused(expires: str) -> None:
    with pytest.raises(KeyRefused, match="BP012"):
        moment(expires)


@pytest.mark.parametrize("asked", [{}, {"name": "a\nb"}, {"name": "x", "concurrency": -1}])
def test_what_cannot_be_made_leaves_no_file(tmp_path: Path, asked: dict[str, Any]) -> None:
    status, said = run("add", tmp_path / "keys.yml", **asked)
    assert status == 2 and "Fix: " in said
    assert not (tmp_path / "keys.yml").exists()


def test_a_broken_file_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "keys.yml"
    file.write_text("keys: 3")
    assert run("add", file, name="laptop")[0] == 2
    assert file.read_text() == "keys: 3"
