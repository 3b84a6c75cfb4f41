"""A chat model behind an API as an agent: messages in, a reply out."""

import threading
from collections.abc import Sequence

from agentgym_prm.agents.core import Agent
from agentgym_prm.agents.prompts import Prompt
from agentgym_prm.inference.core import ChatModel, ChatRequest, Completion
from agentgym_prm.transcript import Message
from agentgym_prm.types import PARSE_ERROR, Action, History


class ChatAgent(Agent):
    """Asks a chat model for each turn's reply and takes the command out of it.

    All histories of a call are sent side by side, as far as the model's concurrency limit allows. Requests are told
    apart by (seed, episode seed, episode, turn), so that a cached run plays the same again, whatever slots it has, and
    rollouts of one task differ.

    Args:
        model: Who is asked; see ``inference.connect``.
        prompt: What it is shown: a prompt, or its name. Its ``max_turns`` limits the turns shown.
        temperature: ``None`` for the API's own; left out where the model takes none.
        max_tokens: Longest reply; a reasoning model's thoughts count. A longer one is parsed as it stands.
        stop: Texts that end a reply.
        seed: Picks the draws, as far as the API lets it.
        max_characters: Longest conversation shown, system message included: the oldest turns go first, whole.
        name: How it is called in reports.

    ``usage`` of an action: that of ``Completion``, ``cost`` only if the price is known, ``from_cache`` 1 if nothing was
    sent, and ``dropped_turns`` if the prompt did not show all. A reply without a command, an empty or a refused one, is
    an empty command with ``scores["parse_error"]``.

    Raises:
        ValueError: When acting: the present turn alone is longer than ``max_characters``.
    """

    waits = True

    def __init__(
        self,
        model: ChatModel,
        prompt: Prompt | str = "reason_action",
        *,
        temperature: float | None = None,
        max_tokens: int = 4096,
        stop: Sequence[str] = (),
        seed: int = 0,
        max_characters: int | None = None,
        name: str | None = None,
    ) -> None:
        if max_characters is not None and max_characters < 1:
            raise ValueError(f"max_characters must be at least 1 or None, got {max_characters}")
        # A colon or a slash would not do for the folder that a run is named after.
        self.name = model.name.replace(":", "-").replace("/", "-") if name is None else name
        self.model = model
        self.prompt = Prompt.load(prompt) if isinstance(prompt, str) else prompt
        self._temperature, self._max_tokens, self._stop = temperature, max_tokens, tuple(stop)
        self._seed, self._max_characters = seed, max_characters
        self._lock = threading.Lock()

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        # What prompts keep of earlier turns is not made for several threads.
        with self._lock:
            shown = [self._messages(history) for history in histories]
        requests = [
            ChatRequest(
                messages=messages,
                n=n,
                temperature=self._temperature,
                max_tokens=self._max_tokens,
                stop=self._stop,
                draw=(self._seed, history.seed, history.episode, len(history.steps)),
            )
            for history, (messages, _) in zip(histories, shown, strict=True)
        ]
        return [
            [self._action(completion, dropped) for completion in completions]
            for completions, (_, dropped) in zip(self.model.complete(requests), shown, strict=True)
        ]

    def give_up(self) -> None:
        self.model.give_up()

    def _messages(self, history: History) -> tuple[tuple[Message, ...], int]:
        """What the model is shown, and how many turns it is not."""
        dropped = self.prompt.dropped(history)
        while True:
            messages = self.prompt.messages(history, dropped)
            length = sum(len(message.content) for message in messages)
            if self._max_characters is None or length <= self._max_characters:
                return messages, dropped
            if self.prompt.style == "state" or dropped >= len(history.steps):
                raise ValueError(
                    f"turn {len(history.steps)} alone takes {length} characters, max_characters is "
                    f"{self._max_characters}: raise it"
                )
            dropped += 1

    def _action(self, completion: Completion, dropped: int) -> Action:
        parsed = self.prompt.parse(completion.text)
        usage: dict[str, float] = completion.usage.to_json()
        if completion.from_cache:
            usage["from_cache"] = 1
        if dropped:
            usage["dropped_turns"] = dropped
        return Action(
            command=parsed.command,
            reply=completion.text,
            reasoning=parsed.reasoning,
            token_ids=completion.token_ids,
            logprobs=completion.logprobs,
            stop_reason=completion.stop_reason,
            usage=usage,
            scores={PARSE_ERROR: 1.0} if parsed.error else {},
        )
