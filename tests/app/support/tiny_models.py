"""Tiny models with random weights, real tokenizers and a chat template, written as model directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

END, PAD = "<|end|>", "<|pad|>"
CONTEXT = 512
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('unknown role') }}{% endif %}"
    "{% if message.content == 'refuse me' %}{{ raise_exception('this template refuses') }}{% endif %}"
    "<|{{ message.role }}|>{{ message.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# In the way of Hermes and Qwen: tools above, calls as JSON between markers, reasoning when it is asked for.
TOOL_TEMPLATE = (
    "{% if tools %}<|system|>Answer with <tool_call></tool_call>:{{ tools | tojson }}<|end|>{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "{% if not loop.last or message.role != 'assistant' or add_generation_prompt %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking %}<think>\n{% endif %}{% endif %}"
)
_MARKERS = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
_CORPUS = [
    "Bedplate takes bare servers to a chat answer, layer by layer.",
    "The quick brown fox jumps over the lazy dog. 1234567890",
    "从裸机到可以聊天的大模型服务，一层一层地搭建。",
    "你好，世界！今天天气很好，我们一起去公园散步吧。",
    "emoji: 😀🎉🚀👩‍💻 and accents: é à ü ñ",
] * 4


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE; many Chinese characters and all emoji take several tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = [PAD, END, "<|system|>", "<|user|>", "<|assistant|>"]
    core.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=special[2:],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
    )


_SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "max_position_embeddings": CONTEXT}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
SHAPES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "llama": (LlamaConfig, {**_SMALL, **_HEADS}),
    "qwen2": (Qwen2Config, {**_SMALL, **_HEADS, "tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, {**_SMALL, **_HEADS, "head_dim": 32}),
    "mistral": (MistralConfig, {**_SMALL, **_HEADS, "sliding_window": 24, "head_dim": 16}),
    "gemma3": (
        Gemma3TextConfig,
        {**_SMALL, **_HEADS, "num_hidden_layers": 4, "sliding_window": 24, "head_dim": 16, "sliding_window_pattern": 2},
    ),
}


def write_chat_model(folder: Path, shape: str = "llama", seed: int = 0, **generation: Any) -> Path:
    """A chat model of `shape` in `folder`. Weights are large enough that greedy choices are not near ties."""
    words = tokenizer()
    config_class, settings = SHAPES[shape]
    config = config_class(vocab_size=len(words), initializer_range=0.3, eos_token_id=words.eos_token_id, **settings)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(
        eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id, **generation
    )
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def write_tool_model(folder: Path) -> Path:
    """A chat model whose template knows tools and reasoning; the markers of three dialects are tokens of their own."""
    words = tokenizer()
    words.backend_tokenizer.add_tokens([AddedToken(marker, special=False) for marker in _MARKERS])
    words.backend_tokenizer.add_special_tokens(["[TOOL_CALLS]", "<|python_tag|>"])
    words.chat_template = TOOL_TEMPLATE
    settings = {**SHAPES["llama"][1], "max_position_embeddings": 2048}
    config = LlamaConfig(vocab_size=len(words), initializer_range=0.3, eos_token_id=words.eos_token_id, **settings)
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id)
    model.save_pretrained(folder)
    words.model_max_length = 2048
    words.save_pretrained(folder)
    return folder


def write_endless_model(folder: Path) -> Path:
    """A chat model that never ends by itself and has room for half a minute of tokens."""
    words = tokenizer()
    settings = {**SHAPES["llama"][1], "max_position_embeddings": 32768}
    config = LlamaConfig(vocab_size=len(words), initializer_range=0.3, eos_token_id=None, bos_token_id=None, **settings)
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(pad_token_id=words.pad_token_id)
    model.save_pretrained(folder)
    words.model_max_length = 32768
    words.save_pretrained(folder)
    return folder


def write_embedding_model(folder: Path, **changes: Any) -> Path:
    """A BERT-like encoder whose tokenizer puts special tokens around each text; `changes` to its configuration."""
    words = _encoders_tokenizer()
    torch.manual_seed(3)
    AutoModel.from_config(BertConfig(vocab_size=len(words), **_BERT, **changes)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def write_reranker(folder: Path) -> Path:
    """A cross-encoder: BERT with one label, whose tokenizer joins pairs of texts."""
    words = _encoders_tokenizer()
    torch.manual_seed(4)
    config = BertConfig(vocab_size=len(words), num_labels=1, pad_token_id=words.pad_token_id, **_BERT)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


_BERT: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
}


def _encoders_tokenizer() -> PreTrainedTokenizerFast:
    words = tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<|system|> $A {END}",
        pair=f"<|system|> $A {END} $B:1 {END}:1",
        special_tokens=[("<|system|>", words.vocab["<|system|>"]), (END, words.eos_token_id)],
    )
    words.chat_template = None
    return words
