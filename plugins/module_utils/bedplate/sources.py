"""Which address of a source to use: pure functions over the lists of roles/bedplate_defaults/defaults/main/sources.yml.

Standard library only, Python 3.9 or newer.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from .refusal import refusal


def first_addresses(sources: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The first address of each source that has any."""
    return {name: addresses[0].rstrip("/") for name, addresses in sources.items() if addresses}


def installer_addresses(installer: Mapping[str, Any]) -> list[str]:
    """Where an entry of conda_installers may be, in order."""
    return [f"{folder.rstrip('/')}/{installer['file']}" for folder in installer.get("folders", [])]


def source_choices(
    sources: Mapping[str, Sequence[str]], proofs: Mapping[str, str], before: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """What there is to choose: for each source with several addresses these, the one in use first, and the proof of each.

    A source without a proof is not asked here: its files have sums, and each fetch tries the addresses itself.
    """
    return {
        name: {
            "addresses": sorted((one.rstrip("/") for one in addresses), key=lambda one: one != before.get(name)),
            "proof": proofs.get(name, ""),
        }
        for name, addresses in sources.items()
        if len(addresses) > 1 and (name in proofs or not proofs)
    }


def source_problems(
    profile: str, profiles: Mapping[str, Mapping[str, Sequence[str]]], channels: Sequence[str]
) -> list[str]:
    """Refusals for a profile that is none, and for your own that lacks what every server needs."""
    if profile not in profiles:
        near = difflib.get_close_matches(profile, profiles, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        wanted = " or ".join(sorted(profiles))
        return [
            refusal("BP172", "unknown profile of sources", f"sources_profile {profile!r}", wanted, f"correct it{hint}")
        ]
    known = set(profiles["upstream"])
    problems = [
        refusal("BP172", "unknown source", f"{name!r} in sources_site", ", ".join(sorted(known)), "correct its name.")
        for name in profiles[profile]
        if name not in known
    ]
    if "" in channels:
        fix = "add conda_forge to sources_site (a list of addresses), or set conda_channels."
        problems.append(refusal("BP172", "no conda channel", f"none in profile {profile}", "one at least", fix))
    return problems
