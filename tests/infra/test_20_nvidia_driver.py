"""On a GPU server the loaded kernel module is the one in the receipt; a CPU host has none."""

from __future__ import annotations

from typing import Any


def test_loaded_module_is_the_one_in_the_receipt(host: Any, receipt: dict[str, Any]) -> None:
    version_file = host.file("/proc/driver/nvidia/version")
    loaded = version_file.content_string if version_file.exists else ""
    wanted = receipt["nvidia_driver"].get("version", "")
    assert wanted in loaded
    assert bool(wanted) == bool(loaded)
