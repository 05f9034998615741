"""Which driver, CUDA, PyTorch wheel and libraries run together on a host, and why: sourced data and pure functions.

from plugins.module_utils.stack import resolve
resolve({"gpus": [{"name": "Tesla T4"}], "driver": "535.216.01"}, {"torch": "auto"}).verdict
"""

from __future__ import annotations

from .decision import Decision
from .errors import StackError
from .loader import load_tables
from .resolve import plan_driver, resolve

__all__ = ["Decision", "StackError", "load_tables", "plan_driver", "resolve"]
