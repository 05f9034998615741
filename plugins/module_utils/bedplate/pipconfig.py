"""Where a server's pip looks for packages, read from its configuration and told to uv, which ignores that configuration."""

from __future__ import annotations

import configparser
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Settings that decide where packages come from; those of the second row are lists.
_SINGLE = ("index-url", "no-index", "cert", "client-cert", "proxy")
_LISTS = ("extra-index-url", "find-links", "trusted-host")


def config_files(environ: Mapping[str, str]) -> list[str]:
    """pip's configuration files for this user, least important first."""
    if environ.get("PIP_CONFIG_FILE") == "/dev/null":
        return []
    home = environ.get("HOME", "/root")
    system = environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    user = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    files = [f"{folder}/pip/pip.conf" for folder in system.split(":")]
    files += ["/etc/pip.conf", f"{home}/.pip/pip.conf", f"{user}/pip/pip.conf"]
    return files + ([environ["PIP_CONFIG_FILE"]] if environ.get("PIP_CONFIG_FILE") else [])


def pip_sources(texts: Iterable[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Effective settings of `pip install`: texts are configuration files, least important first; environ wins over them."""
    values: dict[str, str] = {}
    for section in ("global", "install"):
        for text in texts:
            parser = configparser.RawConfigParser()
            parser.read_string(text)
            if parser.has_section(section):
                values.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    for key in (*_SINGLE, *_LISTS):
        variable = "PIP_" + key.upper().replace("-", "_")
        if environ.get(variable):
            values[key] = environ[variable]
    found: dict[str, Any] = {key.replace("-", "_"): values.get(key, "") for key in _SINGLE}
    found["no_index"] = found["no_index"].lower() in ("1", "true", "yes", "on")
    found.update({key.replace("-", "_"): values.get(key, "").split() for key in _LISTS})
    return found


def server_sources(environ: Mapping[str, str], index: str = "", find_links: Sequence[str] = ()) -> dict[str, Any]:
    """Where this server's pip would look, with the play's own index and find-links above it."""
    texts = [Path(file).read_text(encoding="utf-8") for file in config_files(environ) if Path(file).is_file()]
    sources = pip_sources(texts, environ)
    if index:
        sources.update(index_url=index, extra_index_url=[], no_index=False)
    if find_links:
        sources["find_links"] = list(find_links)
    return sources


def requirement_options(sources: Mapping[str, Any], wheel_index: str = "") -> str:
    """The same settings as lines of a requirements file, with a further index for PyTorch's wheels.

    Lines of a file and not options of a command: an address may hold a password, and a process list is public.
    """
    lines = ["--no-index"] if sources["no_index"] else []
    lines += [f"--index-url {sources['index_url']}"] if sources["index_url"] else []
    lines += [f"--extra-index-url {url}" for url in sources["extra_index_url"]]
    lines += [f"--extra-index-url {wheel_index}"] if wheel_index else []
    lines += [f"--find-links {place}" for place in sources["find_links"]]
    return "".join(f"{line}\n" for line in lines)


def uv_environment(sources: Mapping[str, Any]) -> dict[str, str]:
    """The settings that uv takes from environment variables."""
    wanted = {
        "SSL_CERT_FILE": sources["cert"],
        "SSL_CLIENT_CERT": sources["client_cert"],
        "ALL_PROXY": sources["proxy"],
        "UV_INSECURE_HOST": " ".join(sources["trusted_host"]),
    }
    return {name: value for name, value in wanted.items() if value}
