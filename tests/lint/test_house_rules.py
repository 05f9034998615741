"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from ops.role_docs import EXAMPLE, defaults_of, example_variables, specification_of, table_of

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if (path / "meta").is_dir())
LAYER_ROLES = {
    "preflight", "nvidia_driver", "cuda_match", "conda", "pytorch", "nginx", "model", "inference", "web_client", "demo",
}  # fmt: skip
# Spelled in parts: this file is tracked too.
REGISTRY_HOSTS = ["pypi" + ".org", "pythonhosted" + ".org", "deb" + ".debian" + ".org", "registry" + ".npmjs" + ".org"]
TEST_ASSERTIONS = ("raises", "assert", "check", "expect")


def tracked_files(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_every_layer_role_exists() -> None:
    assert set(ROLES) >= LAYER_ROLES


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_are_the_defaults(role: str) -> None:
    folder = ROOT / "roles" / role
    defaults, options = defaults_of(folder), specification_of(folder).get("options", {})
    required = {name for name, option in options.items() if option.get("required")}
    public = {name for name in defaults if not name.startswith("__")}
    assert public == set(options) - required
    for name, option in options.items():
        assert option.get("description"), f"{name} has no description"
        if "default" in option:
            assert option["default"] == defaults[name], name


@pytest.mark.parametrize("role", ROLES)
def test_role_readme_has_the_generated_table(role: str) -> None:
    text = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    assert table_of(ROOT / "roles" / role) in text, "run: .venv/bin/python -m ops.role_docs"


def test_example_inventory_lists_every_variable() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == example_variables(), "run: .venv/bin/python -m ops.role_docs"


def test_every_refusal_code_is_explained() -> None:
    catalogue = set(
        re.findall(r"^## (BP\d{3})\b", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    used: dict[str, Path] = {}
    for path in tracked_files("*.py", "*.yml", "*.sh", "*.j2", "bedplate"):
        if "tests" not in path.relative_to(ROOT).parts:
            for code in re.findall(r"\bBP\d{3}\b", path.read_text(encoding="utf-8")):
                used.setdefault(code, path.relative_to(ROOT))
    assert {code: str(path) for code, path in used.items() if code not in catalogue} == {}
    assert catalogue - set(used) == set(), "explained, but nothing refuses with it"


def test_every_test_asserts_something() -> None:
    silent = []
    for path in tracked_files("tests/*.py", "app/demo/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                asserts = any(
                    isinstance(part, ast.Assert)
                    or (isinstance(part, ast.Call) and any(word in ast.unparse(part.func) for word in TEST_ASSERTIONS))
                    for part in ast.walk(node)
                )
                if not asserts:
                    silent.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert silent == []


def test_no_registry_host_is_written_down() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in tracked_files()
        if path.suffix not in (".safetensors", ".png", ".woff2")
        for host in REGISTRY_HOSTS
        if host in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert found == []


def test_product_addresses_live_in_one_file() -> None:
    sources = ROOT / "roles" / "bedplate_defaults" / "defaults" / "main" / "sources.yml"
    hosts = set(re.findall(r"https://([\w.-]+)", sources.read_text(encoding="utf-8")))
    assert hosts
    stray = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in tracked_files("roles/*.yml", "roles/*.j2", "playbooks/*", "plugins/*", "ops/*.py", "templates/*")
        if path != sources and path.name != "argument_specs.yml"
        for host in hosts
        if host in path.read_text(encoding="utf-8")
    ]
    assert stray == []


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    data = re.compile(r"(^|/)(data|locks|requirements)/|\.lock|package-lock|/models/|qa\.yml")
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked_files("*.py", "*.yml", "*.j2", "*.ts", "*.tsx", "*.sh")
        if not data.search(str(path.relative_to(ROOT)))
        and (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}
