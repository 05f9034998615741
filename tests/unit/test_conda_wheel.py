"""The stand-in channel's packages carry what conda needs to link a wheel."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from tests.fixtures.conda_channel.package import PLACEHOLDER, write_info
from tests.fixtures.conda_channel.wheel import lay_out

METADATA = """\
Metadata-Version: 2.1
Name: Some_Tool
Version: 1.2
License: MIT
Requires-Dist: Requests_Toolbelt >=2,<3
Requires-Dist: tomli >=2 ; python_version < "3.11"
Requires-Dist: rich ; extra == "pretty"
"""


def write_wheel(folder: Path, pure: bool) -> Path:
    path = folder / "some_tool-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("some_tool/__init__.py", "def main(): pass\n")
        archive.writestr("some_tool-1.2.data/data/share/some_tool.txt", "data\n")
        archive.writestr("some_tool-1.2.dist-info/METADATA", METADATA)
        archive.writestr("some_tool-1.2.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: {str(pure).lower()}\n")
        archive.writestr("some_tool-1.2.dist-info/entry_points.txt", "[console_scripts]\nSome-Tool = some_tool:main\n")
    return path


def test_a_pure_wheel_fits_every_python(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    package = lay_out(write_wheel(tmp_path, pure=True), "3.11.7", tree)
    assert (package.name, package.version, package.subdir) == ("some-tool", "1.2", "noarch")
    assert package.depends == ("python >=3.9", "requests-toolbelt <3,>=2")
    assert package.entry_points == ("Some-Tool = some_tool:main",)
    assert (tree / "site-packages/some_tool/__init__.py").is_file()
    assert (tree / "share/some_tool.txt").is_file()
    assert not (tree / "bin").exists()
    write_info(tree, package)
    assert json.loads((tree / "info/link.json").read_text())["noarch"]["entry_points"] == ["Some-Tool = some_tool:main"]
    assert json.loads((tree / "info/index.json").read_text())["noarch"] == "python"


def test_a_binary_wheel_is_for_one_python_and_its_scripts_carry_the_prefix(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    package = lay_out(write_wheel(tmp_path, pure=False), "3.11.7", tree)
    assert package.subdir.startswith("linux-")
    assert package.depends[0] == "python >=3.11,<3.12.0a0"
    assert (tree / "lib/python3.11/site-packages/some_tool/__init__.py").is_file()
    assert (tree / "bin/Some-Tool").read_text().startswith(f"#!{PLACEHOLDER}/bin/python\n")
    write_info(tree, package)
    paths = {entry["_path"]: entry for entry in json.loads((tree / "info/paths.json").read_text())["paths"]}
    assert paths["bin/Some-Tool"]["prefix_placeholder"] == PLACEHOLDER
    assert "prefix_placeholder" not in paths["share/some_tool.txt"]
    assert (tree / "info/has_prefix").read_text() == f"{PLACEHOLDER} text bin/Some-Tool\n"
