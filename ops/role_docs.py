"""Write what the roles' argument specifications and defaults say: the tables in their README files, the example inventory's knobs.

python -m ops.role_docs
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

from ops.paths import ROOT

EXAMPLE = ROOT / "inventory" / "example" / "group_vars" / "all" / "bedplate.yml"
ROLE_ORDER = [
    "bedplate_defaults",
    "preflight",
    "nvidia_driver",
    "cuda_match",
    "conda",
    "pytorch",
    "nginx",
    "model",
    "inference",
    "web_client",
    "demo",
]
BEGIN, END = "<!-- BEGIN_ARGUMENT_SPECS -->", "<!-- END_ARGUMENT_SPECS -->"


def specification_of(role: Path) -> dict[str, Any]:
    """The role's argument specification: short_description, options and the rest."""
    text = (role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    specification: dict[str, Any] = yaml.safe_load(text)["argument_specs"]["main"]
    return specification


def defaults_of(role: Path) -> dict[str, Any]:
    """The role's defaults, from defaults/main.yml or the files of defaults/main/."""
    found: dict[str, Any] = {}
    for path in [*role.glob("defaults/main.yml"), *sorted(role.glob("defaults/main/*.yml"))]:
        found.update(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    return found


def one_line(value: Any) -> str:
    """A default as one line, shortened when it is long."""
    text = re.sub(r"\s+", " ", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 60 else text[:57] + "..."


def meaning_of(option: dict[str, Any], code: str) -> str:
    """An option's description as one line; Ansible's C(x), its markup for code, becomes `code` with x in it."""
    description = option["description"]
    text = description if isinstance(description, str) else " ".join(description)
    return re.sub(r"C\(([^)]*)\)", code, re.sub(r"\s+", " ", text))


def table_of(role: Path) -> str:
    """The marked section of a role's README: variable, type, default, meaning."""
    defaults = defaults_of(role)
    lines = [BEGIN, "", "| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, option in specification_of(role).get("options", {}).items():
        kind = option.get("type", "str")
        if "choices" in option:
            kind = " or ".join(f"`{choice}`" for choice in option["choices"])
        meaning = meaning_of(option, r"`\1`").replace("|", "\\|")
        default = one_line(defaults[name]).replace("|", "\\|") if name in defaults else ""
        lines.append(f"| `{name}` | {kind} | {f'`{default}`' if default else ''} | {meaning} |")
    if len(lines) == 4:
        lines = [BEGIN, "", "No variables."]
    return "\n".join([*lines, "", END])


def write(role: Path) -> bool:
    """Put the table into the role's README between its markers; returns whether it changed."""
    readme = role / "README.md"
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text:
        text = text.rstrip() + f"\n\n## Variables\n\n{BEGIN}\n{END}\n"
    new = re.sub(f"{BEGIN}.*?{END}", lambda _: table_of(role), text, flags=re.DOTALL)
    readme.write_text(new, encoding="utf-8")
    return new != text


def example_variables() -> str:
    """Every variable of every role, commented out, with its default and meaning, in the order the roles run."""
    lines = [
        "---",
        "# Every variable with its default. Remove the # of what you want to change. Written by ops/role_docs.py from the roles'",
        "# argument specifications.",
    ]
    for name in ROLE_ORDER:
        specification, defaults = specification_of(ROOT / "roles" / name), defaults_of(ROOT / "roles" / name)
        lines += ["", f"# --- {name}: {specification['short_description']}"]
        for variable, option in specification.get("options", {}).items():
            meaning = meaning_of(option, r"\1")
            lines += textwrap.wrap(meaning, 116, initial_indent="# ", subsequent_indent="# ", break_long_words=False)
            if variable in defaults:
                shown = yaml.safe_dump({variable: defaults[variable]}, width=1000, allow_unicode=True, sort_keys=False)
                lines += [f"# {line}".rstrip() for line in shown.rstrip().splitlines()]
            else:
                lines.append(f"# {variable}:")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    EXAMPLE.write_text(example_variables(), encoding="utf-8")
    for path in sorted((ROOT / "roles").iterdir()):
        if (path / "meta" / "argument_specs.yml").exists() and (path / "README.md").exists() and write(path):
            print(path.name)
