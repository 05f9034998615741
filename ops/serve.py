"""`./bedplate serve`: the inference service from this checkout on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from ops.paths import TUTOR
from ops.service_env import SERVER, EnvironmentFailed, service_python


def serve(model: Path | None, host: str, port: int, device: str, keys: Path | None, console: Console) -> int:
    """Replace this process by the service; returns only when it could not start."""
    try:
        python = service_python(console)
    except EnvironmentFailed as error:
        console.print(str(error), highlight=False, markup=False)
        return 1
    argv = [
        str(python),
        "-m",
        "bedplate_server",
        "--model",
        str(model or TUTOR),
        "--host",
        host,
        "--port",
        str(port),
        "--device",
        device,
    ]
    argv += ["--keys", str(keys)] if keys else []
    os.environ["PYTHONPATH"] = str(SERVER)
    os.execv(argv[0], argv)
