"""The resolver's rules one at a time, at the edges where each turns."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.module_utils.stack import Decision, StackError, load_tables, plan_driver, resolve
from plugins.module_utils.stack.host import host_of
from plugins.module_utils.stack.stacks import Stack
from plugins.module_utils.stack.tables import Wheel
from plugins.module_utils.stack.versions import in_span, satisfies, version
from plugins.module_utils.stack.wheels import kernel_for, kernels_finding

A100, T4, V100, RTX4090 = "NVIDIA A100-SXM4-80GB", "Tesla T4", "Tesla V100-SXM2-32GB", "NVIDIA GeForce RTX 4090"


def ask(
    *gpus: str | dict[str, Any], driver: str | None = None, torch: str = "auto", variant: str = "auto", **more: Any
) -> Decision:
    libs = more.pop("libs", {})
    facts = {"gpus": [gpu if isinstance(gpu, dict) else {"name": gpu} for gpu in gpus], "driver": driver, **more}
    facts.setdefault("python", "3.11")
    return resolve(facts, {"torch": torch, "variant": variant, "libs": libs})


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("570.26", "570.86.15"),
        ("570.86.15", "570.124.06"),
        ("535.54.03", "535.104.05"),
        ("2.9.1", "2.10.0"),
        ("580", "580.65.06"),
    ],
)
def test_versions_compare_field_by_field(lower: str, higher: str) -> None:
    assert version(lower) < version(higher)


@pytest.mark.parametrize(
    ("text", "span", "inside"),
    [
        ("4.30.2", "4.28 … 4.30", True), ("4.31.0", "4.28 … 4.30", False), ("4.37.1", "4.37", True), ("1.0.9", "1.0.x", True),
        ("1.1.0", "1.0.x", False), ("0.20.0", "0.20 …", True), ("0.19.9", "0.20 …", False), ("0.6.3", "0.5.5 … 0.6.3", True),
        ("0.20", "0.20.0 … 0.20.2", True),
    ],
)  # fmt: skip
def test_spans_include_both_ends_as_far_as_they_are_written(text: str, span: str, inside: bool) -> None:
    assert in_span(version(text), span) is inside


def test_requirements_of_packages() -> None:
    assert satisfies(version("2.6.0"), ">=2.1,<2.7") and not satisfies(version("2.7.0"), ">=2.1,<2.7")
    assert not satisfies(version("1.12.0"), ">=1.9,!=1.12.0") and satisfies(version("1.0"), "any (unpinned)")


@pytest.mark.parametrize(
    ("driver", "variant", "verdict", "minor"),
    [
        ("525.60.13", "cu126", "ok", True), ("525.60.11", "cu126", "reject", False), ("560.35.05", "cu126", "ok", False),
        ("580.65.06", "cu130", "ok", True), ("580.95.05", "cu130", "ok", False), ("575.57.08", "cu130", "reject", False),
        ("580.95.05", "cu132", "ok", True), ("470.256.02", "cu118", "ok", True), ("620.70.06", "cu118", "ok", False),
    ],
)  # fmt: skip
def test_a_driver_runs_every_minor_of_its_cuda_major_and_all_older_cuda(
    driver: str, variant: str, verdict: str, minor: bool
) -> None:
    torch = "2.7.1" if variant == "cu118" else "2.14.1"
    decision = ask(A100, driver=driver, torch=torch, variant=variant)
    assert (decision.verdict, decision.minor_compat) == (verdict, minor)


@pytest.mark.parametrize(
    ("capability", "kernels", "cuda", "runs"),
    [
        ((8, 9), [(8, 0), (8, 6)], "12.6", (8, 6)), ((8, 0), [(8, 6)], "12.6", None), ((9, 0), [(8, 6)], "11.7", None),
        ((10, 3), [(10, 0)], "13.0", (10, 0)), ((12, 1), [(10, 0), (12, 0)], "13.0", (12, 0)), ((12, 0), [(10, 0)], "12.8", None),
        ((8, 7), [(8, 0), (8, 6)], "13.0", None), ((8, 7), [(8, 0), (8, 6)], "13.2", (8, 6)), ((7, 2), [(7, 0)], "12.6", None),
        ((10, 1), [(11, 0)], "13.0", (11, 0)),
    ],
)  # fmt: skip
def test_a_kernel_runs_on_its_own_major_number_from_its_minor_on(
    capability: tuple[int, int], kernels: list[tuple[int, int]], cuda: str, runs: tuple[int, int] | None
) -> None:
    wheel = Wheel(tuple(kernels), (), False, (), False, None)
    assert kernel_for(load_tables(), wheel, capability, version(cuda)) == runs


@pytest.mark.parametrize(("speaks", "reasons"), [("13.0", []), ("12.8", ["gpu_arch_missing"])])
def test_ptx_serves_a_newer_gpu_if_the_driver_can_compile_it(speaks: str, reasons: list[str]) -> None:
    tables = load_tables()
    wheel = Wheel(kernels=((9, 0),), ptx=((9, 0),), uncertain=False, doubted=(), off_matrix=False, note=None)
    host = host_of(tables, {"gpus": [{"name": "NVIDIA B200"}], "driver": "580.95.05"})
    stack = Stack("2.9.1", tables.release("2.9.1"), "cu130")
    finding = kernels_finding(tables, host, stack, wheel, tables.cuda["cu130"], version(speaks))
    assert [problem.reason for problem in finding.problems] == reasons
    assert bool(finding.warnings) is not bool(reasons)


@pytest.mark.parametrize(
    ("gpu", "driver", "module", "reason"),
    [
        (V100, "580.95.05", "open", "kernel_module_flavour"), (V100, "580.95.05", "proprietary", None),
        (T4, "580.95.05", "open", None), (T4, "580.95.05", "proprietary", None), (T4, "620.70.06", "proprietary", "kernel_module_flavour"),
        (T4, "620.70.06", "open", None), (T4, "470.256.02", "open", "kernel_module_flavour"),
        ("NVIDIA B200", "570.211.01", "proprietary", "kernel_module_flavour"), ("NVIDIA B200", "570.211.01", "open", None),
        ("NVIDIA GH200 480GB", "580.95.05", "proprietary", "kernel_module_flavour"),
    ],
)  # fmt: skip
def test_each_gpu_has_its_module_flavours(gpu: str, driver: str, module: str, reason: str | None) -> None:
    assert ask(gpu, driver=driver, kernel_module=module).reason == reason


def test_early_open_modules_warn_on_geforce_only() -> None:
    assert ask(RTX4090, driver="535.216.01", kernel_module="open").verdict == "ok_with_warning"
    assert ask("NVIDIA L4", driver="535.216.01", kernel_module="open").verdict == "ok"


@pytest.mark.parametrize(
    ("gpus", "branch", "flavour"),
    [
        ([V100], 580, "proprietary"), ([V100, A100], 580, "proprietary"), ([T4], 580, "open"), (["NVIDIA B200", A100], 580, "open"),
        (["Tesla K80"], 470, "proprietary"), (["Tesla K80", A100], 470, "proprietary"), (["NVIDIA B300 SXM6 AC"], 580, "open"),
    ],
)  # fmt: skip
def test_the_plan_names_branch_and_flavour(gpus: list[str], branch: int, flavour: str) -> None:
    decision = ask(*gpus, python="3.10")
    assert (decision.verdict, decision.driver) == ("plan", str(branch))
    assert decision.fix and f"nvidia_driver_flavour: {flavour}" in decision.fix
    plan = plan_driver({"gpus": [{"name": name} for name in gpus]}, {})
    assert plan and (plan.branch.number, plan.flavour) == (branch, flavour)


def test_no_plan_is_made_for_what_no_driver_can_make_work() -> None:
    assert ask(V100, torch="2.15.0", variant="cu130").reason == "gpu_arch_missing"
    assert ask("Tesla P40", "NVIDIA B200").reason == "mixed_gpus"
    assert ask("Tesla K80", "NVIDIA H100 PCIe").reason == "mixed_gpus"
    assert plan_driver({"gpus": [{"name": "Tesla P40"}, {"name": "NVIDIA B200"}]}, {}) is None


def test_a_plan_can_be_held_to_the_branches_a_source_has() -> None:
    facts = {"gpus": [{"name": A100}]}
    plan = plan_driver(facts, {}, branches=[470, 535])
    assert plan and (plan.branch.number, plan.flavour) == (535, "proprietary")
    # Neither branch runs CUDA 13; the GPUs alone decide then.
    wished = plan_driver(facts, {"variant": "cu130"}, branches=[470, 535])
    assert wished and wished.branch.number == 535
    assert plan_driver({"gpus": [{"name": "NVIDIA B200"}]}, {}, branches=[470, 535]) is None


def test_mixed_generations_get_the_newest_torch_that_serves_all() -> None:
    assert ask(V100, A100, driver="580.95.05", kernel_module="proprietary").torch == "2.14.1"
    pair = ask(A100, "NVIDIA GeForce RTX 5090", driver="570.211.01", kernel_module="open")
    assert (pair.torch, pair.variant) == ("2.11.0", "cu128")
    partly = ask(V100, A100, driver="580.95.05", torch="2.15.0", variant="cu130")
    assert (partly.reason, partly.also) == ("gpu_arch_missing", ("mixed_gpus",))


@pytest.mark.parametrize(
    ("gpu", "driver", "package", "reason"),
    [
        (A100, "535.216.01", "cuda-compat-13-0", None), (A100, "535.216.01", "13.0", None),
        (A100, "470.256.02", "cuda-compat-13-0", "forward_compat_refused"),
        (A100, "580.95.05", "cuda-compat-13-0", "compat_package_older_than_driver"), (A100, "580.95.05", "cuda-compat-13-3", None),
        (A100, "570.211.01", "cuda-compat-13-3", "forward_compat_refused"), (RTX4090, "535.216.01", "cuda-compat-13-0", "forward_compat_refused"),
        ("NVIDIA RTX A6000", "535.216.01", "cuda-compat-13-0", "forward_compat_refused"),
        (A100, "545.29.06", "cuda-compat-12-8", "forward_compat_refused"),
        (A100, "535.216.01", "cuda-compat-12-8", "driver_too_old_for_cuda"),
    ],
)  # fmt: skip
def test_forward_compatibility_has_its_gpus_its_direction_and_its_bases(
    gpu: str, driver: str, package: str, reason: str | None
) -> None:
    decision = ask(gpu, driver=driver, torch="2.9.1", variant="cu130", cuda_compat=package)
    assert decision.reason == reason
    assert decision.forward_compat is (reason is None)


@pytest.mark.parametrize(
    ("facts", "torch", "variant", "reason"),
    [
        ({"arch": "aarch64"}, "2.5.1", "cu124", None), ({"arch": "aarch64"}, "2.5.1", "cu121", "variant_not_published"),
        ({"arch": "aarch64"}, "2.3.1", "auto", "cpu_only_wheel"), ({"arch": "ppc64le"}, "2.9.1", "auto", "variant_not_published"),
        ({}, "2.6.0", "cu126", "glibc_too_old"), ({}, "2.6.0", "cu124", None), ({"python": "3.13"}, "2.5.1", "cu124", None),
        ({"python": "3.13t"}, "2.9.1", "auto", "python_unsupported"), ({}, "9.9.9", "auto", "variant_not_published"),
    ],
)  # fmt: skip
def test_wheels_are_published_per_architecture_python_and_c_library(
    facts: dict[str, Any], torch: str, variant: str, reason: str | None
) -> None:
    gpu = "NVIDIA GH200 480GB" if facts.get("arch") == "aarch64" else A100
    system = {"os": {"id": "ubuntu", "version": "18.04"}} if torch == "2.6.0" else {}
    assert ask(gpu, driver="580.95.05", torch=torch, variant=variant, **system, **facts).reason == reason


def test_an_early_python_is_a_warning() -> None:
    assert ask(A100, driver="580.95.05", torch="2.5.1", variant="cu124", python="3.13").verdict == "ok_with_warning"


def test_auto_prefers_a_variant_the_driver_runs_fully() -> None:
    decision = ask(A100, driver="580.95.05")
    assert (decision.torch, decision.variant, decision.minor_compat) == ("2.15.0", "cu130", False)


def test_a_series_means_its_newest_release() -> None:
    assert ask(A100, driver="580.95.05", torch="2.9").torch == "2.9.1"
    assert ask(A100, driver="580.95.05", torch="2.9.1+cu126").variant == "cu126"


def test_a_host_without_gpu_is_a_cpu_host() -> None:
    decision = ask()
    assert (decision.verdict, decision.variant, decision.torch) == ("ok", "cpu", "2.15.0")


def test_a_gpu_host_may_wish_for_the_cpu_whatever_its_driver() -> None:
    assert ask(V100, driver="595.45.04", variant="cpu").verdict == "ok"


@pytest.mark.parametrize(
    ("libs", "torch", "variant", "reason", "verdict"),
    [
        ({"torchvision": "0.24.1"}, "2.9.1", "cu128", None, "ok"), ({"torchvision": "0.24.1"}, "auto", "auto", None, "ok"),
        ({"torchvision": "0.24.1+cu126"}, "2.9.1", "cu128", "lib_conflict", "reject"), ({"torchvision": "0.29.1"}, "2.15.0", "auto", None, "ok"),
        ({"torchaudio": "2.11.0"}, "2.14.1", "auto", None, "ok"), ({"torchaudio": "2.10.0"}, "2.14.1", "auto", "lib_conflict", "reject"),
        ({"vllm": "0.12.0"}, "auto", "cu128", None, "ok"), ({"vllm": "0.12.0"}, "2.10.0", "cu128", "lib_conflict", "reject"),
        ({"vllm": "0.22.0"}, "2.11.0", "cu130", None, "ok"), ({"vllm": "0.8.0"}, "2.9.1", "auto", "lib_conflict", "reject"),
        ({"vllm": "0.12.0"}, "2.9.0", "cu130", None, "ok_with_warning"), ({"vllm": "0.23.0"}, "2.11.0", "cu129", None, "ok_with_warning"),
        ({"transformers": "4.52.4"}, "2.9.1", "auto", None, "ok_with_warning"), ({"numpy": "2.3.0"}, "2.9.1", "auto", None, "ok_with_warning"),
        ({"flash-attn": "2.8.3"}, "2.7.1", "cu118", "lib_conflict", "reject"), ({"flash_attn": "2.8.3"}, "2.9.1", "auto", None, "ok"),
        ({"vllm": "0.12.0"}, "2.9.0", "cpu", "lib_conflict", "reject"),
    ],
)  # fmt: skip
def test_libraries_pin_torch_python_cuda_and_gpu(
    libs: dict[str, str], torch: str, variant: str, reason: str | None, verdict: str
) -> None:
    decision = ask(A100, driver="580.95.05", torch=torch, variant=variant, libs=libs)
    assert (decision.reason, decision.verdict) == (reason, verdict)


@pytest.mark.parametrize(
    ("gpu", "libs", "reason"),
    [
        ("Tesla M40", {"bitsandbytes": "0.50.2"}, "gpu_below_lib_min"), ("Tesla M40", {"bitsandbytes": "0.45.5"}, None),
        ("Tesla P40", {"bitsandbytes": "0.50.2"}, None), (V100, {"vllm": "0.19.1"}, None), (V100, {"vllm": "0.20.0"}, "gpu_below_lib_min"),
        (T4, {"sglang": "0.5.20"}, None), (V100, {"sglang": "0.5.20"}, "gpu_below_lib_min"),
        (RTX4090, {"flash-attn-4": "4.0.0"}, "gpu_below_lib_min"),
        ("Tesla P40", {"vllm": "auto"}, "gpu_below_lib_min"),
    ],
)  # fmt: skip
def test_libraries_have_a_lowest_gpu(gpu: str, libs: dict[str, str], reason: str | None) -> None:
    assert ask(gpu, driver="580.95.05", libs=libs, os="ubuntu-22.04").reason == reason


def test_a_library_below_its_gpu_is_offered_in_an_older_version() -> None:
    decision = ask(V100, driver="580.95.05", libs={"vllm": "0.23.0"})
    assert decision.alternatives[0]["libs"] == {"vllm": "0.19.1"}
    assert decision.fix and "vllm 0.19.1" in decision.fix


def test_the_most_fundamental_reason_comes_first() -> None:
    """The GPU is not even driven; a newer wheel's missing kernel and a wrong Python are lesser."""
    decision = ask(V100, driver="595.45.04", kernel_module="open", torch="2.15.0", variant="cu130", python="3.10")
    assert decision.reason == "driver_dropped_gpu"
    assert decision.also == ("kernel_module_flavour", "gpu_arch_missing", "python_unsupported")


@pytest.mark.parametrize(
    ("gpu", "found"),
    [
        ({"name": "NVIDIA A100-SXM4-40GB MIG 1g.5gb"}, "Ampere, 8.0"), ({"name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb+me"}, "Hopper, 9.0"),
        ({"pci_id": "10de:20b2"}, "Ampere, 8.0"), ({"pci_id": "0x20B210DE"}, "Ampere, 8.0"), ({"pci_id": "10de:2bb3"}, "RTX PRO 5000 72GB"),
        ({"name": "Tesla V100-SXM2-16GB"}, "Volta, 7.0"), ({"name": "A100-SXM4-40GB"}, "Ampere, 8.0"),
        ({"name": "Rare", "compute_cap": "8.6"}, "Ampere, 8.6"),
    ],
)  # fmt: skip
def test_gpus_are_known_by_name_slice_pci_id_or_capability(gpu: dict[str, Any], found: str) -> None:
    decision = ask(gpu)
    assert found in decision.explanation[0]
    derived = "name" not in gpu or "compute_cap" in gpu
    assert any(line.startswith("uncertain:") for line in decision.explanation) is derived


def test_uncertain_rows_show_up_in_the_explanation() -> None:
    decision = ask(A100, driver="580.95.05", torch="2.9.1", variant="cu129")
    assert decision.verdict == "ok_with_warning"
    assert any("uncertain: torch 2.9.1+cu129" in line for line in decision.explanation)
    certain = ask(V100, driver="570.211.01", torch="2.7.1", variant="cu118")
    assert certain.verdict == "ok", "the doubt about this wheel is about Kepler alone"


@pytest.mark.parametrize(
    ("facts", "want", "code"),
    [
        ({"gpus": [{"name": "NVIDIA Z9000"}]}, {}, "BP141"), ({"gpus": [{}]}, {}, "BP141"), ({"gpus": [], "driver": "newest"}, {}, "BP142"),
        ({"gpus": [], "kernel_module": "nouveau"}, {}, "BP142"), ({"gpus": [], "python": "cpython"}, {}, "BP142"),
        ({"gpus": []}, {"torch": 2.1}, "BP142"), ({"gpus": []}, {"libs": ["vllm"]}, "BP142"), ({"gpus": [], "os": 12}, {}, "BP142"),
        ({"gpus": [{"name": T4}], "driver": "580.95.05", "cuda_compat": "yes"}, {}, "BP142"),
        ({"gpus": [{"name": "NVIDIA GB200"}], "arch": "x86_64"}, {}, "BP143"), ({"gpus": []}, {"torch": "2.9.1+cu126", "variant": "cu128"}, "BP143"),
        ({"gpus": [{"name": T4, "compute_cap": "8.0"}]}, {}, "BP143"),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_read_is_refused_with_code_cause_and_fix(
    facts: dict[str, Any], want: dict[str, Any], code: str
) -> None:
    with pytest.raises(StackError, match=rf"^{code} .+\. Fix: .+"):
        resolve(facts, want)


def test_an_unknown_gpu_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(StackError, match="NVIDIA A100-SXM4-40GB"):
        ask("NVIDIA A100")
    with pytest.raises(StackError, match="NVIDIA GeForce RTX 4090"):
        ask("RTX 4090")
