"""The lists that a play refuses by are those of the Transformers that the service runs with, and of the engine."""

from __future__ import annotations

from typing import Any

import transformers
from transformers.models.auto import modeling_auto

from plugins.module_utils.bedplate.architectures import MODEL_TYPES, OWN_ATTENTION, TRANSFORMERS
from plugins.module_utils.bedplate.model_refusals import LAYER_KINDS
from tests.app.test_architectures import ATTENTION_OF_THEIR_OWN, SERVED


def _classes(mapping: Any) -> set[str]:
    return {name for names in mapping.values() for name in ([names] if isinstance(names, str) else names)}


def test_the_lists_are_those_of_this_transformers() -> None:
    assert transformers.__version__ == TRANSFORMERS
    vectors, chat = modeling_auto.MODEL_MAPPING_NAMES, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    assert set(vectors) | set(chat) == MODEL_TYPES
    assert _classes(chat) > OWN_ATTENTION


def test_what_the_engine_serves_is_not_refused_and_what_it_cannot_is() -> None:
    from bedplate_server.engine.attention import SERVED_LAYER_TYPES

    assert set(LAYER_KINDS) == SERVED_LAYER_TYPES
    assert {f"{name}ForCausalLM" for name in ATTENTION_OF_THEIR_OWN} <= OWN_ATTENTION
    assert not {f"{name}ForCausalLM" for name in SERVED} & OWN_ATTENTION
