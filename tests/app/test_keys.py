"""API keys: only digests are stored, expiry and revocation take effect without a restart."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from bedplate_server.errors import Refusal
from bedplate_server.front.keys import KeyRing

KEY = "bp-ab12cd34-" + "5" * 64
OTHER = "bp-00000001-" + "6" * 64


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def write(path: Path, *keys: dict[str, Any]) -> Path:
    """Write a keys file that is new to whoever looks at its time."""
    path.write_text(yaml.safe_dump({"keys": list(keys)}), encoding="utf-8")
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))
    return path


def entry(key: str, **more: Any) -> dict[str, Any]:
    return {"id": key.split("-")[1], "sha256": digest(key), **more}


def test_a_known_key_is_recognised_and_others_are_not(tmp_path: Path) -> None:
    ring = KeyRing(write(tmp_path / "keys.yml", entry(KEY, name="default", expires=None)))
    holder = ring.holder(KEY)
    assert holder is not None
    assert (holder.id, holder.name) == ("ab12cd34", "default")
    for wrong in ("", KEY[:-1], KEY + "5", KEY.upper(), digest(KEY), OTHER, "ключ", "\udcff"):
        assert ring.holder(wrong) is None, wrong


@pytest.mark.parametrize("form", ["text", "yaml time", "yaml naive time", "yaml date"])
def test_keys_expire(tmp_path: Path, form: str) -> None:
    def written(moment: datetime) -> object:
        naive = moment.replace(tzinfo=None)
        return {"text": moment.isoformat(), "yaml time": moment, "yaml naive time": naive, "yaml date": naive.date()}[
            form
        ]

    now = datetime.now(UTC)
    past, future = written(now - timedelta(days=1)), written(now + timedelta(days=2))
    ring = KeyRing(write(tmp_path / "keys.yml", entry(KEY, expires=past), entry(OTHER, expires=future)))
    assert ring.holder(KEY) is None
    assert ring.holder(OTHER) is not None


def test_an_id_of_digits_need_not_be_quoted(tmp_path: Path) -> None:
    path = tmp_path / "keys.yml"
    path.write_text(f"keys: [{{id: 10000001, sha256: {digest(OTHER)}}}]", encoding="utf-8")
    holder = KeyRing(path).holder(OTHER)
    assert holder is not None
    assert holder.id == "10000001"


def test_changes_take_effect_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.yml", entry(KEY))
    ring = KeyRing(path)
    assert ring.holder(OTHER) is None
    write(path, entry(OTHER))
    assert ring.holder(KEY) is None, "a revoked key still opens"
    assert ring.holder(OTHER) is not None


def test_a_broken_edit_keeps_the_former_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.yml", entry(KEY))
    ring = KeyRing(path)
    for broken in ("keys: [", f"keys: [{{id: ab12cd34, sha256: {digest(KEY)}, expires: 2027-02-30}}]", "[" * 3000):
        path.write_text(broken, encoding="utf-8")
        assert ring.holder(KEY) is not None
    path.unlink()
    assert ring.holder(KEY) is not None
    write(path, entry(OTHER))
    assert ring.holder(KEY) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "keys: 3",
        "keys: [{id: ab12cd34}]",
        f"keys: [{{id: ab12cd34, sha256: {KEY}}}]",
        f"keys: [{{id: ab12cd34, sha256: {digest(KEY)}, expires: 2027-02-30}}]",
        "keys: " + "[" * 3000,
        "keys: []\nkeys: []",
        "[",
        "other: []",
    ],
)
def test_an_unusable_file_refuses_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.yml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(Refusal, match=r"BP653 .*keys\.yml.*Fix: "):
        KeyRing(path)
    with pytest.raises(Refusal, match="BP653"):
        KeyRing(tmp_path / "absent.yml")
