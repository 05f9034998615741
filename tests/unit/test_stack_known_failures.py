"""Failures that users of these stacks have met, each as the question that would have shown it beforehand.

Where a report is known it is named; the others are the messages people see.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from plugins.module_utils.stack import resolve

V100, P100, K80 = "Tesla V100-SXM2-32GB", "Tesla P100-PCIE-16GB", "Tesla K80"
A100, H100, T4, L4 = "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "Tesla T4", "NVIDIA L4"
RTX4090, RTX5090, B200 = "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 5090", "NVIDIA B200"
GH200, GB10 = "NVIDIA GH200 480GB", "NVIDIA GB10"


@dataclass(frozen=True)
class Failure:
    """Who saw it, what they ran, what the resolver says about it."""

    seen: str
    gpus: tuple[str, ...]
    driver: str | None
    reason: str
    says: str
    module: str | None = None
    torch: str = "auto"
    variant: str = "auto"
    libs: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def question(self) -> tuple[dict[str, Any], dict[str, Any]]:
        facts = {
            "gpus": [{"name": name} for name in self.gpus],
            "driver": self.driver,
            "kernel_module": self.module,
            "os": {"id": "ubuntu", "version": "22.04", "glibc": "2.35"},
            "python": "3.12",
            **self.facts,
        }
        return facts, {"torch": self.torch, "variant": self.variant, "libs": self.libs}


FAILURES = [
    Failure(
        "modelscope/FunASR#2973: an unpinned torch is a CUDA 13 wheel on driver 570",
        (RTX4090,), "570.211.01", "driver_too_old_for_cuda", "found version 12080", torch="2.11.0", variant="pypi",
    ),
    Failure(
        "vllm-project/vllm#39878: the CUDA 13 default has no Volta kernels",
        (V100,), "580.95.05", "gpu_arch_missing", "no kernel for Tesla V100-SXM2-32GB", torch="2.11.0", variant="cu130",
    ),
    Failure(
        "vllm-project/vllm#39878: a vLLM built for CUDA 13 on Volta",
        (V100,), "580.95.05", "gpu_below_lib_min", "vllm 0.23.0 needs compute capability 7.5", libs={"vllm": "0.23.0"},
    ),
    Failure(
        "awslabs/amazon-eks-ami#2769: proprietary modules under Blackwell, nvidia-smi sees no devices",
        (B200,), "580.95.05", "kernel_module_flavour", "works only with the open", module="proprietary",
    ),
    Failure(
        "Start9Labs/start-technologies#3693: GB10 with the proprietary modules",
        (GB10,), "580.173.02", "kernel_module_flavour", "NVIDIA GB10 (Blackwell)", module="proprietary",
    ),
    Failure(
        "zzzhouuu/truenas-nvidia-drivers#20: open modules under Pascal, no GPU System Processor",
        (P100,), "580.95.05", "kernel_module_flavour", "works only with the proprietary", module="open",
    ),
    Failure(
        "Arch Linux news on 590: the driver moved on under Pascal",
        (P100,), "590.48.01", "driver_dropped_gpu", "R580 is its last branch", module="proprietary",
    ),
    Failure(
        "NixOS/nixos-hardware#1828: Volta after 590", (V100,), "595.45.04", "driver_dropped_gpu", "no longer drives",
    ),
    Failure(
        "dmesg: supported through the NVIDIA 470.xx Legacy drivers",
        (K80,), "535.216.01", "driver_dropped_gpu", "R470 is its last branch", facts={"python": "3.10"},
    ),
    Failure(
        "Comfy-Org/ComfyUI#16438: cu128 is no longer published",
        (RTX4090,), "580.95.05", "variant_not_published", "cu126, cu130, cu132", torch="2.12.0", variant="cu128",
    ),
    Failure(
        "NVIDIA/nvidia-docker#1515, gpustack/gpustack#1254: error 804, compat libraries on a GeForce",
        (RTX4090,), "535.216.01", "forward_compat_refused", "CUDA error 804", torch="2.9.1", variant="cu130",
        facts={"cuda_compat": "cuda-compat-13-0"},
    ),
    Failure(
        "error 803: compat libraries left in the path under a newer driver",
        (A100,), "580.95.05", "compat_package_older_than_driver", "CUDA error 803", facts={"cuda_compat": "cuda-compat-12-8"},
    ),
    Failure(
        "ComputeCanada/software-stack-config#112: cuda-compat-13-3 no longer accepts R535",
        (A100,), "535.216.01", "forward_compat_refused", "does not accept R535", torch="2.15.0", variant="cu132",
        facts={"cuda_compat": "cuda-compat-13-3"},
    ),
    Failure(
        "a K80 user reports that 2.7.1+cu118 fails",
        (K80,), "470.256.02", "gpu_arch_missing", "compute capability 3.7", torch="2.7.1", variant="cu118",
    ),
    Failure(
        "what pip takes by itself on an Arm server was a CPU wheel up to 2.10",
        (GH200,), "580.95.05", "cpu_only_wheel", "CPU only", torch="2.8.0", variant="pypi",
    ),
    Failure(
        "no CUDA wheel for Arm servers before 2.4",
        (GH200,), "560.35.05", "cpu_only_wheel", "published for CPU only", torch="2.3.1", variant="cu121",
    ),
    Failure(
        "sm_120 is not compatible with the current PyTorch installation",
        (RTX5090,), "570.211.01", "gpu_arch_missing", "compute capability 12.0", module="open", torch="2.6.0", variant="cu124",
    ),
    Failure(
        "2.7 left Volta out of cu128",
        (V100,), "570.211.01", "gpu_arch_missing", "no kernel for", torch="2.7.1", variant="cu128",
    ),
    Failure(
        "H200 sold with a driver older than it",
        ("NVIDIA H200",), "535.216.01", "driver_too_old_for_gpu", "needs driver 550.90.07", torch="2.9.1", variant="cu128",
    ),
    Failure(
        "a new GPU on Debian's own driver", (RTX5090,), "550.163.01", "driver_too_old_for_gpu", "needs driver 570.86.16",
    ),
    Failure(
        "FlashAttention only supports Ampere GPUs or newer",
        (T4,), "580.95.05", "gpu_below_lib_min", "flash-attn 2.8.3 needs compute capability 8.0", libs={"flash-attn": "2.8.3"},
    ),
    Failure(
        "Disabling PyTorch because PyTorch >= 2.4 is required",
        (A100,), "535.216.01", "lib_conflict", "needs torch >=2.4", torch="2.3.1", libs={"transformers": "5.14.0"},
    ),
    Failure(
        "transformers 4.50 on torch 2.0.1: module 'torch' has no attribute 'compiler'",
        (A100,), "535.216.01", "lib_conflict", "needs torch 2.1 or newer to work", torch="2.0.1",
        libs={"transformers": "4.50.0"}, facts={"python": "3.11"},
    ),
    Failure(
        "torchvision of another release: operator torchvision::nms does not exist",
        (L4,), "580.95.05", "lib_conflict", "goes with torchvision 0.24.1", torch="2.9.1", libs={"torchvision": "0.23.0"},
    ),
    Failure(
        "CentOS 7 and its clusters: version GLIBC_2.28 not found",
        (A100,), "535.216.01", "glibc_too_old", "needs glibc 2.28", torch="2.7.1", variant="cu126",
        facts={"os": {"id": "centos", "version": "7.9"}},
    ),
    Failure(
        "no matching distribution found for torch: a Python without wheels",
        (A100,), "580.95.05", "python_unsupported", "not for 3.9", torch="2.9.1", facts={"python": "3.9"},
    ),
    Failure(
        "Pascal beside Blackwell in one workstation",
        (P100, RTX5090), "580.95.05", "mixed_gpus", "no driver serves these GPUs together",
    ),
    Failure(
        "Torch not compiled with CUDA support: no GPU on the bus", (), None, "no_gpu", "has no NVIDIA GPU", variant="cu128",
    ),
]  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.seen)
def test_the_failure_is_foreseen_and_a_way_out_is_named(failure: Failure) -> None:
    decision = resolve(*failure.question())
    assert (decision.verdict, decision.reason) == ("reject", failure.reason)
    assert any(failure.says in line for line in decision.explanation), decision.explanation
    assert decision.fix


@pytest.mark.parametrize("failure", [f for f in FAILURES if f.gpus], ids=lambda failure: failure.seen)
def test_a_working_alternative_is_proposed(failure: Failure) -> None:
    assert resolve(*failure.question()).alternatives


def test_volta_and_pascal_still_work_on_580_with_the_proprietary_modules() -> None:
    for gpu in (V100, P100):
        facts = {"gpus": [{"name": gpu}], "driver": "580.95.05", "kernel_module": "proprietary", "python": "3.12"}
        decision = resolve(facts, {"torch": "auto"})
        assert (decision.verdict, decision.torch, decision.variant) == ("ok", "2.14.1", "cu126")


def test_r535_runs_cuda_13_on_a_data_centre_gpu_through_cuda_compat() -> None:
    """NVIDIA-NeMo/labs-molt PR 44."""
    facts = {"gpus": [{"name": H100}], "driver": "535.216.01", "cuda_compat": "cuda-compat-13-0", "python": "3.12"}
    decision = resolve(facts, {"torch": "2.9.1", "variant": "cu130"})
    assert (decision.verdict, decision.forward_compat) == ("ok_with_warning", True)
    assert any(line.startswith("uncertain:") for line in decision.explanation)
