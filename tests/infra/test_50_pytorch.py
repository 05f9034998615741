"""Each environment in use is the proven one, whole, unchanged since, and torch computes in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

# Whole numbers: the product is exact on any device.
PRODUCT = """
import json, torch
devices = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
rows = {d: (torch.arange(9.0, device=d).reshape(3, 3) @ torch.arange(9.0, device=d).reshape(3, 3)).tolist() for d in devices}
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "products": rows}))
"""


@pytest.fixture(scope="module")
def environments(receipt: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Stamp by name of the environment."""
    found: dict[str, dict[str, Any]] = receipt["pytorch"]["environments"]
    return found


@pytest.fixture(scope="module")
def torch_environments(environments: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    found = [stamp for stamp in environments.values() if "torch" in stamp["proof"]]
    if not found:
        pytest.skip("no environment with torch")
    return found


def test_links_lead_to_the_proven_environments(host: Any, environments: dict[str, dict[str, Any]]) -> None:
    assert environments
    for name, stamp in environments.items():
        link = f"{stamp['prefix'].rsplit('/', 1)[0]}/{name}"
        assert host.check_output(f"realpath {link}") == stamp["prefix"]
        assert json.loads(host.file(f"{link}/.bedplate-stamp.json").content_string) == stamp


def test_torch_multiplies_matrices_on_every_device(
    host: Any, torch_environments: list[dict[str, Any]], receipt: dict[str, Any]
) -> None:
    for stamp in torch_environments:
        found = json.loads(host.check_output(f"{stamp['prefix']}/bin/python -I - <<'EOF'{PRODUCT}EOF"))
        assert found["version"] == stamp["proof"]["torch"]["version"]
        assert set(found["products"]) == set(stamp["proof"]["torch"]["exact_product_on"])
        for product in found["products"].values():
            assert product == [[15, 18, 21], [42, 54, 66], [69, 90, 111]]
        # A test may have let the bytes of another build stand in for the decided one.
        variant = stamp.get("stand_in") or receipt["pytorch"]["variant"]
        assert found["cuda"] == (None if variant == "cpu" else f"{variant[2:-1]}.{variant[-1]}")


def test_packages_fit_together(host: Any, environments: dict[str, dict[str, Any]]) -> None:
    for stamp in environments.values():
        root = stamp["prefix"].rsplit("/", 2)[0]
        uv = f"{root}/tools/uv-{stamp['uv']}/bin/uv"
        checked = host.run(f"UV_NO_CACHE=1 {uv} pip check --python {stamp['prefix']}/bin/python")
        assert checked.rc == 0, checked.stderr


def test_nothing_changed_since_the_proof(host: Any, environments: dict[str, dict[str, Any]]) -> None:
    for stamp in environments.values():
        prefix = stamp["prefix"]
        # Python itself keeps the bytecode of what root runs.
        ours = "-path '*/__pycache__/*' -o -name .bedplate-stamp.json"
        newer = host.run(f"find {prefix} -type f -newer {prefix}/.bedplate-stamp.json ! \\( {ours} \\) -print -quit")
        assert (newer.rc, newer.stdout) == (0, "")


def test_wheels_share_their_files_with_uvs_cache(host: Any, torch_environments: list[dict[str, Any]]) -> None:
    for stamp in torch_environments:
        library = f"{stamp['prefix']}/lib/python3*/site-packages/torch/lib/libtorch_cpu.so"
        assert int(host.check_output(f"stat -c %h {library}")) > 1


def test_an_unprivileged_user_can_use_the_environment(host: Any, torch_environments: list[dict[str, Any]]) -> None:
    for stamp in torch_environments:
        ran = host.run(f"su -s /bin/sh nobody -c '{stamp['prefix']}/bin/python -I -c \"import torch, transformers\"'")
        assert ran.rc == 0, ran.stderr
