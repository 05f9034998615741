"""Makes one of the benchmark's models; run by the service's interpreter: `python models.py FOLDER NAME`.

Random weights in the shapes of real models, none of which ever ends an answer by itself: `tiny` and `hundred`
(5 and 100 million parameters, the shape of Llama), `eight_b` (the shape of Llama 3 8B but for its vocabulary) and `encoder`
(the shape of all-MiniLM-L6). In float32; a chat model's name with `_bf16` behind it is the same in bfloat16, as models are
published.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    GenerationConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

VOCABULARY = 8192
CONTEXT = 512
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "hundred": {
        "hidden_size": 768,
        "intermediate_size": 2304,
        "num_hidden_layers": 14,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
    },
    "eight_b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
HALF = "_bf16"
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def words(count: int = 20_000) -> list[str]:
    """Made-up words of plain letters, always the same."""
    chance = random.Random(7)
    syllables = [c + v for c in "bcdfghjklmnpqrstvwxz" for v in ("a", "e", "i", "o", "u", "an", "er", "is", "on", "ut")]
    return ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(count)]


def tokenizer(*, special: list[str], template: str | None) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        [" ".join(words())],
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=special[0], chat_template=template, model_max_length=CONTEXT
    )


def write(folder: Path, model: Any, words_of_it: PreTrainedTokenizerFast) -> None:
    model.save_pretrained(folder)
    words_of_it.save_pretrained(folder)
    print(f"{folder.name}: {sum(weight.numel() for weight in model.parameters()) / 1e6:.1f} million parameters")


def chat_model(name: str) -> tuple[Any, PreTrainedTokenizerFast]:
    text = tokenizer(special=["<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"], template=TEMPLATE)
    config = LlamaConfig(
        vocab_size=len(text),
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=None,
        **SHAPES[name.removesuffix(HALF)],
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if name.endswith(HALF) else torch.float32)
    model.generation_config = GenerationConfig(pad_token_id=0)
    return model, text


def encoder() -> tuple[Any, PreTrainedTokenizerFast]:
    text = tokenizer(special=["[PAD]", "[CLS]", "[SEP]"], template=None)
    text.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    config = BertConfig(
        vocab_size=len(text),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=CONTEXT,
    )
    return AutoModel.from_config(config), text


if __name__ == "__main__":
    torch.manual_seed(11)
    write(Path(sys.argv[1]) / sys.argv[2], *(encoder() if sys.argv[2] == "encoder" else chat_model(sys.argv[2])))
