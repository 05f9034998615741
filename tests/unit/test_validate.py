"""A variable nobody knows is refused with the name that is meant, before anything runs."""

from __future__ import annotations

from ops.paths import ROOT
from plugins.action.bedplate_validate import RENAMED, role_options, unknown_names

OPTIONS = role_options(ROOT / "roles")


def test_a_misspelt_variable_is_refused_with_the_nearest_name() -> None:
    assert [text.split(" Fix: ")[1] for text in unknown_names(["pytorch_varriant"], OPTIONS)] == [
        "did you mean pytorch_variant?"
    ]


def test_a_variable_of_an_earlier_release_is_refused_with_its_successor() -> None:
    known = {name for role in OPTIONS.values() for name in role}
    for old, new in RENAMED.items():
        (refused,) = unknown_names([old], OPTIONS)
        assert refused.startswith("BP111 ") and f"it is called {new} now" in refused
        assert new in known and old not in known


def test_a_known_variable_and_a_persons_own_are_accepted() -> None:
    assert list(unknown_names(["pytorch_variant", "bedplate_receipt", "my_site"], OPTIONS)) == []
