"""What a server must have before anything is installed: pure functions over the infrastructure probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.bedplate.refusal import refusal

GIB = 1024**3


def preflight_problems(probe: Mapping[str, Any], facts: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Refusals for one host, empty when it may be provisioned.

    probe: result of bedplate_infrastructure_probe. facts: distribution, distribution_major_version, architecture.
    wanted: platforms {distribution: [major versions]}, architectures [names], memory_gib, disk_gib (numbers),
    disk_path, ports [{port, process}]: the process may already listen there.
    """
    problems = [
        *_platform_problems(facts, wanted["platforms"], wanted["architectures"]),
        *_size_problems(probe, wanted),
        *_port_problems(probe["listeners"], wanted["ports"]),
    ]
    if not probe["systemd"]:
        problems.append(
            refusal(
                "BP104", "no systemd", "another process as PID 1", "systemd", "use a server that boots with systemd."
            )
        )
    return problems


def _platform_problems(
    facts: Mapping[str, Any], platforms: Mapping[str, Sequence[Any]], architectures: Sequence[str]
) -> list[str]:
    name, version = facts["distribution"], str(facts["distribution_major_version"])
    problems = []
    if version not in [str(v) for v in platforms.get(name, [])]:
        known = ", ".join(f"{d} {'/'.join(str(v) for v in versions)}" for d, versions in platforms.items())
        problems.append(
            refusal(
                "BP101",
                "unsupported operating system",
                f"{name} {version}",
                known,
                "install one of these, or add this one to preflight_platforms and tell us how it went.",
            )
        )
    if facts["architecture"] not in architectures:
        problems.append(
            refusal(
                "BP102",
                "unsupported processor architecture",
                facts["architecture"],
                " or ".join(architectures),
                "use a server of that architecture.",
            )
        )
    return problems


def _size_problems(probe: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    problems = []
    memory, disk = probe["memory_bytes"] / GIB, probe["disk_free_bytes"] / GIB
    # A server sold with 16 GB shows a little less: the firmware and the kernel keep some.
    if memory < float(wanted["memory_gib"]) * 0.95:
        problems.append(
            refusal(
                "BP103",
                "not enough memory",
                f"{memory:.1f} GiB",
                f"{wanted['memory_gib']} GiB",
                "use a larger server, or lower preflight_memory_gib if the model is small.",
            )
        )
    if disk < float(wanted["disk_gib"]):
        problems.append(
            refusal(
                "BP105",
                f"not enough free disk for {wanted['disk_path']}",
                f"{disk:.1f} GiB",
                f"{wanted['disk_gib']} GiB",
                "free some space, put bedplate_root on a larger disk, or lower preflight_disk_gib if the model is small.",
            )
        )
    return problems


def _port_problems(listeners: Sequence[Mapping[str, Any]], ports: Sequence[Mapping[str, Any]]) -> list[str]:
    problems = []
    holder = {listener["port"]: listener["process"] or "an unknown process" for listener in listeners}
    for wanted in ports:
        port, process = int(wanted["port"]), holder.get(int(wanted["port"]))
        if process not in (None, wanted["process"]):
            problems.append(
                refusal(
                    "BP106",
                    f"port {port} is taken",
                    f"{process} listening on it",
                    f"it free, or held by {wanted['process']}",
                    f"stop {process} on the server, or set nginx_http_port / nginx_https_port to free ports.",
                )
            )
    return problems
