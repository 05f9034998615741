#!/usr/bin/python
# Copyright: The Bedplate developers
# SPDX-License-Identifier: Apache-2.0
"""Everything nginx and the application layer need to know about a host, in one call. Writes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bedplate_app_probe
short_description: Read packages, units, files, certificate, published trees and readiness of a server
description:
  - Reads what the roles C(nginx), C(model), C(inference), C(web_client) and C(demo) decide on, so that a run that has nothing to
    do makes one call. Changes nothing; in particular it does not wake a stopped service through its socket.
options:
  packages:
    description: Debian packages whose versions are asked.
    type: list
    elements: str
    default: []
  units:
    description: systemd units whose states are asked.
    type: list
    elements: str
    default: []
  files:
    description: Files whose content hash, mode and owner are asked.
    type: list
    elements: path
    default: []
  trees:
    description: Folders of published trees and of links to them.
    type: list
    elements: path
    default: []
  stamps:
    description: Folder of the roles' stamps.
    type: path
  certificate:
    description: PEM file whose first certificate is described.
    type: path
  certificates:
    description: Further PEM files whose first certificates are described, by path.
    type: list
    elements: path
    default: []
  service:
    description: systemd unit of the inference service.
    type: str
  socket:
    description: Unix socket of the inference service; its readiness is asked when the service runs.
    type: path
  user:
    description: System user to look for.
    type: str
  disk_path:
    description: Path whose file system's free space is reported; it need not exist yet.
    type: path
    default: /
  proc:
    description: Where to find the proc file system. A test gives a recorded tree.
    type: path
    default: /proc
author: The Bedplate developers
"""

EXAMPLES = r"""
- name: Read the application layer
  bedplate_app_probe:
    packages: [nginx]
    units: [nginx.service]
    trees: [/opt/bedplate/models]
"""

RETURN = r"""
probe:
  description: What was found; C(null) where a thing is absent.
  returned: always
  type: dict
  sample:
    packages: {nginx: 1.22.1-9+deb12u3}
    units: {nginx.service: {load: loaded, active: active, sub: running, enabled: enabled, need_daemon_reload: "no"}}
    files: {/etc/bedplate/inference.yml: {sha256: 9f86d08..., mode: "0640", owner: root, group: bedplate}}
    trees: {/opt/bedplate/models: {whole: [bedplate--tutor@0123456789ab], links: {tutor: bedplate--tutor@0123456789ab}}}
    stamps: {nginx: 2c26b46...}
    certificate: {fingerprint: "AB:CD:...", days_left: 364, names: ["DNS:bed1", "IP:10.213.0.11"], self_signed: true}
    listeners: [{port: 443, process: nginx}]
    user: true
    ready: true
    cpus: 32
    open_files: 1048576  # most a process may have (fs.nr_open)
"""

import grp
import ipaddress
import os
import pwd
import re
import socket
import ssl
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.bedplate.hostfacts import (
    command_output,
    dpkg_versions,
    file_sha256,
    free_bytes,
    link_target,
    read_json,
    read_text,
    unit_states,
)
from ansible.module_utils.bedplate.listeners import listeners
from ansible.module_utils.bedplate.manifest import is_untouched
from ansible.module_utils.bedplate.readiness import is_ready


def name_of(lookup, number):
    """Name of a user or group id, or the number itself when it has none."""
    try:
        return lookup(number)[0]
    except KeyError:
        return str(number)


def file_state(path):
    """Content hash, mode and owner of a file: what a later run compares with what it would write."""
    digest = file_sha256(path)
    if digest is None:
        return None
    status = Path(path).stat()
    return {
        "sha256": digest,
        "mode": f"{status.st_mode & 0o7777:04o}",
        "owner": name_of(pwd.getpwuid, status.st_uid),
        "group": name_of(grp.getgrgid, status.st_gid),
    }


def tree_states(folder):
    """Published trees of a folder that are whole, and where its links point."""
    whole, links = [], {}
    for entry in sorted(Path(folder).glob("[!.]*")):
        if entry.is_symlink():
            links[entry.name] = link_target(entry)
        elif entry.is_dir():
            manifests = (read_json(entry / name) for name in ("manifest.json", ".manifest.json"))
            if any(is_untouched(entry, manifest) for manifest in manifests if isinstance(manifest, dict)):
                whole.append(entry.name)
    return {"whole": whole, "links": links}


def published_manifests(folder):
    """What each published tree's manifest says of itself: the source it was asked for as, if it had one, and its revision."""
    found = {}
    for path in Path(folder).glob("[!.]*/manifest.json"):
        manifest = read_json(path)
        if isinstance(manifest, dict):
            found[path.parent.name] = {key: manifest.get(key, "") for key in ("requested", "revision")}
    return found


def incoming_bytes(folder):
    """What trees that are not whole yet hold on the disk, by name: room that is taken already."""
    return {
        entry.name: sum(
            path.lstat().st_blocks * 512 for path in entry.rglob("*") if path.is_file() and path.lstat().st_nlink == 1
        )
        for entry in Path(folder, ".incoming").glob("*")
    }


def certificate(path):
    """Fingerprint, days left and names of a PEM file's first certificate, and whether it is its own issuer."""
    asked = ["-subject", "-issuer", "-enddate", "-fingerprint", "-sha256", "-ext", "subjectAltName"]
    printed = command_output(["openssl", "x509", "-in", path, "-noout", *asked])
    if printed is None:
        return None
    ends = re.search(r"^notAfter=(.+)$", printed, re.MULTILINE)
    subject, issuer = (re.search(rf"^{who}=(.*)$", printed, re.MULTILINE)[1] for who in ("subject", "issuer"))
    found = re.findall(r"(DNS|IP Address):([^,\s]+)", printed)
    return {
        "fingerprint": re.search(r"Fingerprint=([0-9A-F:]+)", printed)[1],
        "days_left": int((ssl.cert_time_to_seconds(ends[1]) - time.time()) // 86400),
        "names": sorted(f"DNS:{name}" if kind == "DNS" else f"IP:{ipaddress.ip_address(name)}" for kind, name in found),
        "self_signed": subject == issuer,
    }


def user_exists(name):
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def options():
    many = {"type": "list", "elements": "str", "default": []}
    paths = {"type": "list", "elements": "path", "default": []}
    return {
        "packages": many,
        "units": many,
        "files": paths,
        "trees": paths,
        "stamps": {"type": "path"},
        "certificate": {"type": "path"},
        "certificates": paths,
        "service": {"type": "str"},
        "socket": {"type": "path"},
        "user": {"type": "str"},
        "disk_path": {"type": "path", "default": "/"},
        "proc": {"type": "path", "default": "/proc"},
    }


def main():
    module = AnsibleModule(argument_spec=options(), supports_check_mode=True)
    ask = module.params
    units = unit_states(ask["units"])
    running = units.get(ask["service"], {}).get("active") == "active"
    proc = Path(ask["proc"])
    probe = {
        "packages": dpkg_versions(ask["packages"]),
        "dpkg_interrupted": any(Path("/var/lib/dpkg/updates").glob("[0-9]*")),
        "units": units,
        "files": {path: file_state(path) for path in ask["files"]},
        "trees": {folder: tree_states(folder) for folder in ask["trees"]},
        "manifests": {folder: published_manifests(folder) for folder in ask["trees"]},
        "incoming": {folder: incoming_bytes(folder) for folder in ask["trees"]},
        "stamps": {
            path.name: (read_text(path) or "").strip() for path in Path(ask["stamps"] or "/nonexistent").glob("*")
        },
        "certificate": certificate(ask["certificate"]) if ask["certificate"] else None,
        "certificates": {path: certificate(path) for path in ask["certificates"]},
        "listeners": listeners(proc),
        "ipv6": bool(read_text(proc / "net/if_inet6")),
        "hostname": socket.gethostname(),
        "cpus": os.cpu_count(),
        "open_files": int(read_text(proc / "sys/fs/nr_open") or 0) or None,
        "user": user_exists(ask["user"]) if ask["user"] else None,
        "ready": is_ready(ask["socket"]) if running and ask["socket"] else False,
        "disk_free_bytes": free_bytes(ask["disk_path"]),
    }
    module.exit_json(changed=False, probe=probe)


if __name__ == "__main__":
    main()
