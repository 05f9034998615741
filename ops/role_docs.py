"""Write the tables of variables in the roles' README files from their argument specifications and defaults.

python -m ops.role_docs
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from ops.paths import ROOT

BEGIN, END = "<!-- BEGIN_ARGUMENT_SPECS -->", "<!-- END_ARGUMENT_SPECS -->"


def defaults_text(role: Path) -> dict[str, str]:
    """Each default as one line, shortened when it is long."""
    found = {}
    for path in [*role.glob("defaults/main.yml"), *sorted(role.glob("defaults/main/*.yml"))]:
        for name, value in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            text = re.sub(r"\s+", " ", text)
            found[name] = text if len(text) <= 60 else text[:57] + "..."
    return found


def table_of(role: Path) -> str:
    """The marked section of a role's README: variable, type, default, meaning."""
    spec = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]
    defaults = defaults_text(role)
    lines = [BEGIN, "", "| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, option in spec.get("options", {}).items():
        kind = option.get("type", "str")
        if "choices" in option:
            kind = " or ".join(f"`{choice}`" for choice in option["choices"])
        description = option["description"]
        meaning = description if isinstance(description, str) else " ".join(description)
        # C(x) is Ansible's markup for code.
        meaning = re.sub(r"C\(([^)]*)\)", r"`\1`", re.sub(r"\s+", " ", meaning)).replace("|", "\\|")
        default = defaults.get(name, "").replace("|", "\\|")
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


if __name__ == "__main__":
    for path in sorted((ROOT / "roles").iterdir()):
        if (path / "meta" / "argument_specs.yml").exists() and (path / "README.md").exists() and write(path):
            print(path.name)
