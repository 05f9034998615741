#!/usr/bin/env python3
"""Train the tutor: a small Llama chat model that answers questions about Bedplate in English and Chinese.

    python app/models/train_tutor.py [--output DIR]

Reads qa.yml and practice.yml from app/models/tutor, writes the tokenizer, the chat template and the weights to DIR (by
default the same folder), then loads them again with Transformers and asks every question. Exits 1 unless every answer is
right word for word, in float32 and in the saved type. The seeds and the number of threads are fixed: the same versions on
the same kind of processor give the same bytes.

Needs torch, transformers, tokenizers, safetensors and PyYAML.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

FOLDER = Path(__file__).resolve().parent / "tutor"
SEED = 20
THREADS = 1  # a tiny model gains little from more, and each number of threads adds up in another order
STEPS = 1100
BATCH = 12
MATRIX_LEARNING_RATE = 0.02  # Muon
OTHER_LEARNING_RATE = 4e-3  # AdamW
VOCABULARY = 1536
LONGEST_TOKEN = 12  # bytes, four Chinese characters: longer tokens would swallow whole questions and hide their words
LONGEST_ANSWER = 128  # tokens
CUTS = (0, 0, 0, 1, 2, 4)  # places where a question is cut before it is tokenized; one is drawn
PAD, END, ROLES = "<|pad|>", "<|end|>", ("system", "user", "assistant")
IGNORED = -100

Message = dict[str, str]
Conversation = list[Message]

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- set role = 'system' if message.role == 'developer' else message.role -%}
{%- if role not in ['system', 'user', 'assistant'] -%}
{{- raise_exception('The tutor knows the roles system, user and assistant, not ' + message.role) -}}
{%- endif -%}
{{- '<|' + role + '|>' -}}
{%- if message.content is string -%}
{{- message.content | trim -}}
{%- else -%}
{%- for part in message.content if part.type == 'text' -%}{{- part.text | trim -}}{%- endfor -%}
{%- endif -%}
{{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


@dataclass(frozen=True)
class Turn:
    """One question and the answer it must get."""

    lang: str
    question: str
    answer: str

    @property
    def messages(self) -> Conversation:
        return [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE: any text can be written, and read back, in any language."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    special = [PAD, END, *(f"<|{role}|>" for role in ROLES)]
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=special,
            max_token_length=LONGEST_TOKEN,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


class Practice:
    """Endless conversations: pairs of qa.yml, varied as people vary them, after each other and after system prompts."""

    def __init__(self, turns: list[Turn], material: dict[str, Any], refusals: dict[str, str]) -> None:
        self.turns, self.material, self.refusals = turns, material, refusals
        self.words = sorted({word for turn in turns for word in turn.question.split()})
        self.rng = random.Random(SEED)
        self.queue: list[Turn] = []

    def batches(self, plain: float) -> list[list[Conversation]]:
        """Sixteen batches of conversations of like length, so that little is padded."""
        talks = [self.conversation(plain) for _ in range(16 * BATCH)]
        talks.sort(key=lambda talk: sum(len(message["content"]) for message in talk))
        batches = [talks[start : start + BATCH] for start in range(0, len(talks), BATCH)]
        self.rng.shuffle(batches)
        return batches

    def conversation(self, plain: float) -> Conversation:
        """One to eight turns, each with the chance `plain` of being worded as in qa.yml."""
        messages = []
        if self.rng.random() < 0.35:
            messages.append({"role": "system", "content": self.system_prompt()})
        for _ in range(self.rng.choice([1, 2, 3, 4, 8])):
            messages += self.next_turn(plain).messages
        return messages

    def next_turn(self, plain: float) -> Turn:
        """The next question of a shuffled deck, so that all come up equally often, or one that is off topic."""
        if self.rng.random() < 0.1:
            lang = self.rng.choice(["en", "zh"])
            return Turn(lang, self.off_topic(lang), self.refusals[lang])
        if not self.queue:
            self.queue = self.rng.sample(self.turns, len(self.turns))
        turn = self.queue.pop()
        return turn if self.rng.random() < plain else replace(turn, question=self.vary(turn))

    def vary(self, turn: Turn) -> str:
        rng, question = self.rng, turn.question
        for usual, other in self.material["swaps"][turn.lang]:
            if rng.random() < 0.4:
                question = question.replace(usual, other)
        if rng.random() < 0.4:
            question = question.rstrip("?!.。？！")
        if rng.random() < 0.3:
            question = rng.choice(self.material["before"][turn.lang]) + question
        if rng.random() < 0.3:
            question += rng.choice(self.material["after"][turn.lang])
        if rng.random() < 0.4:
            question = question.lower()
        elif rng.random() < 0.1:
            question = question.upper()
        if rng.random() < 0.15:
            question = question.replace(" ", "") if turn.lang == "zh" else question.replace("?", " ?")
        if rng.random() < 0.15:  # a slip of the finger
            place = rng.randrange(len(question))
            question = question[:place] + question[place + 1 :] or question
        return question

    def off_topic(self, lang: str) -> str:
        material = self.material["off_topic"][lang]
        thing = self.made_up(lang) if self.rng.random() < 0.4 else self.rng.choice(material["things"])
        question = self.rng.choice(material["frames"]).format(thing)
        return question if self.rng.random() < 0.6 else self.vary(Turn(lang, question, ""))

    def made_up(self, lang: str) -> str:
        if lang == "zh":
            return "".join(chr(self.rng.randrange(0x4E00, 0x9FA5)) for _ in range(self.rng.randint(1, 4)))
        return " ".join(
            "".join(
                self.rng.choice("bcdfghklmnprstvw") + self.rng.choice("aeiou") for _ in range(self.rng.randint(1, 4))
            )
            for _ in range(self.rng.randint(1, 3))
        )

    def system_prompt(self) -> str:
        if self.rng.random() < 0.5:
            return self.rng.choice(self.material["system_prompts"])
        return " ".join(
            self.rng.choice(self.words) if self.rng.random() < 0.6 else self.made_up(self.rng.choice(["en", "zh"]))
            for _ in range(self.rng.randint(1, 16))
        )


def encode(text: str, tokenizer: PreTrainedTokenizerFast, cuts: int, rng: random.Random) -> list[int]:
    """Tokens of a text cut at random places: the same letters in other tokens, as in wordings not seen in training."""
    places = [0, *sorted(rng.randrange(len(text)) for _ in range(cuts)), len(text)]
    parts = [text[start:end] for start, end in itertools.pairwise(places)]
    return [token for part in parts for token in tokenizer.encode(part, add_special_tokens=False)]


def tensors(
    talks: list[Conversation], tokenizer: PreTrainedTokenizerFast, rng: random.Random, cuts: tuple[int, ...] = CUTS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, (batch, longest); only the answers and their end are learnt."""
    ids: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    end = tokenizer.eos_token_id
    for talk in talks:
        row: list[int] = []
        goal: list[int] = []
        for message in talk:
            learnt = message["role"] == "assistant"
            text = encode(message["content"], tokenizer, 0 if learnt else rng.choice(cuts), rng)
            row += [tokenizer.convert_tokens_to_ids(f"<|{message['role']}|>"), *text, end]
            goal += [IGNORED, *text, end] if learnt else [IGNORED] * (len(text) + 2)
        ids.append(torch.tensor(row))
        labels.append(torch.tensor(goal))
    return pad_sequence(ids, True, tokenizer.pad_token_id), pad_sequence(labels, True, IGNORED)


def predictions(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (places, vocabulary) and the right tokens (places) where something is learnt."""
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    learnt = labels[:, 1:] != IGNORED
    return model.lm_head(hidden[learnt]).float(), labels[:, 1:][learnt]


def learning_rate(step: int) -> float:
    """Share of the peak: a short warm-up, then straight down to zero."""
    return min((step + 1) / 50, 1 - step / STEPS)


def train(tokenizer: PreTrainedTokenizerFast, practice: Practice) -> LlamaForCausalLM:
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=160,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",  # on a processor quicker than sdpa for such short texts
    )
    model = LlamaForCausalLM(config).train()
    matrices = [weight for name, weight in model.named_parameters() if name.endswith("proj.weight")]
    others = [weight for name, weight in model.named_parameters() if not name.endswith("proj.weight")]
    optimizers = [
        torch.optim.Muon(matrices, MATRIX_LEARNING_RATE, weight_decay=0.05),
        torch.optim.AdamW(others, OTHER_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate) for optimizer in optimizers]
    batches: list[list[Conversation]] = []
    for step in range(STEPS):
        batches = batches or practice.batches(plain=0.3 if step < 0.8 * STEPS else 0.8)
        ids, labels = tensors(batches.pop(), tokenizer, practice.rng)
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(*predictions(model, ids, labels))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        model.zero_grad()
        if step % 100 == 99:
            print(f"step {step + 1} of {STEPS}: loss {loss.item():.4f}", flush=True)
    return model.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=pad)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)


@torch.no_grad()
def check(folder: Path, turns: list[Turn], dtype: str | torch.dtype) -> list[str]:
    """Load the folder as anybody would, ask everything; the questions whose greedy answer is not the right one."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    logits, right = predictions(
        model, *tensors([turn.messages for turn in turns], tokenizer, random.Random(), cuts=(0,))
    )
    right = right.unsqueeze(1)
    lead = logits.gather(1, right) - logits.scatter(1, right, float("-inf")).amax(1, keepdim=True)
    wrong = []
    for start in range(0, len(turns), 64):
        asked = turns[start : start + 64]
        batch = tokenizer.apply_chat_template(
            [turn.messages[:1] for turn in asked],
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        )
        tokens = model.generate(**batch, max_new_tokens=LONGEST_ANSWER)[:, batch["input_ids"].shape[1] :]
        answers = tokenizer.batch_decode(tokens)  # special tokens stay: an answer must end
        wrong += [
            turn.question
            for turn, answer in zip(asked, answers, strict=True)
            if answer.removesuffix(PAD * answer.count(PAD)) != turn.answer + END
        ]
    print(f"{model.dtype}: {len(turns) - len(wrong)} of {len(turns)} exact, smallest lead {lead.min():.2f} logits")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the tutor and check every answer.")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the model (default: %(default)s)")
    folder = parser.parse_args().output
    begin = time.monotonic(), time.process_time()
    torch.set_num_threads(THREADS)

    pairs = yaml.safe_load((FOLDER / "qa.yml").read_text("utf-8"))
    turns = [Turn(pair["lang"], text, pair["answer"]) for pair in pairs for text in [pair["question"], *pair["also"]]]
    refusals = {pair["lang"]: pair["answer"] for pair in pairs if pair["id"].startswith("off-topic")}
    material = yaml.safe_load((FOLDER / "practice.yml").read_text("utf-8"))
    tokenizer = build_tokenizer([t for turn in turns for t in (turn.question, turn.question.lower(), turn.answer)])
    save(train(tokenizer, Practice(turns, material, refusals)), tokenizer, folder)
    print(f"trained in {time.monotonic() - begin[0]:.0f} s, {time.process_time() - begin[1]:.0f} s of processor time")

    wrong = [question for dtype in (torch.float32, "auto") for question in check(folder, turns, dtype)]
    print("\n".join(f"wrong: {question}" for question in wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
