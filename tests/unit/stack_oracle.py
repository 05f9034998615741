"""A second reading of the resolver's data, written straight from the files without any of the resolver's code.

`broken_rules` checks one stack on one host rule by rule; the property tests hold the resolver to it.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "stack" / "data"


@cache
def data(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DATA / f"{name}.yml").read_text(encoding="utf-8"))
    return loaded


def numbers(text: object) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(text))]


def gpu_row(name: str) -> dict[str, Any]:
    name = re.sub(r" MIG .*$", "", name)
    rows = [row for row in data("gpus")["gpus"] if re.match(row["pattern"], name)]
    assert len(rows) == 1, name
    found: dict[str, Any] = rows[0]
    return found


def release_row(torch: str) -> dict[str, Any] | None:
    return next((row for row in data("torch")["releases"] if row["version"] == torch), None)


def variant_row(variant: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in data("cuda")["pytorch_variants"] if row["variant"] == variant)
    return found


def broken_rules(facts: dict[str, Any], torch: str, variant: str, libs: dict[str, str] | None = None) -> list[str]:
    """The rules a stack breaks on a host without a cuda-compat package, by name. Facts must be complete; libs: torchvision,
    transformers, bitsandbytes, flash-attn or vllm."""
    arch, broken = facts["arch"], []
    release = release_row(torch)
    assert release is not None, torch
    gpus = [gpu_row(gpu["name"]) for gpu in facts["gpus"]]
    if facts["python"] not in release["python"] + release.get("python_experimental", []):
        broken.append("python")
    glibc = release.get("glibc_min_variant", {}).get(variant, release["glibc_min"])
    if numbers(facts["os"]["glibc"]) < numbers(glibc):
        broken.append("glibc")
    broken += [
        f"library {name}"
        for name, text in (libs or {}).items()
        if not library_fits(name, text, facts, release, variant)
    ]
    if variant == "cpu":
        return broken
    if not gpus:
        return [*broken, "no gpu"]
    if variant not in release["variants"].get(arch, {}):
        return [*broken, "not published"]
    wheel = release["variants"][arch][variant]
    cuda, driver = variant_row(variant), numbers(facts["driver"])
    if driver < numbers(cuda["min_driver"]):
        broken.append("driver below the variant's floor")
    for gpu in gpus:
        broken += [
            f"{gpu['id']}: {rule}" for rule in broken_gpu_rules(gpu, driver, facts["kernel_module"], wheel, cuda)
        ]
    return broken


def broken_gpu_rules(
    gpu: dict[str, Any], driver: list[int], module: str | None, wheel: dict[str, Any], cuda: dict[str, Any]
) -> list[str]:
    broken = []
    if driver < numbers(gpu["min_driver"]):
        broken.append("driver below the GPU's floor")
    if gpu.get("max_branch") and driver[0] > gpu["max_branch"]:
        broken.append("driver dropped the GPU")
    if module == "open" and (gpu["open_module"] == "unsupported" or driver[0] < 515):
        broken.append("open modules")
    if module == "proprietary" and (gpu["open_module"] == "required" or driver[0] >= 620):
        broken.append("proprietary modules")
    major, minor = numbers(gpu["cc"])
    native = any(sm // 10 == major and sm % 10 <= minor for sm in wheel["sm"])
    reported = {row["branch"]: row["cuda_reported"] for row in data("drivers")["branches"]}.get(driver[0], "0")
    newer_ptx = any(numbers(f"{ptx // 10}.{ptx % 10}") <= [major, minor] for ptx in wheel.get("ptx", []))
    if not native and not (newer_ptx and numbers(reported) >= numbers(cuda["cuda"])):
        broken.append("no kernel")
    return broken


def library_fits(name: str, text: str, facts: dict[str, Any], release: dict[str, Any], variant: str) -> bool:
    """Whether a library version meets torch, Python, capability, glibc and driver limits."""
    torch = numbers(release["version"])
    if name == "torchvision":
        loose = torch >= [2, 14, 0] and numbers(text) in ([0, 29, 1], [0, 29, 2])
        return text == release["torchvision"] or loose
    library = data("libs")["libs"][name]
    rows = [row for row in library["rows"] if within(text, row["versions"])]
    limits = [
        row
        for table in ("min_cc", "driver_floor")
        if isinstance(library.get(table), list)
        for row in library[table]
        if within(text, row["versions"])
    ]
    for row in [*rows, *limits]:
        if not meets(torch, row.get("torch", "any")) or not meets(numbers(facts["python"]), row.get("python", "any")):
            return False
        practice = row.get("torch_in_practice", row.get("runtime_check"))
        if practice and torch < numbers(practice):
            return False
        if variant != "cpu":
            if not meets(numbers(variant_row(variant)["cuda"]), row.get("cuda", "any")):
                return False
            if (
                "min_driver" in row
                and variant != row.get("other_build")
                and numbers(facts["driver"]) < numbers(row["min_driver"])
            ):
                return False
        if numbers(facts["os"]["glibc"]) < numbers(row.get("wheel_glibc", "0")):
            return False
    if numbers(facts["os"]["glibc"]) < numbers(library.get("glibc_min", "0")):
        return False
    floors = [row["min_cc"] for row in [*limits, *rows] if "min_cc" in row]
    floor = floors[0] if floors else library["min_cc"] if isinstance(library.get("min_cc"), str) else "0.0"
    capabilities = [numbers(gpu_row(gpu["name"])["cc"]) for gpu in facts["gpus"]]
    if variant == "cpu":
        return not library.get("needs_cuda")
    return all(capability >= numbers(floor) for capability in capabilities)


def meets(found: list[int], requirement: str) -> bool:
    if requirement.startswith("any"):
        return True
    for clause in requirement.split(","):
        sign, wanted = re.match(r"([<>=!]+)(.*)", clause).groups()  # type: ignore[union-attr]
        number = numbers(wanted)
        if not {">=": found >= number, "<": found < number, "==": found == number, "!=": found != number}[sign]:
            return False
    return True


def within(text: str, span: str) -> bool:
    found = numbers(text)
    low, _, high = (part.strip() for part in span.partition("…"))
    if "…" not in span:
        return found[: len(numbers(low))] == numbers(low)
    above, below = numbers(low), numbers(high)
    return found[: len(above)] >= above and (not below or found[: len(below)] <= below)
