"""Filters of the role nginx: the servers behind a gateway, and which files of a list are to be written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any


def engines(models: Iterable[Mapping[str, Any]]) -> int:
    """How many engines a server runs for its models (model_list)."""
    return sum(len(model.get("devices") or ()) or int(model.get("replicas") or 1) for model in models)


def gateway_servers(
    names: Iterable[str], hostvars: Mapping[str, Any], port: int, wait_port: int
) -> list[dict[str, Any]]:
    """The GPU servers as a gateway's upstream names them: [{name, address, port, wait_port, weight}].

    A host's own variables go before port and wait_port, which are the defaults; an IPv6 address is put in brackets. The weight
    is the number of the server's engines, unless it has a weight of its own; a server without a list of models has the role's one.
    """
    found = []
    for name in names:
        own = hostvars[name]
        address = str(own.get("nginx_link_address", own.get("ansible_host", name)))
        found.append(
            {
                "name": name,
                "address": f"[{address}]" if ":" in address else address,
                "port": int(own.get("nginx_link_port", port)),
                "wait_port": int(own.get("nginx_link_wait_port", wait_port)),
                "weight": int(own.get("nginx_link_weight") or 0) or engines(own.get("model_list", [{}])) or 1,
            }
        )
    return found


def link_url(name: str, hostvars: Mapping[str, Any], port: int = 8444) -> str:
    """Where gateways reach a GPU server."""
    (server,) = gateway_servers([name], hostvars, port, port)
    return f"https://{server['address']}:{server['port']}"


def with_texts(files: Iterable[Mapping[str, Any]], texts: Iterable[str]) -> list[dict[str, Any]]:
    """Each file with its text, in the same order."""
    return [{**file, "text": text} for file, text in zip(files, texts, strict=True)]


def files_due(files: Iterable[Mapping[str, Any]], found: Mapping[str, Any]) -> list[str]:
    """Paths whose content or mode on the server, as the probe found it, is not the wanted one."""
    due = []
    for file in files:
        there = found.get(file["dest"]) or {}
        digest = hashlib.sha256(str(file["text"]).encode()).hexdigest()
        if there.get("sha256") != digest or there.get("mode") != file.get("mode", "0644"):
            due.append(file["dest"])
    return due


class FilterModule:
    """names | gateway_servers(hostvars, port, wait_port), name | link_url(hostvars), files | with_texts(texts), files | files_due(found)."""

    def filters(self) -> dict[str, object]:
        return {
            "gateway_servers": gateway_servers,
            "link_url": link_url,
            "with_texts": with_texts,
            "files_due": files_due,
        }
