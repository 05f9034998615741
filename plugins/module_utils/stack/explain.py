"""A decision as a person reads it: at most ten lines."""

from __future__ import annotations

from .advice import alternative_text
from .decision import Decision
from .findings import CODES

LINES = 10
# Lines of the explanation that begin so say what was found; the others what was compared.
_REMARKS = (*(f"{reason}:" for reason in CODES), "warning:", "uncertain:", "plan:", "lock:")


def lines(decision: Decision) -> list[str]:
    """Verdict, what was compared, what else is to be known, the fix, what would work."""
    compared = [line for line in decision.explanation if not line.startswith(_REMARKS)]
    said = f"{decision.reason}:"
    remarks = [
        line for line in decision.explanation if line.startswith(_REMARKS) and not line.startswith((said, "plan:"))
    ]
    end = [f"fix: {decision.fix}"] if decision.fix else []
    if decision.alternatives:
        label = "works" if decision.verdict == "reject" else "also works"
        end.append(f"{label}: " + "; ".join(map(alternative_text, decision.alternatives)))
    if remarks:
        end.insert(0, "note: " + "; ".join(remarks))
    room = LINES - 1 - len(end)
    if len(compared) > room:
        compared = [*compared[: room - 1], "; ".join(compared[room - 1 :])]
    return [headline(decision), *(f"  {line}" for line in (*compared, *end))]


def headline(decision: Decision) -> str:
    """'reject BP147 gpu_arch_missing: …', 'ok: torch 2.14.1+cu126 on driver 535.216.01, by minor-version compatibility'."""
    if decision.verdict == "reject" and decision.reason:
        main = next((line for line in decision.explanation if line.startswith(f"{decision.reason}:")), decision.reason)
        return f"reject {CODES[decision.reason]} {main}"
    if decision.verdict == "plan":
        return next(line for line in decision.explanation if line.startswith("plan:"))
    way = ", by minor-version compatibility" if decision.minor_compat else ""
    way = ", by forward compatibility (cuda-compat)" if decision.forward_compat else way
    driver = f" on driver {decision.driver}" if decision.driver and decision.variant != "cpu" else ""
    return f"{decision.verdict}: torch {decision.torch}+{decision.variant}{driver}{way}"
