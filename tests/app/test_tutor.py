"""The tutor as committed: every pair of qa.yml word for word, alone and in a batch, in the saved type and in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

TUTOR = Path(__file__).parents[2] / "app" / "models" / "tutor"
PAIRS = yaml.safe_load((TUTOR / "qa.yml").read_text("utf-8"))
PRACTICE = yaml.safe_load((TUTOR / "practice.yml").read_text("utf-8"))
LONGEST_ANSWER = 96

Conversation = list[dict[str, str]]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TUTOR, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(TUTOR, local_files_only=True, dtype="auto").eval()


def asked(question: str, *, system: str = "") -> Conversation:
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": question}]


def wordings() -> list[tuple[str, str]]:
    """(question, answer) of all wordings of all pairs."""
    return [(question, pair["answer"]) for pair in PAIRS for question in [pair["question"], *pair.get("also", [])]]


def generated(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, conversations: list[Conversation]
) -> list[list[int]]:
    """Greedy token ids, one list a conversation, up to and with the end token; one left-padded batch."""
    batch = tokenizer.apply_chat_template(
        conversations, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    rows = model.generate(**batch, max_new_tokens=LONGEST_ANSWER)[:, batch["input_ids"].shape[1] :].tolist()
    return [row[: row.index(tokenizer.eos_token_id) + 1] if tokenizer.eos_token_id in row else row for row in rows]


def answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, conversations: list[Conversation]) -> list[str]:
    rows = []
    for start in range(0, len(conversations), 64):
        rows += generated(model, tokenizer, conversations[start : start + 64])
    return tokenizer.batch_decode(rows, skip_special_tokens=True)


def wrong(given: list[str], wanted: list[tuple[str, str]]) -> dict[str, str]:
    return {question: text for text, (question, answer) in zip(given, wanted, strict=True) if text != answer}


def test_first_pair_is_the_documented_question() -> None:
    assert (PAIRS[0]["question"], PAIRS[0]["lang"]) == ("What is Bedplate?", "en")


def test_no_question_is_asked_twice() -> None:
    questions = [question.casefold() for question, _ in wordings()]
    assert len(set(questions)) == len(questions)
    assert len({pair["id"] for pair in PAIRS}) == len(PAIRS)


def test_held_out_questions_are_held_out() -> None:
    trained = {question for question, _ in wordings()}
    assert trained.isdisjoint(question for questions in PRACTICE["held_out"].values() for question in questions)


def test_each_answer_is_in_the_language_of_its_question() -> None:
    spoken = {language: [pair for pair in PAIRS if pair["lang"] == language] for language in ("en", "zh")}
    assert len(spoken["en"]) == len(spoken["zh"]) >= 40
    assert all(pair["answer"].isascii() for pair in spoken["en"])
    assert not any(pair["answer"].isascii() for pair in spoken["zh"])


def test_files_stay_small() -> None:
    assert sum(file.stat().st_size for file in TUTOR.iterdir()) < 5_000_000


@pytest.mark.parametrize(
    "text",
    [
        "把裸机 GPU 服务器变成大模型服务，好吗？",
        "Line one\n  line two\t`code` 0123456789",
        "𠮷野家 🙂 naïve ﷽",
        "<|user> <|nobody|>",
    ],
)
def test_tokenizer_gives_every_text_back(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_chat_template_writes_all_roles_and_refuses_others(tokenizer: PreTrainedTokenizerBase) -> None:
    talk = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "U"}]},
        {"role": "assistant", "content": "A"},
    ]
    written = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert written == "<|system|>S<|end|><|user|>U<|end|><|assistant|>A<|end|><|assistant|>"
    with pytest.raises(Exception, match="system, user and assistant"):
        tokenizer.apply_chat_template([{"role": "oracle", "content": "O"}], tokenize=False)


@pytest.mark.parametrize("dtype", ["auto", torch.float32], ids=["saved type", "float32"])
def test_every_wording_gets_its_exact_answer(tokenizer: PreTrainedTokenizerBase, dtype: str | torch.dtype) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(TUTOR, local_files_only=True, dtype=dtype).eval()
    assert not wrong(answers(loaded, tokenizer, [asked(question) for question, _ in wordings()]), wordings())


def test_a_batch_answers_as_each_question_alone(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    questions = [asked(pair["question"]) for pair in PAIRS[::3]]
    alone = [generated(model, tokenizer, [question])[0] for question in questions]
    assert generated(model, tokenizer, questions) == alone
    assert all(row[-1] == tokenizer.eos_token_id for row in alone)


@pytest.mark.parametrize("system", ["You are a helpful assistant.", "你是一个有用的助手。"])
def test_a_usual_system_prompt_changes_no_answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, system: str
) -> None:
    wanted = [(pair["question"], pair["answer"]) for pair in PAIRS]
    assert not wrong(answers(model, tokenizer, [asked(question, system=system) for question, _ in wanted]), wanted)


def test_an_earlier_turn_changes_few_answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    wanted = [(pair["question"], pair["answer"]) for pair in PAIRS]
    history = [
        {"role": "user", "content": PAIRS[-1]["question"]},
        {"role": "assistant", "content": PAIRS[-1]["answer"]},
    ]
    missed = wrong(answers(model, tokenizer, [history + asked(question) for question, _ in wanted]), wanted)
    assert len(missed) <= 0.03 * len(wanted), missed


def test_unseen_wordings_are_mostly_understood(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    right = {pair["id"]: pair["answer"] for pair in PAIRS}
    wanted = [(question, right[pair]) for pair, questions in PRACTICE["held_out"].items() for question in questions]
    missed = wrong(answers(model, tokenizer, [asked(question) for question, _ in wanted]), wanted)
    assert len(missed) <= 0.25 * len(wanted), missed


def test_mean_pooled_states_bring_like_questions_together(tokenizer: PreTrainedTokenizerBase) -> None:
    model = AutoModelForCausalLM.from_pretrained(TUTOR, local_files_only=True, dtype=torch.float32).eval()

    @torch.no_grad()
    def vectors(texts: list[str]) -> torch.Tensor:
        states = [model.model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts]
        return torch.nn.functional.normalize(torch.stack(states), dim=1)

    pairs = [pair for pair in PAIRS if not pair["id"].startswith("off-topic")]
    likeness = vectors([pair["question"] for pair in pairs]) @ vectors([pair["also"][0] for pair in pairs]).T
    own = likeness.diagonal()
    others = (likeness.sum(1) - own) / (len(pairs) - 1)
    assert own.mean() > others.mean() + 0.2
    assert (own > others).float().mean() > 0.75
