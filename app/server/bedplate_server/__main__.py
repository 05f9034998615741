"""Command line: `python -m bedplate_server --config FILE`, or `--model DIR` and a few more without a file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from . import __version__, config, logs
from .errors import Refusal


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bedplate_server", description=__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration")
    parser.add_argument("--model", type=Path, metavar="DIR", help="serve this model, named like its directory")
    parser.add_argument("--host", help="listen on this address instead of the configured one")
    parser.add_argument("--port", type=int, help="listen on this TCP port (default 8000)")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N, for every model")
    parser.add_argument("--keys", type=Path, metavar="FILE", help="keys file; without keys only this machine may ask")
    parser.add_argument("--version", action="version", version=__version__)
    return parser.parse_args()


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if arguments.model is not None:
        settings["models"] = [{"name": arguments.model.resolve().name, "path": arguments.model}]
    if arguments.host is not None or arguments.port is not None:
        settings["listen"] = {
            "host": arguments.host or "127.0.0.1",
            "port": 8000 if arguments.port is None else arguments.port,
        }
    if arguments.keys is not None:
        settings["keys_file"] = arguments.keys
    return settings


def main() -> int:
    arguments = _arguments()
    logs.configure(process="front")
    # No model is fetched while serving: directories only.
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
    # The front needs of Transformers the tokenizers alone; without torch it starts in a second and takes 60
    # MB instead of 250. None here makes `import torch` raise ImportError, which the types of sys.modules do not tell.
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        settings = config.load(arguments.config, _overrides(arguments), arguments.device)
        from .front.server import serve

        serve(settings)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
