"""Prove a Python environment: its modules import, and torch computes on every device it should have.

Usage: python prove.py [--without-gpu] VARIANT MODULE...
--without-gpu: this machine need not have the GPU that the variant is for.
Prints what was found as JSON; any failure is an error with its cause.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys

SIZE = 96


def matrix(rows: int, columns: int, a: int, b: int, modulus: int) -> list[list[int]]:
    """Small whole numbers around 0, so that a product of floats is exact on any device."""
    return [[(a * i + b * j) % modulus - modulus // 2 for j in range(columns)] for i in range(rows)]


def product_is_exact(torch, device: str) -> bool:
    """Multiply two matrices on the device and compare every entry with Python's own whole numbers."""
    left, right = matrix(SIZE, SIZE, 7, 3, 11), matrix(SIZE, SIZE, 5, 1, 13)
    columns = list(zip(*right, strict=True))
    expected = [[sum(x * y for x, y in zip(row, column, strict=True)) for column in columns] for row in left]
    a, b = (torch.tensor(rows, dtype=torch.float32, device=device) for rows in (left, right))
    return (a @ b).to("cpu", torch.int64).tolist() == expected


def prove_torch(variant: str, without_gpu: bool) -> dict[str, object]:
    """Version, CUDA and devices of torch, after a matrix product on each device."""
    import torch

    wanted = f"{variant[2:-1]}.{variant[-1]}" if variant.startswith("cu") else None
    if torch.version.cuda != wanted:
        sys.exit(f"torch {torch.__version__} is built for CUDA {torch.version.cuda}; variant {variant} means {wanted}")
    if wanted and not without_gpu and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} sees no GPU: is the driver loaded, and new enough for CUDA {wanted}?")
    devices = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    for device in devices:
        if not product_is_exact(torch, device):
            sys.exit(f"torch {torch.__version__} computes a wrong matrix product on {device}")
    return {"version": torch.__version__, "cuda": torch.version.cuda, "exact_product_on": devices}


def main() -> None:
    words = sys.argv[1:]
    without_gpu = words[:1] == ["--without-gpu"]
    variant, *modules = words[1:] if without_gpu else words
    imported = {name: importlib.import_module(name) for name in modules}
    found: dict[str, object] = {
        "python": platform.python_version(),
        "modules": {name: getattr(module, "__version__", None) for name, module in imported.items()},
    }
    if "torch" in modules:
        found["torch"] = prove_torch(variant, without_gpu)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
