"""The makers' own addresses, for what runs on the controller without a play."""

from __future__ import annotations

import yaml

from ops.paths import ROOT

SOURCES = ROOT / "roles" / "bedplate_defaults" / "defaults" / "main" / "sources.yml"


def upstream(name: str) -> str:
    """The first address of a source in profile upstream of sources.yml, such as pytorch_wheels."""
    address: str = yaml.safe_load(SOURCES.read_text(encoding="utf-8"))["__sources_profiles"]["upstream"][name][0]
    return address
