"""What a policy was shown and what it wrote, as token ids: one thing for the sampler and for the trainer.

A ``Transcript`` only grows. Sampled ids stay as they were sampled; the environment's reply, with the chat scaffold
around it, is encoded once. It is a pure function of the turns, so that both sides can build it whenever they need it.

Some chat templates rewrite what came before (they drop old reasoning, or a history window moves on). Then no single
sequence of ids is what the policy saw: ``build_transcripts`` notices, starts a second transcript in which the earlier
replies are context, and ``Transcript.reason`` says why. White space that a template trims around a reply is the one
exception: the sampled ids stand for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

NO_LOGPROB: Final = 0.0
"""What ``Transcript.logprobs`` holds for tokens that the policy did not produce."""
_KEPT: Final = 4096
"""Texts, and ids of texts, that a ``Chat`` keeps."""


class Message(NamedTuple):
    """One message of a chat: ``role`` is ``"system"``, ``"user"`` or ``"assistant"``."""

    role: str
    content: str


class Turn(NamedTuple):
    """One turn: all messages that the prompt shows then, and the reply as sampled (empty while there is none)."""

    messages: tuple[Message, ...]
    reply: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


class ChatTokenizer(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    eos_token_id: Any

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any:
        """Messages to text."""

    def encode(self, text: Any, **kwargs: Any) -> Any:
        """Text to ids."""

    def decode(self, token_ids: Any, **kwargs: Any) -> Any:
        """Ids to text."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """Token ids with what belongs to each of them; all tuples have the same length.

    Attributes:
        token_ids: The tokens, in order.
        action_mask: Whether the policy produced the token, its end token included.
        turn_index: The turn that the token belongs to: its reply, or what was shown before that reply.
        logprobs: Log-probability under the sampler, ``NO_LOGPROB`` outside the mask.
        reason: Why it was started: ``"first"``, ``"prompt"`` (the prompt no longer shows what it showed before) or
            ``"template"`` (the chat template rewrote it).
    """

    token_ids: tuple[int, ...] = ()
    action_mask: tuple[bool, ...] = ()
    turn_index: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    reason: str = "first"

    def __len__(self) -> int:
        return len(self.token_ids)

    def with_context(self, token_ids: Sequence[int], turn: int) -> "Transcript":
        """Longer by tokens that the policy did not produce."""
        return self._longer(token_ids, False, turn, [NO_LOGPROB] * len(token_ids))

    def with_action(self, token_ids: Sequence[int], logprobs: Sequence[float], turn: int) -> "Transcript":
        """Longer by a reply, as sampled; ``logprobs`` may be empty (a demonstration).

        Raises:
            ValueError: No tokens, or another number of log-probabilities.
        """
        if not token_ids:
            raise ValueError(f"turn {turn} has no token ids: a reply is never encoded again, so it cannot be used here")
        if logprobs and len(logprobs) != len(token_ids):
            raise ValueError(f"turn {turn} has {len(token_ids)} token ids but {len(logprobs)} log-probabilities")
        return self._longer(token_ids, True, turn, logprobs or [NO_LOGPROB] * len(token_ids))

    def _longer(self, token_ids: Sequence[int], is_action: bool, turn: int, logprobs: Sequence[float]) -> "Transcript":
        count = len(token_ids)
        return Transcript(
            self.token_ids + tuple(token_ids),
            self.action_mask + (is_action,) * count,
            self.turn_index + (turn,) * count,
            self.logprobs + tuple(logprobs),
            self.reason,
        )

    def continues(self, earlier: "Transcript") -> bool:
        """The prefix property: whether this one is ``earlier`` with something after it."""
        count = len(earlier)
        return (self.token_ids[:count], self.action_mask[:count]) == (earlier.token_ids, earlier.action_mask)


class Chat:
    """A tokenizer's chat format, as text and as ids.

    Args:
        tokenizer: With a chat template.
        stop_ids: Ids that end a reply; by default the tokenizer's end token.
        template_kwargs: Passed to the template, e.g. ``{"enable_thinking": False}``.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        stop_ids: Sequence[int] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.stop_ids = tuple(stop_ids) if stop_ids is not None else (int(tokenizer.eos_token_id),)
        if not self.stop_ids:
            raise ValueError("a chat needs at least one id that ends a reply")
        self._template_kwargs = dict(template_kwargs or {})
        self._rendered: dict[tuple[Message, ...], str] = {}
        self._encoded: dict[str, tuple[int, ...]] = {}
        self._decoded: dict[tuple[int, ...], str] = {}
        self._replies: dict[str, tuple[int, ...]] = {}

    def render(self, messages: tuple[Message, ...]) -> str:
        """The text of the messages, up to where the policy's reply begins."""
        if messages not in self._rendered:
            self._render([messages])
        return self._rendered[messages]

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text in which the scaffold is already written out."""
        if text not in self._encoded:
            self._encode([text])
        return self._encoded[text]

    def prepare(self, conversations: Iterable[tuple[Message, ...]]) -> None:
        """Render and encode, all in one call each, what will be asked for one by one: only the time differs."""
        conversations = list(dict.fromkeys(conversations))
        self._render([messages for messages in conversations if messages not in self._rendered])
        self._encode([text for text in map(self.render, conversations) if text not in self._encoded])

    def _render(self, conversations: Sequence[tuple[Message, ...]]) -> None:
        if len(self._rendered) >= _KEPT:
            self._rendered.clear()
        if conversations:
            texts = self.tokenizer.apply_chat_template(
                [[message._asdict() for message in messages] for messages in conversations],
                add_generation_prompt=True,
                tokenize=False,
                **self._template_kwargs,
            )
            self._rendered.update(zip(conversations, texts, strict=True))

    def _encode(self, texts: Sequence[str]) -> None:
        if len(self._encoded) >= _KEPT:
            self._encoded.clear()
        if texts:
            self._encoded.update(zip(texts, map(tuple, _encode_batch(self.tokenizer, texts)), strict=True))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a reply, without the token that ended it."""
        ids = tuple(token_ids[:-1] if token_ids and token_ids[-1] in self.stop_ids else token_ids)
        if ids not in self._decoded:
            if len(self._decoded) >= _KEPT:
                self._decoded.clear()
            self._decoded[ids] = str(
                self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
            )
        return self._decoded[ids]

    def reply_ids(self, reply: str) -> tuple[int, ...]:
        """A written reply as a policy would have sampled it, end token included: for demonstrations and candidates."""
        if reply not in self._replies:
            if len(self._replies) >= 65536:
                self._replies.clear()
            self._replies[reply] = (*self.encode(reply), self.stop_ids[0])
        return self._replies[reply]

    def continuation(self, before: Turn, after: Sequence[Message]) -> tuple[int, ...] | None:
        """The ids between the sampled reply of ``before`` and the next reply, or ``None`` if there is no such thing.

        ``None`` means that the template, shown ``after``, writes something else than what ``before`` was and replied.
        """
        shown, text = self.render(before.messages), self.render(tuple(after))
        for reply in (before.reply, before.reply.strip()):
            if text.startswith(shown + reply):
                scaffold = text[len(shown) + len(reply) :]
                break
        else:
            return None
        if before.token_ids and before.token_ids[-1] in self.stop_ids:
            ended_by = self.tokenizer.decode([before.token_ids[-1]], skip_special_tokens=False)
            if not scaffold.startswith(ended_by):
                return None
            scaffold = scaffold[len(ended_by) :]
        return self.encode(scaffold)


def _encode_batch(tokenizer: ChatTokenizer, texts: Sequence[str]) -> Sequence[Sequence[int]]:
    # By the tokenizer itself, which also leaves its backend without padding and truncation.
    first = tokenizer.encode(texts[0], add_special_tokens=False)
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if len(texts) > 1 and hasattr(backend, "encode_batch_fast"):
        # Two thirds of the time of the tokenizer's own call: no offsets, which nobody reads here.
        encoded = [each.ids for each in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
        if encoded[0] == first:
            return encoded
    return [first, *(tokenizer.encode(text, add_special_tokens=False) for text in texts[1:])]


def build_transcripts(chat: Chat, turns: Sequence[Turn]) -> tuple[Transcript, ...]:
    """The transcripts of an episode: one, unless what was shown before is not shown again as it was.

    Args:
        chat: The chat format.
        turns: In order. Only the last may be without a reply: its transcript then ends where the reply begins, and its
            ids are what the sampler is sent.

    Returns:
        Transcripts in order; each reply is an action in exactly one of them.

    Raises:
        ValueError: A turn other than the last has no token ids.
    """
    done: list[Transcript] = []
    for index, turn in enumerate(turns):
        previous = turns[index - 1] if index else None
        grown = None
        reason = "first" if previous is None else "prompt"
        if previous is not None and _is_shown_again(previous, turn):
            scaffold = chat.continuation(previous, turn.messages)
            reason = "template"
            if scaffold is not None:
                grown = done[-1].with_context(scaffold, index)
                assert grown.continues(done[-1]), "a transcript only grows"
        if grown is None:
            done.append(Transcript(reason=reason).with_context(chat.encode(chat.render(turn.messages)), index))
        else:
            done[-1] = grown
        if turn.token_ids or index < len(turns) - 1:
            done[-1] = done[-1].with_action(turn.token_ids, turn.logprobs, index)
    return tuple(done)


def _is_shown_again(before: Turn, after: Turn) -> bool:
    expected = (*before.messages, Message("assistant", before.reply))
    return after.messages[: len(expected)] == expected
