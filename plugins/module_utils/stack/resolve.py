"""The resolver: facts and a wish in, a decision with its reasons out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from .advice import fix_for, install, lock_command
from .alternatives import alternatives
from .assess import Assessment, assess_host
from .decision import Decision
from .drivers import DriverPlan, driver_plan
from .host import Host, Wish, host_of, wish_of
from .loader import load_tables
from .search import best
from .tables import Tables


def resolve(facts: Mapping[str, Any], want: Mapping[str, Any], tables: Tables | None = None) -> Decision:
    """Decide what runs on a host.

    facts: gpus [{name, pci_id?, compute_cap?}], driver, kernel_module (open, proprietary, null), os {id, version, glibc}, arch,
    python, cuda_compat?. want: torch (2.9.1, 2.9 or auto), variant (cu128, auto, cpu, or pypi for what plain pip takes),
    libs {name: version}, stacks [{torch, variant, architectures?, pythons?}]: only one of these, the locked ones. Raises
    StackError for a question that cannot be read. No I/O beyond the resolver's own data.
    """
    tables = tables or load_tables()
    host, wish = host_of(tables, facts), wish_of(want)
    if not host.gpus and wish.variant is None:
        wish = replace(wish, variant="cpu")
    if host.gpus and host.driver is None and wish.variant != "cpu":
        return _decide_without_driver(tables, host, wish)
    return _decided(tables, host, wish, best(tables, assess_host(tables, host, wish.stacks), wish))


def plan_driver(
    facts: Mapping[str, Any],
    want: Mapping[str, Any],
    tables: Tables | None = None,
    branches: Collection[int] | None = None,
) -> DriverPlan | None:
    """The driver to install for a host's GPUs and wish, whatever is installed now; None without GPUs or if none serves them.

    branches: choose among these only, for example those a package source has. Where none of them serves the wished CUDA
    variant, the GPUs alone decide.
    """
    tables = tables or load_tables()
    host, wish = host_of(tables, facts), wish_of(want)
    return _plan_for(tables, host, wish, branches) if host.gpus else None


def _plan_for(tables: Tables, host: Host, wish: Wish, branches: Collection[int] | None = None) -> DriverPlan | None:
    cuda = tables.cuda.get(wish.variant or "")
    return driver_plan(tables, host.models, cuda, branches) or driver_plan(tables, host.models, None, branches)


def _decide_without_driver(tables: Tables, host: Host, wish: Wish) -> Decision:
    """Judge the wish on the driver that would be installed: a plan if it works there, else what stands in its way."""
    plan = _plan_for(tables, host, wish)
    if plan is None:
        return _decided(tables, host, wish, best(tables, assess_host(tables, host, wish.stacks), wish))
    planned = replace(host, driver=plan.branch.last_known, kernel_module=plan.flavour, compat=None)
    found = best(tables, assess_host(tables, planned, wish.stacks), wish)
    decision = _decided(tables, host, wish, found)
    if decision.verdict == "reject":
        return decision
    return replace(
        decision,
        verdict="plan",
        driver=str(plan.branch.number),
        explanation=(*decision.explanation, f"plan: {plan}, torch {decision.torch}+{decision.variant}"),
        fix=install(plan),
    )


def _decided(tables: Tables, host: Host, wish: Wish, found: Assessment) -> Decision:
    others = alternatives(tables, host, wish, found)
    rejected = found.verdict == "reject"
    reasons = found.reasons
    return Decision(
        verdict=found.verdict,
        reason=reasons[0] if rejected else None,
        also=reasons[1:],
        driver=host.driver.text if host.driver else None,
        torch=wish.torch if rejected else found.stack.torch,
        variant=wish.variant if rejected else found.stack.variant,
        alternatives=others,
        minor_compat=found.minor_compat,
        forward_compat=found.forward_compat,
        explanation=tuple(_explanation(found)),
        fix=fix_for(tables, found, others) if rejected else None,
    )


def _explanation(found: Assessment) -> Iterator[str]:
    """What was compared, one line a rule; then what cannot work, what should be known, what is uncertain."""
    yield from (finding.compared for finding in found.findings if finding.compared)
    yield from (f"{problem.reason}: {problem.text}" for problem in found.problems)
    yield from (text if text.startswith("uncertain:") else f"warning: {text}" for text in found.warnings)
    if found.unlocked and not found.problems:
        yield f"lock: {found.unlocked.name} would come first, but has no lock: {lock_command(found.unlocked)}"
    yield from found.doubts
