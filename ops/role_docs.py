"""Write what the roles' argument specifications and defaults say: the tables in their README files, the example inventory's knobs.

python -m ops.role_docs
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

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


def example_variables() -> str:
    """Every variable of every role, commented out, with its default and meaning, in the order the roles run."""
    lines = [
        "---",
        "# Every variable with its default. Remove the # of what you want to change. Written by ops/role_docs.py from the roles'",
        "# argument specifications.",
    ]
    for name in ROLE_ORDER:
        role = ROOT / "roles" / name
        spec = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"][
            "main"
        ]
        lines += ["", f"# --- {name}: {spec['short_description']}"]
        defaults: dict[str, object] = {}
        for path in [*role.glob("defaults/main.yml"), *sorted(role.glob("defaults/main/*.yml"))]:
            defaults.update(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        for variable, option in spec.get("options", {}).items():
            description = option["description"]
            meaning = description if isinstance(description, str) else " ".join(description)
            meaning = re.sub(r"C\(([^)]*)\)", r"\1", re.sub(r"\s+", " ", meaning))
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
