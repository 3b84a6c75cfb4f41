"""Models by name: ``vendor:model``."""

from typing import Final

from agentgym_prm.errors import UnknownNameError
from agentgym_prm.inference.anthropic import AnthropicVendor
from agentgym_prm.inference.budget import Budget
from agentgym_prm.inference.cache import CompletionCache
from agentgym_prm.inference.gemini import GeminiVendor
from agentgym_prm.inference.openai import OpenAIVendor
from agentgym_prm.inference.prices import Prices
from agentgym_prm.inference.retry import RetryPolicy
from agentgym_prm.inference.runner import APIChatModel
from agentgym_prm.inference.vendor import Vendor

VENDORS: Final[dict[str, type[Vendor]]] = {
    vendor.name: vendor for vendor in (OpenAIVendor, AnthropicVendor, GeminiVendor)
}
_FAMILIES: Final = {"gpt-": "openai", "o1": "openai", "o3": "openai", "o4": "openai", "claude": "anthropic",
                    "gemini": "gemini"}  # fmt: skip


def connect(
    name: str,
    *,
    base_url: str | None = None,
    timeout: float = 300.0,
    concurrency: int = 32,
    retry: RetryPolicy | None = None,
    budget: Budget | None = None,
    cache: CompletionCache | None = None,
    prices: Prices | None = None,
) -> APIChatModel:
    """The model called ``name``; nothing is sent yet.

    Args:
        name: ``openai:MODEL``, ``anthropic:MODEL`` or ``gemini:MODEL``. Any server with OpenAI's API is
            ``openai:MODEL`` with its ``base_url``.
        base_url: See ``Vendor``, as ``timeout``.
        timeout: Seconds for a whole reply.
        concurrency: See ``APIChatModel``, as what follows.
        retry: Which failures are tried again.
        budget: What may be spent.
        cache: Completions on disk.
        prices: What tokens cost.

    Raises:
        UnknownNameError: No such vendor.
        UsageError: ``base_url`` is no address, or a budget in money for a model whose price is not known.
        MissingKeyError: The vendor's key is not set, and there is no ``base_url``.
    """
    vendor, _, model = name.partition(":")
    if vendor not in VENDORS or not model:
        raise UnknownNameError.of("model", name, [f"{each}:MODEL" for each in VENDORS])
    asked = VENDORS[vendor](model, base_url=base_url, timeout=timeout, connections=concurrency)
    return APIChatModel(asked, concurrency=concurrency, retry=retry, budget=budget, cache=cache, prices=prices)


def is_model_name(name: str) -> bool:
    """Whether a name is ``vendor:model``, of a vendor known here."""
    vendor, colon, model = name.partition(":")
    return bool(colon and model) and vendor in VENDORS


def vendor_of(model: str) -> str | None:
    """The vendor that a model's bare name tells, for a hint; ``None`` if it tells none."""
    return next((vendor for start, vendor in _FAMILIES.items() if model.startswith(start)), None)
