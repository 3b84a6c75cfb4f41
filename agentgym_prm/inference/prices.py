"""What tokens cost. List prices change: give a file of your own where money matters."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from agentgym_prm.errors import UsageError
from agentgym_prm.inference.core import Usage

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens; ``cached_input`` is for prompt tokens out of the API's prompt cache."""

    input: float
    output: float
    cached_input: float | None = None

    def cost(self, usage: Usage) -> float:
        """What ``usage`` costs.

        >>> Price(2.0, 10.0, 0.5).cost(Usage(prompt_tokens=1_000_000, cached_tokens=400_000, completion_tokens=100_000))
        2.4
        """
        cached_input = self.input if self.cached_input is None else self.cached_input
        fresh = usage.prompt_tokens - usage.cached_tokens
        dollars = fresh * self.input + usage.cached_tokens * cached_input + usage.completion_tokens * self.output
        return dollars / _MILLION


# Standard tier, prompts below the length from which some models cost more, without writing to prompt caches.
# Collected 2026-11-21 from developers.openai.com/api/docs/pricing, platform.claude.com/docs (models),
# ai.google.dev/gemini-api/docs/pricing, as quoted by github.com/simonw/llm-prices, api-evangelist and release notes.
LIST_PRICES: Final[Mapping[str, Price]] = {
    "gpt-6-astra": Price(10.0, 50.0, 1.0),
    "gpt-6-sol": Price(2.0, 10.0, 0.2),
    "gpt-6-luna": Price(0.1, 0.5, 0.01),
    "gpt-6.1-sol": Price(2.0, 10.0, 0.1),
    "gpt-6.1-terra": Price(1.0, 5.0, 0.05),
    "gpt-5.6-sol": Price(5.0, 30.0, 0.5),
    "gpt-5.6-terra": Price(2.0, 12.0, 0.2),
    "gpt-5.6-luna": Price(0.2, 1.2, 0.02),
    "gpt-5.5": Price(5.0, 30.0, 0.5),
    "gpt-5.4": Price(2.5, 15.0, 0.25),
    "gpt-5.4-mini": Price(0.75, 4.5, 0.075),
    "gpt-5.4-nano": Price(0.2, 1.25, 0.02),
    "gpt-5.2": Price(1.75, 14.0, 0.175),
    "gpt-5.1": Price(1.25, 10.0, 0.125),
    "gpt-5": Price(1.25, 10.0, 0.125),
    "gpt-5-mini": Price(0.25, 2.0, 0.025),
    "gpt-5-nano": Price(0.05, 0.4, 0.005),
    "gpt-4.1": Price(2.0, 8.0, 0.5),
    "gpt-4.1-mini": Price(0.4, 1.6, 0.1),
    "gpt-4.1-nano": Price(0.1, 0.4, 0.025),
    "gpt-4o": Price(2.5, 10.0, 1.25),
    "gpt-4o-mini": Price(0.15, 0.6, 0.075),
    "o4-mini": Price(1.1, 4.4, 0.275),
    "o3-mini": Price(1.1, 4.4, 0.55),
    "claude-fable-5-1": Price(10.0, 50.0, 0.25),
    "claude-fable-5": Price(10.0, 50.0, 1.0),
    "claude-opus-5-5": Price(4.0, 20.0, 0.2),
    "claude-opus-5": Price(5.0, 25.0, 0.5),
    "claude-opus-4-8": Price(5.0, 25.0, 0.5),
    "claude-opus-4-7": Price(5.0, 25.0, 0.5),
    "claude-opus-4-6": Price(5.0, 25.0, 0.5),
    "claude-opus-4-5": Price(5.0, 25.0, 0.5),
    "claude-sonnet-5-5": Price(2.0, 10.0, 0.1),
    "claude-sonnet-5": Price(2.0, 10.0, 0.2),
    "claude-sonnet-4-6": Price(3.0, 15.0, 0.3),
    "claude-sonnet-4-5": Price(3.0, 15.0, 0.3),
    "claude-haiku-5-5": Price(0.1, 0.5, 0.01),
    "claude-haiku-4-5": Price(1.0, 5.0, 0.1),
    "gemini-3.8-flash": Price(0.75, 3.75, 0.075),
    "gemini-3.5-flash": Price(1.5, 9.0, 0.15),
    "gemini-3.5-flash-lite": Price(0.3, 2.5, 0.03),
    "gemini-3.1-pro-preview": Price(2.0, 12.0),
    "gemini-2.5-pro": Price(1.25, 10.0, 0.125),
    "gemini-2.5-flash": Price(0.3, 2.5, 0.03),
    "gemini-2.5-flash-lite": Price(0.1, 0.4, 0.01),
}
_VERSION: Final = re.compile(r"-(\d{4}-\d\d-\d\d|\d{8}|\d{3}|latest)$")
"""What a dated version of a model adds to its name."""


class Prices:
    """Prices by model name; a name with a date or ``-latest`` at its end costs what the name without it does.

    Args:
        table: Prices, in place of ``LIST_PRICES``.
    """

    def __init__(self, table: Mapping[str, Price] = LIST_PRICES) -> None:
        self._table = dict(table)

    @classmethod
    def load(cls, path: str | Path) -> "Prices":
        """A JSON file ``{"model": {"input": 2.0, "output": 10.0, "cached_input": 0.2}}``, in US dollars a million.

        Raises:
            UsageError: It has another form.
        """
        try:
            table = {str(name): Price(**_numbers(price)) for name, price in json.loads(Path(path).read_bytes()).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                f'{path} must hold {{"model": {{"input": 2.0, "output": 10.0}}}}, in USD per million tokens ({error})'
            ) from error
        return cls(table)

    def of(self, model: str) -> Price | None:
        """The price of a model; ``None`` if it is not known."""
        return self._table.get(model) or self._table.get(_VERSION.sub("", model))

    def priced(self, model: str, usage: Usage) -> Usage:
        """``usage`` with its cost, which is ``None`` if the price is not known."""
        price = self.of(model)
        return replace(usage, cost=None if price is None else price.cost(usage))


def _numbers(price: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in price.items()}
