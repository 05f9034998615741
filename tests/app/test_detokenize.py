"""Text comes in whole characters, adds up to the whole text, and holds nothing of a stop string."""

from __future__ import annotations

import random

import pytest
from bedplate_server.front.detokenize import TextStream
from tokenizers import Tokenizer

from tests.app.support import tiny_models

TEXTS = [
    "你好，世界！今天天气很好。",
    "混合 mixed 文本 with 😀🎉🚀 emoji 👩‍💻 and é à ü ñ.",
    "𠮷野家 龘 🇨🇳 नमस्ते ﷽",
    "plain ascii text,  with  spaces\n\nand lines\t.",
]


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return tiny_models.tokenizer().backend_tokenizer


def pieces(words: Tokenizer, text: str, stops: list[str]) -> tuple[list[str], bool]:
    stream = TextStream(words, stops)
    shown = []
    for token in words.encode(text, add_special_tokens=False).ids:
        shown.append(stream.push(token))
        if stream.stopped:
            break
    return [*shown, stream.finish()], stream.stopped


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_whole_characters_and_add_up(words: Tokenizer, text: str) -> None:
    shown, stopped = pieces(words, text, [])
    assert "".join(shown) == text
    assert not stopped
    assert all("\ufffd" not in piece for piece in shown)
    assert len([piece for piece in shown if piece]) > 5, "it was not streamed"


def test_half_a_character_at_the_end_stays_out(words: Tokenizer) -> None:
    tokens = words.encode("好😀", add_special_tokens=False).ids
    stream = TextStream(words, [])
    shown = "".join(stream.push(token) for token in tokens[:-1]) + stream.finish()
    assert shown == "好"


def test_the_first_tokens_are_no_part_of_a_stop_string(words: Tokenizer) -> None:
    tokens = words.encode("one two one two", add_special_tokens=False).ids
    stream = TextStream(words, ["one", "two"], minimum=len(tokens) - 1)
    shown = "".join(stream.push(token) for token in tokens) + stream.finish()
    assert (shown, stream.stopped) == ("one two one two", False)
    for minimum in (0, 3):
        stream, shown, read = TextStream(words, ["one"], minimum=minimum), "", 0
        for token in tokens:
            shown += stream.push(token)
            read += 1
            if stream.stopped:
                break
        assert stream.stopped
        assert shown == ("" if minimum == 0 else "one two ")
        assert read > minimum


@pytest.mark.parametrize("seed", range(60))
def test_text_ends_before_the_stop_string_completed_first(words: Tokenizer, seed: int) -> None:
    source = random.Random(seed)
    text = source.choice(TEXTS)
    starts = [source.randrange(len(text)) for _ in range(source.randint(1, 4))]
    stops = [text[start : start + source.randint(1, 6)] for start in starts] + ["never in it", text[-1] + "x"]
    _, first = min((start + len(stop), start) for stop in stops if (start := text.find(stop)) >= 0)
    shown, stopped = pieces(words, text, stops)
    assert stopped
    assert "".join(shown) == text[:first]


def test_the_beginning_of_a_stop_string_is_shown_once_it_is_none(words: Tokenizer) -> None:
    shown, stopped = pieces(words, "one two three", ["two four"])
    assert "".join(shown) == "one two three"
    assert not stopped


def test_an_end_that_could_be_a_stop_string_is_shown_at_the_end(words: Tokenizer) -> None:
    shown, stopped = pieces(words, "wait for it", ["it is", "for it all"])
    assert "".join(shown) == "wait for it"
    assert not stopped
    assert "for" not in "".join(shown[:-1])


class _FailingDecoder:
    """Fails as tokenizers do when a token changes how those before it read."""

    def step(self, *_: object) -> str:
        raise Exception("Invalid prefix encountered while decoding stream.")


def test_decoding_goes_on_after_an_invalid_prefix(words: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = TextStream(words, [])
    tokens = words.encode("a b c", add_special_tokens=False).ids
    shown = stream.push(tokens[0])
    monkeypatch.setattr(stream, "_decoder", _FailingDecoder())
    shown += "".join(stream.push(token) for token in tokens[1:]) + stream.finish()
    assert shown == "a b c"
