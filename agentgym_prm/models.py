"""Language models: load any causal LM by name or path, or build a tiny one that is loaded the same way.

``build_tiny`` writes a Llama-shaped model of 0.2-1M parameters with random weights, and a tokenizer made from given
texts, with one token for a word and, if asked for, for a name with its number (`` fridge 1``). Text outside the
vocabulary falls back to characters and bytes, so that any text is encoded without loss. To the rest of the package
it is a Hugging Face directory like any other.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from agentgym_prm.errors import UnknownNameError, needs_extra

with needs_extra("train"):
    import torch

TINY: Final = "tiny"
DTYPES: Final = ("auto", "float32", "bfloat16", "float16")
END, PAD = "<|end|>", "<|pad|>"
_ROLES: Final = ("<|system|>", "<|user|>", "<|assistant|>")
TINY_CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


class LoadedModel(NamedTuple):
    """A causal language model and its tokenizer, padding on the left."""

    model: Any
    tokenizer: Any


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """How to load a model."""

    model: str = "Qwen/Qwen2.5-0.5B-Instruct"
    """Name on the Hugging Face hub, or path of a folder; a folder of a LoRA adapter loads its base model too."""
    dtype: str = "auto"
    """Type of the weights: auto (as saved), float32, bfloat16 or float16."""
    device: str = "auto"
    """Where it runs: auto (a GPU if there is one), cpu, cuda, cuda:1, …"""
    attention: str | None = None
    """Attention implementation: eager, sdpa, flash_attention_2, …; None for the library's choice."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass, to save memory."""
    lora_rank: int = 0
    """Rank of new LoRA adapters on all linear layers; 0 for none."""
    lora_alpha: float = 32.0
    """LoRA scale; the update is multiplied by lora_alpha / lora_rank."""
    lora_dropout: float = 0.0
    """Dropout on the adapters' input while a policy imitates; all other training goes without."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UnknownNameError.of("dtype", self.dtype, DTYPES)
        if self.lora_rank < 0:
            raise ValueError(f"lora_rank must be at least 0, got {self.lora_rank}")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout must be in [0, 1), got {self.lora_dropout}")


@dataclass(frozen=True, slots=True)
class TinyConfig:
    """Shape of a tiny model."""

    hidden_size: int = 96
    """Width; a multiple of num_heads, by an even number."""
    num_layers: int = 2
    """Layers; copying a name from the prompt takes two."""
    num_heads: int = 4
    """Attention heads."""
    intermediate_size: int = 256
    """Width of the feed-forward layers."""
    max_positions: int = 4096
    """Longest sequence, in tokens."""
    vocab_size: int = 4096
    """Most tokens of the vocabulary, the 256 bytes and the special ones included."""
    joint_names: bool = False
    """One token for a name with its number (fridge 1): shorter, but learned half as well (benchmarks/sft_tiny.py)."""
    mimetic: bool = True
    """Start with heads that look for tokens like their own and copy them, instead of heads that look anywhere."""
    seed: int = 0
    """Seed of the weights."""

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size must be a multiple of 2 * num_heads = {2 * self.num_heads}, got {self.hidden_size}"
            )
        if self.vocab_size < 512:
            raise ValueError(f"vocab_size must be at least 512, got {self.vocab_size}")


def load_model(config: ModelConfig) -> LoadedModel:
    """Load a causal LM and its tokenizer.

    Raises:
        ValueError: The tokenizer has no chat template or no end token.
        OSError: No such model, from the Hugging Face libraries.
    """
    with needs_extra("train"):
        from transformers import AutoModelForCausalLM
    return _load(config, AutoModelForCausalLM)


def load_reward_model(config: ModelConfig, *, seed: int = 0) -> LoadedModel:
    """Load a model with one number as output, and its tokenizer: a folder of one, or the body of any causal LM.

    The head of a body that had none starts with standard deviation ``1 / sqrt(hidden + 1)``, drawn from ``seed``
    (arXiv:2502.10325); dropout is off.

    Raises:
        ValueError: The model's head is not one linear layer named ``score`` with one output, the folder is that of a
            causal model's adapter, or as for ``load_model``.
        OSError: No such model, from the Hugging Face libraries.
    """
    with needs_extra("train"):
        from transformers import AutoModelForSequenceClassification
    task = _adapter_task(Path(config.model))
    if task not in (None, "SEQ_CLS"):
        raise ValueError(f"{config.model} holds an adapter for {task}, without a head for scores: merge it first")
    outputs = _head_outputs(config.model) if task is None else 1
    unfit = f"{config.model} has no sequence-classification form with one output in a layer named 'score'"
    if outputs not in (None, 1):
        raise ValueError(unfit)
    loaded = _load(config, AutoModelForSequenceClassification, num_labels=1)
    head = getattr(unwrapped(loaded.model), "score", None)
    if not isinstance(getattr(head, "original_module", head), torch.nn.Module):
        raise ValueError(unfit)
    loaded.model.config.pad_token_id = loaded.tokenizer.pad_token_id
    turn_dropout_off(loaded.model)
    if outputs is None:
        hidden = loaded.model.config.get_text_config().hidden_size
        for name, weight in loaded.model.named_parameters():
            if "score" in name.split("."):
                # Anew for each: LoRA keeps the head twice, and both are to be the same.
                generator = torch.Generator().manual_seed(seed)
                with torch.no_grad():
                    weight.copy_(torch.randn(weight.shape, generator=generator) / (hidden + 1) ** 0.5)
    return loaded


def turn_dropout_off(model: Any) -> None:
    """Make a model's outputs the same in training as in use."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        # Attention layers pass a number on instead of holding a layer.
        for name, value in vars(module).items():
            if name.endswith("dropout") and isinstance(value, float):
                setattr(module, name, 0.0)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """A model in evaluation mode and without gradients; afterwards in the mode that it was in."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def unwrapped(model: Any) -> Any:
    """The Hugging Face model inside LoRA adapters, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def output_logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What a causal model's own forward pass makes of last hidden states: some families scale or cap what comes out."""
    logits: torch.Tensor = model.get_output_embeddings()(hidden)
    if scaling := getattr(model.config, "logits_scaling", None):
        logits = logits / scaling
    if scale := getattr(model, "logit_scale", None):
        logits = logits * scale
    cap = getattr(model.config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def _head_outputs(name_or_path: str) -> int | None:
    """How many numbers a saved sequence classifier gives, in a folder or on the hub; ``None`` for other models."""
    with needs_extra("train"):
        from transformers import AutoConfig
    config = AutoConfig.from_pretrained(name_or_path)
    is_classifier = any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
    return int(config.num_labels) if is_classifier else None


def check_folder(name_or_path: str) -> None:
    """Refuse what is written like a path but leads nowhere; a name like ``owner/name`` may be on the hub.

    Raises:
        FileNotFoundError: No such folder.
    """
    if name_or_path.startswith((".", "/", "~")) and not Path(name_or_path).is_dir():
        raise FileNotFoundError(f"there is no model folder {name_or_path}: give a folder, or a name like owner/name")


def _load(config: ModelConfig, auto_class: Any, **settings: Any) -> LoadedModel:
    check_folder(config.model)
    folder = Path(config.model)
    is_adapter = (folder / "adapter_config.json").is_file()
    base = _base_of(folder) if is_adapter else config.model
    if config.attention:
        settings["attn_implementation"] = config.attention
    model: Any = auto_class.from_pretrained(
        base, dtype="auto" if config.dtype == "auto" else getattr(torch, config.dtype), **settings
    )
    model.to(chosen_device(config.device))
    if is_adapter:
        with needs_extra("train"):
            from peft import PeftModel
        model = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    if config.lora_rank:
        model = _with_lora(model, config, "SEQ_CLS" if "num_labels" in settings else "CAUSAL_LM")
    if config.gradient_checkpointing:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        if config.lora_rank or is_adapter:
            model.enable_input_require_grads()
    model.eval()
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    return LoadedModel(model, load_tokenizer(config.model if has_tokenizer or not is_adapter else base))


def load_tokenizer(name_or_path: str | Path) -> Any:
    """Load a tokenizer with a chat template; it pads on the left.

    Raises:
        ValueError: It has no chat template or no end token.
    """
    with needs_extra("train"):
        from transformers import AutoTokenizer
    tokenizer: Any = AutoTokenizer.from_pretrained(str(name_or_path))
    if not tokenizer.chat_template:
        raise ValueError(f"the tokenizer of {name_or_path} has no chat template: use a chat model, or save one with it")
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer of {name_or_path} has no end token (eos_token)")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def stop_ids(tokenizer: Any, generation_config: Any) -> list[int]:
    """The ids that end a reply: the tokenizer's first, then others that the model was tuned to end with."""
    configured = getattr(generation_config, "eos_token_id", None)
    others = configured if isinstance(configured, list) else [configured]
    return list(dict.fromkeys([int(tokenizer.eos_token_id), *(int(each) for each in others if each is not None)]))


def load_stop_ids(name_or_path: str | Path, tokenizer: Any) -> list[int]:
    """As ``stop_ids``, of a model that is not loaded here; one without a generation configuration tells no others."""
    with needs_extra("train"):
        from transformers import GenerationConfig
    try:
        config = GenerationConfig.from_pretrained(str(name_or_path))
    except OSError:
        config = None
    return stop_ids(tokenizer, config)


def chosen_device(name: str) -> torch.device:
    """The device that ``name`` means; ``"auto"`` is a GPU if there is one."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_model(
    name_or_path: str, *, texts: Iterable[str], folder: str | Path, config: TinyConfig | None = None
) -> str:
    """What ``ModelConfig.model`` should be for a name that a person gave.

    Args:
        name_or_path: ``"tiny"``, or anything that ``load_model`` takes, which is returned as it is.
        texts: What the tokenizer of a tiny model is made from; not read otherwise.
        folder: Where a tiny model is written. One that is there already is used again.
        config: Shape of a tiny model.
    """
    if name_or_path != TINY:
        return name_or_path
    if not (Path(folder) / "config.json").is_file():
        build_tiny(folder, texts, config)
    return str(folder)


def build_tiny(folder: str | Path, texts: Iterable[str], config: TinyConfig | None = None) -> Path:
    """Write a tiny Llama-shaped model with random weights, and a tokenizer for ``texts``, as a Hugging Face folder.

    The result depends on the arguments only; equally frequent words are ordered alphabetically.
    """
    with needs_extra("train"):
        from transformers import LlamaConfig, LlamaForCausalLM
    config = config or TinyConfig()
    tokenizer = build_tokenizer(texts, vocab_size=config.vocab_size, joint_names=config.joint_names)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model: Any = LlamaForCausalLM(shape)
        if config.mimetic:
            for layer in model.model.layers:
                _start_mimetic(layer.self_attn)
    path = Path(folder)
    tokenizer.save_pretrained(path)
    model.save_pretrained(path)  # last, so that a folder with config.json is complete
    return path


def _start_mimetic(attention: Any) -> None:
    """Let a layer attend to tokens like the present one, and pass on what it finds there.

    Queries equal keys, so that equal tokens match, and the output undoes what the values do, scaled to a quarter. After
    arXiv:2305.09828 (mimetic initialisation), which found this form in trained models. Copying a name from the prompt
    is what tiny models learn last; started like this they learn it sooner (benchmarks/sft_tiny.py).
    """
    size = attention.q_proj.weight.shape[0]
    with torch.no_grad():
        keys = torch.randn(size, size) / size**0.5
        values = torch.linalg.qr(torch.randn(size, size))[0] / 2
        for projection, weight in (("q_proj", keys), ("k_proj", keys), ("v_proj", values), ("o_proj", values.T)):
            getattr(attention, projection).weight.copy_(weight)


def build_tokenizer(texts: Iterable[str], *, vocab_size: int = 4096, joint_names: bool = True) -> Any:
    """A word-level tokenizer for chat, without loss: ``decode(encode(text)) == text`` for any text.

    A token is a word with the space before it; with ``joint_names`` also a word with the number after it. A name seen
    with number 3 also gets tokens for 1, 2, 4 and 5. Other text is spelled out in characters and bytes.

    Args:
        texts: What it is made from.
        vocab_size: Most tokens; the most frequent words win.
        joint_names: Whether a name and its number are one token.
    """
    with needs_extra("train"):
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast
    pattern = (r" ?[A-Za-z]+ [0-9]+|" if joint_names else "") + r" ?go to|\s?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]|\s"
    specials = [PAD, END, *_ROLES]
    required = [*specials, *(f"<0x{byte:02X}>" for byte in range(256))]
    words = [word for word in _frequent(texts, re.compile(pattern)) if word not in required]
    vocabulary = [*required, *words[: vocab_size - len(required)]]
    backend = Tokenizer(
        models.BPE(
            vocab={word: index for index, word in enumerate(vocabulary)},
            merges=[],
            byte_fallback=True,
            ignore_merges=True,  # a word of the vocabulary is one token, whatever the merges
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, pad_token=PAD, additional_special_tokens=list(_ROLES)
    )
    tokenizer.chat_template = TINY_CHAT_TEMPLATE
    tokenizer.padding_side = "left"
    return tokenizer


def _frequent(texts: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    """Words by falling frequency; numbered names are filled up to two beyond the highest number seen."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(pattern.findall(text))
    highest: Counter[str] = Counter()
    for word in counts:
        name, _, number = word.rpartition(" ")
        if name.strip() and number.isdigit() and len(number) < 4:
            highest[name] = max(highest[name], int(number))
    for name, last in highest.items():
        for each in range(1, last + 3):
            counts.setdefault(f"{name} {each}", 0)
    return sorted(counts, key=lambda word: (-counts[word], word))


def _with_lora(model: Any, config: ModelConfig, task_type: str) -> Any:
    with needs_extra("train"):
        from peft import LoraConfig, get_peft_model
    return get_peft_model(
        model,
        LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules="all-linear",
            task_type=task_type,
        ),
    )


def _adapter_task(folder: Path) -> str | None:
    """What a folder's LoRA adapter was made for, or ``None`` if it holds no adapter."""
    if not (folder / "adapter_config.json").is_file():
        return None
    return str(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("task_type"))


def _base_of(folder: Path) -> str:
    with needs_extra("train"):
        from peft import PeftConfig
    return str(PeftConfig.from_pretrained(str(folder)).base_model_name_or_path)
