"""Small tokenizers and models with different chat templates, built here because nothing can be downloaded."""

from functools import cache
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

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
