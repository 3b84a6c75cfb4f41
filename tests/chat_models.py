"""Small tokenizers and models with different chat templates, built here because nothing can be downloaded."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

torch.set_num_threads(1)  # on a busy machine, threads that wait for each other take minutes for these small models

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As reasoning models do: of earlier replies only what follows </think> is shown again.
FORGETFUL = CHATML.replace(
    "{{ m.content }}", "{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}"
)
# As Llama's: white space around a message is dropped.
TRIMMING = CHATML.replace("{{ m.content }}", "{{ m.content | trim }}")
WORDS = [
    "a", "b", "open", "go", "to", "take", "look", "inventory", "help", "from", "in", "on", "the", "door",
    "room", "key", "lamp", "dark", "light", "is", "it", "an", "see", "you", "system", "user", "assistant",
    "REASON:", "ACTION:", "<think>", "</think>", "task", "observation", ".", ",", ":", ";", "0", "1", "2", "3",
    "4", "5", "6", "7", "8", "9",
]  # fmt: skip


def chat_tokenizer(template: str = CHATML) -> Any:
    """One token for each word of ``WORDS``, each space and each line break; anything else is ``<unk>``."""
    specials = ["<unk>", "<|im_start|>", "<|im_end|>", "<pad>"]
    vocabulary = {word: index for index, word in enumerate([*specials, " ", "\n", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s|[^\s]+"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = template
    return tokenizer


@cache
def chat_model(seed: int = 0, *, attention: str = "sdpa") -> Any:
    """A random Llama for ``chat_tokenizer``, with weights large enough that its choices differ from uniform ones."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(WORDS) + 6,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=3,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config).eval()


def save_small_chat_model(folder: Path, texts: Iterable[str]) -> Path:
    """A random Qwen2 with a byte-level BPE tokenizer and ChatML, on disk: what a real chat model is, but for its size.

    The vocabulary is learned from ``texts``; whatever else is written falls apart into bytes.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    tokenizer.save_pretrained(folder)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder
