"""What a rule found, and in which order reasons outrank each other."""

from __future__ import annotations

from dataclasses import dataclass

# Reason -> code, the most fundamental first: what the hardware rules out, then the driver, the wheel, the system, the libraries.
# A reason outranks those that its fix would leave standing but not the other way round: no driver makes a missing kernel appear.
CODES = {
    "no_gpu": "BP145",
    "mixed_gpus": "BP145",
    "driver_dropped_gpu": "BP145",
    "driver_too_old_for_gpu": "BP145",
    "kernel_module_flavour": "BP145",
    "cpu_only_wheel": "BP147",
    "variant_not_published": "BP147",
    "gpu_arch_missing": "BP147",
    "forward_compat_refused": "BP146",
    "compat_package_older_than_driver": "BP146",
    "driver_too_old_for_cuda": "BP146",
    "glibc_too_old": "BP148",
    "python_unsupported": "BP148",
    "gpu_below_lib_min": "BP149",
    "lib_conflict": "BP149",
    "not_locked": "BP306",
}
REASONS = tuple(CODES)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a stack cannot work. gpus: the models it concerns; empty: the whole host."""

    reason: str
    text: str
    gpus: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule's result: what it compared, what cannot work, what works but should be known, what the data is unsure of."""

    compared: str
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    # By which way the driver runs the wheel's CUDA.
    minor_compat: bool = False
    forward_compat: bool = False

    @property
    def clean(self) -> bool:
        """Nothing that keeps the verdict from being ok."""
        return not self.problems and not self.warnings
