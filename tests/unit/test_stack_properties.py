"""Whatever the resolver answers holds against a second, independent reading of its data."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.module_utils.stack import resolve
from plugins.module_utils.stack.explain import lines
from plugins.module_utils.stack.findings import REASONS
from tests.unit.stack_oracle import broken_rules, data, gpu_row

NAMES = [name for row in data("gpus")["gpus"] for name in row["names"]]
# Every version a rule turns on, and one below and above it where that is another version.
DRIVERS = sorted(
    {row["min_driver"] for row in data("cuda")["pytorch_variants"]}
    | {row["paired_driver"] for row in data("cuda")["pytorch_variants"]}
    | {row["last_known"] for row in data("drivers")["branches"]}
    | {row["first_release"] for row in data("drivers")["branches"]}
    | {row["min_driver"] for row in data("gpus")["gpus"] if "." in row["min_driver"]}
    | {"525.60.12", "580.65.05", "450.80.01"}
)
TORCHES = [row["version"] for row in data("torch")["releases"]]
VARIANTS = [row["variant"] for row in data("cuda")["pytorch_variants"]]
LIBRARIES = {
    "torchvision": sorted({row["torchvision"] for row in data("torch")["releases"]}),
    "transformers": ["4.30.2", "4.50.0", "4.52.4", "4.57.1", "5.0.0", "5.14.0", "5.23.0"],
    "bitsandbytes": ["0.42.0", "0.45.5", "0.49.0", "0.50.2"],
    "flash-attn": ["1.0.9", "2.5.8", "2.8.3"],
    "vllm": ["0.2.7", "0.9.2", "0.12.0", "0.20.1", "0.23.0", "0.33.0"],
}


# The same questions every time: a red test is red for everyone.
STEADY = settings(deadline=None, derandomize=True, database=None)


@st.composite
def questions(draw: st.DrawFn, drivers: list[str | None]) -> tuple[dict[str, Any], dict[str, Any]]:
    gpus = draw(st.lists(st.sampled_from(NAMES), max_size=3))
    built_in = {gpu_row(name).get("cpu_arch") for name in gpus} - {None}
    driver = draw(st.sampled_from(drivers))
    facts = {
        "gpus": [{"name": name} for name in gpus],
        "driver": driver,
        "kernel_module": draw(st.sampled_from(["open", "proprietary", None])) if driver else None,
        "os": {
            "id": "any",
            "version": "1",
            "glibc": draw(st.sampled_from(["2.17", "2.27", "2.28", "2.31", "2.35", "2.39"])),
        },
        "arch": "aarch64" if built_in else draw(st.sampled_from(["x86_64", "x86_64", "aarch64"])),
        "python": draw(st.sampled_from(["3.8", "3.10", "3.11", "3.12", "3.13", "3.15"])),
    }
    libs = draw(st.lists(st.sampled_from(sorted(LIBRARIES)), max_size=1))
    want = {
        "torch": draw(st.sampled_from(["auto", "auto", *TORCHES])),
        "variant": draw(st.sampled_from(["auto", "auto", "cpu", *VARIANTS])),
        "libs": {name: draw(st.sampled_from(LIBRARIES[name])) for name in libs},
    }
    return facts, want


def with_changes(
    facts: dict[str, Any], want: dict[str, Any], alternative: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The question an alternative answers: it names the facts and wishes to change."""
    changed = {name: alternative[name] for name in ("driver", "kernel_module", "cuda_compat") if name in alternative}
    wish = {**want, "torch": alternative["torch"], "variant": alternative["variant"]}
    return {**facts, **changed}, {**wish, "libs": alternative.get("libs", want["libs"])}


@settings(STEADY, max_examples=600)
@given(questions(drivers=[*DRIVERS]))
def test_what_is_accepted_breaks_no_rule(question: tuple[dict[str, Any], dict[str, Any]]) -> None:
    facts, want = question
    decision = resolve(facts, want)
    assert decision.verdict in ("ok", "ok_with_warning", "reject")
    if decision.verdict != "reject":
        assert decision.torch and decision.variant
        assert broken_rules(facts, decision.torch, decision.variant, want["libs"]) == []
        assert want["torch"] in ("auto", decision.torch)
        assert want["variant"] in ("auto", decision.variant)


@settings(STEADY, max_examples=400)
@given(questions(drivers=[*DRIVERS]))
def test_what_is_rejected_breaks_a_rule_and_auto_misses_nothing(
    question: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    facts, want = question
    decision = resolve(facts, want)
    if decision.verdict != "reject":
        return
    assert decision.reason in REASONS and set(decision.also) <= set(REASONS) - {decision.reason}
    assert decision.fix and any(line.startswith(f"{decision.reason}: ") for line in decision.explanation)
    torches = TORCHES if want["torch"] == "auto" else [want["torch"]]
    for torch in torches:
        published = release_variants(torch, facts["arch"])
        for variant in published if want["variant"] == "auto" else [want["variant"]]:
            assert broken_rules(facts, torch, variant, want["libs"]), f"{torch}+{variant} would have done"


def release_variants(torch: str, arch: str) -> list[str]:
    release = next(row for row in data("torch")["releases"] if row["version"] == torch)
    return list(release["variants"].get(arch, {}))


@settings(STEADY, max_examples=300)
@given(questions(drivers=[None, *DRIVERS]))
def test_every_alternative_is_itself_ok(question: tuple[dict[str, Any], dict[str, Any]]) -> None:
    facts, want = question
    decision = resolve(facts, want)
    assert len(decision.alternatives) <= 2
    for alternative in decision.alternatives:
        changed_facts, wish = with_changes(facts, want, alternative)
        assert resolve(changed_facts, wish).verdict == "ok", alternative
        assert broken_rules(changed_facts, wish["torch"], wish["variant"], wish["libs"]) == []


@settings(STEADY, max_examples=300)
@given(questions(drivers=[None]))
def test_a_plan_names_a_driver_on_which_the_wish_works(question: tuple[dict[str, Any], dict[str, Any]]) -> None:
    facts, want = question
    decision = resolve(facts, want)
    if decision.verdict != "plan":
        return
    branch = next(row for row in data("drivers")["branches"] if str(row["branch"]) == decision.driver)
    flavour = "open" if "nvidia_driver_flavour: open" in str(decision.fix) else "proprietary"
    planned = {**facts, "driver": branch["last_known"], "kernel_module": flavour}
    assert decision.torch and decision.variant
    assert broken_rules(planned, decision.torch, decision.variant, want["libs"]) == []


@settings(STEADY, max_examples=100)
@given(questions(drivers=[None, *DRIVERS]))
def test_a_decision_is_plain_data_the_same_twice_and_ten_lines(question: tuple[dict[str, Any], dict[str, Any]]) -> None:
    first, second = resolve(*question), resolve(*question)
    assert first == second
    assert json.loads(json.dumps(first.as_dict())) == first.as_dict()
    assert len(lines(first)) <= 10


@st.composite
def locked_questions(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A question about a few locked builds, each for some architectures and Pythons."""
    facts, want = draw(questions(drivers=[*DRIVERS]))
    builds = [(torch, variant) for torch in TORCHES for variant in [*release_variants(torch, facts["arch"]), "cpu"]]
    stacks = [
        {"torch": torch, "variant": variant, "architectures": architectures, "pythons": pythons}
        for torch, variant in draw(st.lists(st.sampled_from(builds), max_size=4, unique=True))
        for architectures in [draw(st.sampled_from([[], ["x86_64"], ["aarch64"], ["x86_64", "aarch64"]]))]
        for pythons in [draw(st.sampled_from([[], ["3.11"], ["3.10", "3.11", "3.12"]]))]
    ]
    return facts, {**want, "stacks": stacks}


def is_locked(facts: dict[str, Any], want: dict[str, Any], torch: str | None, variant: str | None) -> bool:
    return any(
        (one["torch"], one["variant"]) == (torch, variant)
        and facts["arch"] in (one["architectures"] or [facts["arch"]])
        and facts["python"] in (one["pythons"] or [facts["python"]])
        for one in want["stacks"]
    )


@settings(STEADY, max_examples=400)
@given(locked_questions())
def test_only_locked_builds_are_chosen_or_proposed(question: tuple[dict[str, Any], dict[str, Any]]) -> None:
    facts, want = question
    decision = resolve(facts, want)
    if decision.verdict != "reject":
        assert decision.torch and decision.variant and is_locked(facts, want, decision.torch, decision.variant)
        assert broken_rules(facts, decision.torch, decision.variant, want["libs"]) == []
    for alternative in decision.alternatives:
        changed_facts, wish = with_changes(facts, want, alternative)
        assert resolve(changed_facts, wish).verdict == "ok", alternative
        assert is_locked(facts, want, alternative["torch"], alternative["variant"])


@settings(STEADY, max_examples=400)
@given(locked_questions())
def test_a_locked_build_that_works_is_never_missed_and_a_missing_lock_is_all_that_is_missing(
    question: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    facts, want = question
    decision = resolve(facts, want)
    if decision.verdict != "reject":
        return
    for one in want["stacks"]:
        # auto means a CUDA build where there is a GPU, and the CPU build elsewhere.
        auto = want["variant"] == "auto" and (one["variant"] == "cpu") == (not facts["gpus"])
        wished = want["torch"] in ("auto", one["torch"]) and (auto or want["variant"] == one["variant"])
        if wished and is_locked(facts, want, one["torch"], one["variant"]):
            assert broken_rules(facts, one["torch"], one["variant"], want["libs"])
    if decision.reason == "not_locked":
        unlocked = resolve(facts, {**want, "stacks": None})
        assert unlocked.verdict in ("ok", "ok_with_warning") and "./bedplate lock --torch" in str(decision.fix)
