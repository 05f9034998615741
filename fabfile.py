"""The verbs of ./bedplate, for Fabric: `./bedplate VERB` or `fab VERB`. The code behind them is in ops/."""

from __future__ import annotations

import sys
from pathlib import Path

from fabric import task
from invoke.context import Context
from rich.console import Console
from rich.prompt import Confirm

# Fabric loads this file by path; ops is beside it.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from ops.paths import SANDBOX_INVENTORY

CONSOLE = Console()


def _inventory(given: str | None) -> Path:
    """The inventory a verb works on: the one given, else the sandbox's."""
    return Path(given).resolve() if given else SANDBOX_INVENTORY


@task(
    help={
        "inventory": "provision these servers; without it, sandbox servers made here",
        "servers": "how many sandbox servers",
        "gateways": "how many sandbox gateways in front of them",
        "bundle": "take everything from this bundle, nothing from the internet",
    }
)
def up(
    _context: Context, inventory: str | None = None, servers: int = 1, gateways: int = 0, bundle: str | None = None
) -> None:
    """From bare servers to a chat answer."""
    from ops.up import up as run

    from_bundle = Path(bundle).resolve() if bundle else None
    sys.exit(run(_inventory(inventory) if inventory else None, servers, gateways, CONSOLE, from_bundle))


@task(help={"inventory": "the servers it is for", "output": "the bundle's folder; one that is there is renewed"})
def bundle(_context: Context, inventory: str, output: str) -> None:
    """Gather everything these servers would fetch, for a place without the internet."""
    from ops.bundle import bundle as run

    sys.exit(run(Path(inventory).resolve(), Path(output).resolve(), CONSOLE))


@task
def down(_context: Context) -> None:
    """Destroy the sandbox servers."""
    from ops.up import down as run

    sys.exit(run(CONSOLE))


@task(help={"inventory": "the servers to look at (default: the sandbox)", "json": "print JSON"})
def plan(_context: Context, inventory: str | None = None, json: bool = False) -> None:
    """What site.yml would change on each server, in words; changes nothing. Exit status 0: nothing, 2: something, 1: refused."""
    from ops.plan import plan as run

    sys.exit(run(_inventory(inventory), CONSOLE, json))


@task(help={"inventory": "the servers (default: the sandbox)", "limit": "these hosts alone"})
def rollback(_context: Context, inventory: str | None = None, limit: str | None = None) -> None:
    """Bring back what the service was before its environment or its code last changed."""
    from ops.rollback import rollback as run

    sys.exit(run(_inventory(inventory), limit, CONSOLE))


@task(
    positional=["host"],
    help={
        "host": "the server",
        "inventory": "the servers (default: the sandbox)",
        "last": "also when no other server serves",
        "wait": "longest wait for the answers under way, in seconds",
    },
)
def drain(_context: Context, host: str, inventory: str | None = None, last: bool = False, wait: int = 600) -> None:
    """Keep new requests away from a server behind gateways, and wait until its answers have ended."""
    from ops.gateway import drain as run

    sys.exit(run(_inventory(inventory), host, "present", {"drain_last": last, "drain_seconds": wait}, CONSOLE))


@task(positional=["host"], help={"host": "the server", "inventory": "the servers (default: the sandbox)"})
def undrain(_context: Context, host: str, inventory: str | None = None) -> None:
    """Give requests back to a drained server, once it serves."""
    from ops.gateway import drain as run

    sys.exit(run(_inventory(inventory), host, "absent", {}, CONSOLE))


@task(
    help={
        "inventory": "the servers (default: the sandbox)",
        "restart": "only restart the service, update nothing",
        "limit": "these hosts alone",
    }
)
def roll(_context: Context, inventory: str | None = None, restart: bool = False, limit: str | None = None) -> None:
    """Update the servers one after the other while the others behind a gateway answer."""
    from ops.gateway import roll as run

    sys.exit(run(_inventory(inventory), restart, limit, CONSOLE))


@task(help={"inventory": "the servers to look at (default: the sandbox)", "json": "print JSON"})
def status(_context: Context, inventory: str | None = None, json: bool = False) -> None:
    """What each server runs."""
    from ops.status import status as run

    sys.exit(run(_inventory(inventory), CONSOLE, json))


@task(help={"inventory": "the servers to verify (default: the sandbox)"})
def verify(_context: Context, inventory: str | None = None) -> None:
    """Run the layer tests against live servers."""
    from ops.verify import verify as run

    sys.exit(run(_inventory(inventory), CONSOLE))


@task(
    help={
        "model": "model directory (default: the bundled tutor)",
        "host": "address to listen on",
        "port": "port to listen on",
        "device": "cpu, cuda or auto",
        "keys": "keys file; without one only this machine may connect",
    }
)
def serve(
    _context: Context,
    model: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    device: str = "auto",
    keys: str | None = None,
) -> None:
    """Run the inference service from this checkout on this machine."""
    from ops.serve import serve as run

    sys.exit(run(Path(model) if model else None, host, port, device, Path(keys) if keys else None, CONSOLE))


@task(
    positional=["action"],
    help={
        "action": "add, list or revoke",
        "name": "add: whose key it is",
        "expires": "add: 90d, 2027-01-31 or an ISO time (default: never)",
        "requests_per_minute": "add: a limit of this key's own",
        "concurrency": "add: requests at once, a limit of this key's own",
        "id": "revoke: which key, as list shows it",
        "inventory": "the servers (default: the sandbox)",
        "file": "a keys file on this machine instead, for ./bedplate serve --keys",
    },
)
def key(
    _context: Context,
    action: str,
    name: str | None = None,
    expires: str | None = None,
    requests_per_minute: int = 0,
    concurrency: int = 0,
    id: str | None = None,
    inventory: str | None = None,
    file: str | None = None,
) -> None:
    """Make, show and revoke API keys; a running service takes them over at once."""
    from ops.key import key as run

    asked = {"name": name, "expires": expires, "id": id}
    limits = {"requests_per_minute": requests_per_minute, "concurrency": concurrency}
    sys.exit(run(action, _inventory(inventory), Path(file) if file else None, {**asked, **limits}, CONSOLE))


@task(
    iterable=["gpu", "lib"],
    help={
        "facts": "YAML or JSON file with {facts, want} or {cases: [{id, facts, want}]}",
        "gpu": "a GPU as nvidia-smi names it; repeat for several",
        "driver": "installed driver version; leave out for a plan",
        "module": "kernel modules: open or proprietary",
        "os": "such as ubuntu-22.04",
        "glibc": "if it is not the one of that system",
        "arch": "x86_64 (default) or aarch64",
        "python": "such as 3.12",
        "compat": "installed cuda-compat package, such as cuda-compat-13-0",
        "torch": "such as 2.9.1 (default: auto)",
        "variant": "such as cu128, cpu, pypi (default: auto)",
        "lib": "such as vllm=0.23.0; repeat for several",
        "locked": "only builds that this checkout has locks for, as site.yml decides",
        "json": "print JSON",
    },
)
def resolve(
    _context: Context,
    gpu: list[str],
    lib: list[str],
    facts: str | None = None,
    driver: str | None = None,
    module: str | None = None,
    os: str | None = None,
    glibc: str | None = None,
    arch: str | None = None,
    python: str | None = None,
    compat: str | None = None,
    torch: str | None = None,
    variant: str | None = None,
    locked: bool = False,
    json: bool = False,
) -> None:
    """Which driver, CUDA, PyTorch wheel and libraries run together on a host, and why."""
    from ops.resolve import resolve as run

    host = {"gpu": gpu, "driver": driver, "module": module, "os": os, "glibc": glibc, "arch": arch, "compat": compat}
    wish = {"torch": torch, "variant": variant, "lib": lib, "locked": locked}
    sys.exit(run(Path(facts) if facts else None, {**host, **wish, "python": python}, json))


@task(
    help={
        "torch": "release, such as 2.14.1",
        "variant": "wheel variant, such as cu130",
        "folder": "where to write it (default: this checkout's locks; name another one in pytorch_locks)",
        "index": "index with the build's wheels instead of PyTorch's own, for those that pip's index does not have",
    }
)
def lock(_context: Context, torch: str, variant: str, folder: str | None = None, index: str | None = None) -> None:
    """Lock another build of PyTorch by hash, for the environments of the servers."""
    from ops.paths import LOCKS
    from ops.torch_lock import lock as run

    sys.exit(run(torch, variant, Path(folder).resolve() if folder else LOCKS, index, CONSOLE))


@task(
    positional=["action", "reference"],
    help={
        "action": "lock, list, verify, repair, prune or fit",
        "reference": "lock: a source, such as hf://Qwen/Qwen3-0.6B@main (default: every locked one anew); fit: that or a directory",
        "endpoint": "lock: another Hub (or ModelScope) than the maker's",
        "token-file": "lock: file with a token for gated models",
        "inventory": "the servers, and whose models.lock it is (default: the sandbox)",
        "limit": "these hosts alone",
        "yes": "prune: do not ask",
        "gpu": "fit: a GPU as nvidia-smi names it",
        "memory": "fit: GiB of memory of a host without a GPU, instead of --gpu",
        "context": "fit: tokens of the longest conversation (default: the model's own)",
        "concurrency": "fit: conversations at once",
        "quantization": "fit: int8 or nf4",
        "dtype": "fit: float32, bfloat16 or float16 (default: the model's; float32 on a CPU, which is enough for any)",
        "serve_as": "fit: the task, as in model_list",
        "json": "list, verify, fit: print JSON",
    },
)
def model(
    _context: Context,
    action: str,
    reference: str | None = None,
    gpu: str | None = None,
    memory: str | None = None,
    context: int = 0,
    concurrency: int = 32,
    quantization: str | None = None,
    dtype: str = "auto",
    serve_as: str = "auto",
    endpoint: str | None = None,
    token_file: str | None = None,
    inventory: str | None = None,
    limit: str | None = None,
    yes: bool = False,
    json: bool = False,
) -> None:
    """Lock what models are made of; list, verify, repair and prune what servers have; tell whether one fits."""
    if action == "fit":
        from ops.model_fit import Question, model_fit
        from plugins.module_utils.bedplate.model_memory import Wish

        wish = Wish(context or None, concurrency, dtype, quantization, task=serve_as)
        sys.exit(model_fit(Question(reference or "", gpu, float(memory) if memory else None, wish), json))
    from ops import model as models

    where = _inventory(inventory)
    if action == "lock":
        sys.exit(models.lock(reference or None, where, endpoint, Path(token_file) if token_file else None, CONSOLE))
    if action in ("list", "verify"):
        sys.exit(models.show(where, limit, action == "verify", json, CONSOLE))
    if action == "repair":
        sys.exit(models.repair(where, limit, CONSOLE))
    if action == "prune":
        sys.exit(models.prune(where, limit, yes, lambda question: Confirm.ask(question, default=False), CONSOLE))
    sys.exit(f"{action}: lock, list, verify, repair, prune or fit")


@task(help={"all": "also the slow and destructive tests", "only": "run only stages with these names, comma separated"})
def test(_context: Context, all: bool = False, only: str | None = None) -> None:
    """Prove every layer: lint, unit and app tests, then a server from bare to a chat answer."""
    from ops.testing import test as run

    sys.exit(run(all, only.split(",") if only else None, CONSOLE))
