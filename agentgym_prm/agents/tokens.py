"""Agents whose model takes token ids and gives token ids, on this machine or behind an engine.

``TokenAgent`` is what they share: the encoder, what draws depend on, and how sampled ids become an ``Action``.
``EngineAgent`` is one whose tokens an inference engine samples (vLLM, SGLang): it asks for one reply for each
candidate, each with a seed of its own, so that a rerun asks the engine for the same draws in any batch or slot.
"""

import threading
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.prompts import Encoded, Encoder, Prompt
from agentgym_prm.draws import mix
from agentgym_prm.transcript import Chat
from agentgym_prm.types import PARSE_ERROR, Action, History

ENGINE_SERVER: Final = {"concurrency": 64, "timeout": 300.0}
"""How an engine's server is asked where nothing else is said: it samples for long, and many replies at a time."""
SEEDS: Final = 2**31
"""Seeds are below: engines take no more everywhere."""


class Reloadable(Protocol):
    """A sampler whose weights can be replaced between updates."""

    def reload(self, folder: str | Path) -> None:
        """Sample from the weights in ``folder`` from now on: a whole model of the same shape, or a LoRA adapter."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A reply that is asked for: the ids of the prompt, the seed of its draws, and the texts that end it."""

    token_ids: tuple[int, ...]
    seed: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampled:
    """A reply as sampled.

    Attributes:
        token_ids: The token that ended it included.
        logprobs: One for each, under the distribution that it was drawn from.
        stop_reason: ``"end"``, ``"stop"`` or ``"length"``.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop_reason: str


class TokenAgent(Agent):
    """Has a tokenizer and writes replies token by token; a subclass says how.

    Args:
        prompt: What the model is shown: a prompt, or its name.
        chat: The model's chat format.
        temperature: At least 0; 0 takes the most likely token.
        max_new_tokens: Longest reply; a longer one is cut and parsed as it stands (``stop_reason="length"``).
        stop: Texts that end a reply where they are completed; they stay in it (``stop_reason="stop"``).
        seed: Picks the draws.
        max_prompt_tokens: Longest prompt: the oldest turns go first, whole. ``None`` for no limit.
        name: How it is called in reports.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        prompt: Prompt | str,
        chat: Chat,
        *,
        temperature: float,
        max_new_tokens: int,
        stop: Sequence[str],
        seed: int,
        max_prompt_tokens: int | None,
        name: str,
    ) -> None:
        if temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        self.name = name
        self.prompt = Prompt.load(prompt) if isinstance(prompt, str) else prompt
        self.temperature = temperature
        self.encoder = Encoder(self.prompt, chat, max_prompt_tokens)
        self._max_new_tokens, self._stop, self._seed = max_new_tokens, tuple(stop), seed

    def _draws(self, history: History, candidate: int) -> int:
        """What the random numbers of a candidate start from."""
        return mix(self._seed, history.seed, history.episode, len(history.steps), candidate)

    def _action(self, sampled: Sampled, encoded: Encoded) -> Action:
        reply = self.encoder.chat.decode(sampled.token_ids)
        parsed = self.prompt.parse(reply)
        return Action(
            command=parsed.command,
            reply=reply,
            reasoning=parsed.reasoning,
            token_ids=sampled.token_ids,
            logprobs=sampled.logprobs,
            stop_reason=sampled.stop_reason,
            usage=self._usage(encoded, len(sampled.token_ids)),
            scores={PARSE_ERROR: 1.0} if parsed.error else {},
        )

    def _usage(self, encoded: Encoded, completion_tokens: int) -> dict[str, float]:
        return {
            "prompt_tokens": len(encoded.token_ids),
            "completion_tokens": completion_tokens,
            "temperature": self.temperature,
            "dropped_turns": encoded.dropped,
            "transcripts": len(encoded.transcripts),
        }


class EngineAgent(TokenAgent):
    """Plays with a model in an inference engine: ``Action`` fields are those of ``LocalAgent`` in mode ``"generate"``.

    A subclass writes ``sampled`` and ``reload``. Arguments are those of ``TokenAgent``, but for:

    Args:
        tokenizer: The model's, with a chat template.
        stop_ids: Ids that end a reply; by default the tokenizer's end token. See ``models.stop_ids``.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt: Prompt | str,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 64,
        stop: Sequence[str] = (),
        stop_ids: Sequence[int] | None = None,
        seed: int = 0,
        max_prompt_tokens: int | None = None,
        name: str,
    ) -> None:
        super().__init__(
            prompt,
            Chat(tokenizer, stop_ids),
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            stop=stop,
            seed=seed,
            max_prompt_tokens=max_prompt_tokens,
            name=name,
        )
        self._lock = threading.Lock()

    @abstractmethod
    def sampled(self, wanted: Sequence[Wanted]) -> list[Sampled]:
        """The replies, in their order."""

    @abstractmethod
    def reload(self, folder: str | Path) -> None:
        """Sample from the weights in ``folder`` from now on: a whole model of the same shape, or a LoRA adapter."""

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        # What the encoder keeps is not made for several threads.
        with self._lock:
            encoded = self.encoder.histories(histories)
        # Without temperature all samples are the same one.
        copies = n if self.temperature > 0 else 1
        wanted = [
            Wanted(one.token_ids, self._draws(history, candidate) % SEEDS, self._stop)
            for history, one in zip(histories, encoded, strict=True)
            for candidate in range(copies)
        ]
        replies = iter(self.sampled(wanted))
        with self._lock:
            actions = [[self._action(next(replies), one) for _ in range(copies)] for one in encoded]
        return [group * (n // copies) for group in actions]

    def _reply(self, token_ids: Sequence[int], logprobs: Sequence[float], reason: object, matched: object) -> Sampled:
        """What an engine tells of a reply.

        Args:
            token_ids: As sampled.
            logprobs: One for each.
            reason: ``"stop"`` or ``"length"``.
            matched: What it stopped at: a token id, a stop text, or ``None`` for the end token.

        Raises:
            ValueError: It says something else, e.g. that it gave up.
        """
        if reason not in ("stop", "length") or not token_ids or len(token_ids) != len(logprobs):
            raise ValueError(
                f"a reply of {len(token_ids)} tokens with {len(logprobs)} log-probabilities that ended by {reason!r}"
            )
        stop_reason = "length" if reason == "length" else "stop" if isinstance(matched, str) else "end"
        return Sampled(tuple(map(int, token_ids)), tuple(map(float, logprobs)), stop_reason)


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds a LoRA adapter instead of a whole model."""
    return (Path(folder) / "adapter_config.json").is_file()
