"""A question being answered: commands in, observations out. A pure state machine; copies are cheap.

The episode ends with an answer, or with a call of a tool beyond ``max_searches``, which is not run any more. That is
the source's rule (github.com/SiliangZeng/Multi-Turn-RL-Agent: with ``max_steps=2`` the second call ends it unanswered);
so is it that calls which cannot be run count, and messages without any do not. What a tool brings is cut to
``max_result_length``, which the source does not do and Search-R1 does by tokens, closing tag included: here it stays.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from agentgym_prm.envs.wiki_search import answers
from agentgym_prm.envs.wiki_search.moves import Answer, Malformed, Search
from agentgym_prm.envs.wiki_search.protocols import BadCall, Call, Protocol
from agentgym_prm.envs.wiki_search.question import Question
from agentgym_prm.envs.wiki_search.suggestions import asks_yes_or_no, names_in, nouns_in
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.search.core import PassageSearch

LENGTH_UNITS: Final = ("characters", "tokens")
REWARDS: Final = ("exact_match", "f1")
TOO_MANY: Final = "no more searches"
Tokenizer = Callable[[str], Sequence[tuple[int, int]]]
"""Where the tokens of a text begin and end, in characters; e.g. of a fast tokenizer of transformers ``lambda text:
tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]``."""
_TOKEN: Final = re.compile(r"\w+|[^\w\s]")


def words_and_marks(text: str) -> list[tuple[int, int]]:
    """What counts as tokens without a tokenizer: runs of letters, digits and underscores, and single other marks."""
    return [match.span() for match in _TOKEN.finditer(text)]


class Engine:
    """One question in progress.

    Args:
        index: What is searched.
        protocol: How commands and observations are written.
        k: Passages a search brings, at least 1.
        max_searches: Calls of tools that are answered, at least 1; the next one ends the episode. ``None``: no limit.
        max_result_length: Longest text that a tool brings; what is beyond is cut off. ``None`` for no limit.
        length_unit: ``"characters"`` or ``"tokens"``.
        tokenizer: What tokens are; ``words_and_marks`` by default.
        reward: ``"exact_match"`` or ``"f1"``.
        metric: Whose evaluation decides (``answers.METRICS``).
        suggestions: Whether the admissible commands list the question and the names seen so far as searches, these and
            the numbers and some nouns seen as answers. Any text is understood either way; without this none are listed.

    Attributes:
        question: What is being answered.
        valid: Whether the last command was executed: a tool ran without error, or an answer was taken.
        error: Why it was not, or ``""``.
        searches: Calls of tools so far, those included that could not be run.
        malformed: Commands so far that were neither an answer nor a call that can be run.
        result: What the tool that the last command called brought; ``""`` if none ran.
        answer: The answer given, ``""`` before.
        found_ids, found_titles: Of the passages that the last command brought.
        titles_seen: Titles of all passages brought so far.
        done: Whether the episode ended.
    """

    __slots__ = (
        "_cut_at", "_metric", "_protocol", "_reward", "_suggestions", "_texts", "_tokenizer", "answer", "done",
        "error", "found_ids", "found_titles", "index", "k", "malformed", "max_searches", "question", "result",
        "searches", "titles_seen", "valid",
    )  # fmt: skip

    question: Question

    def __init__(
        self,
        index: PassageSearch,
        protocol: Protocol,
        *,
        k: int = 1,
        max_searches: int | None = None,
        max_result_length: int | None = None,
        length_unit: str = "characters",
        tokenizer: Tokenizer | None = None,
        reward: str = "exact_match",
        metric: str = "triviaqa",
        suggestions: bool = False,
    ) -> None:
        for kind, name, valid in (
            ("length unit", length_unit, LENGTH_UNITS),
            ("reward", reward, REWARDS),
            ("metric", metric, answers.METRICS),
        ):
            if name not in valid:
                raise UnknownNameError.of(kind, name, valid)
        for name, limit in (("k", k), ("max_searches", max_searches), ("max_result_length", max_result_length)):
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
                raise ValueError(f"{name} must be a whole number, at least 1, got {limit!r}")
        if tokenizer is not None and length_unit != "tokens":
            raise ValueError(f"a tokenizer goes with length_unit='tokens', got {length_unit!r}")
        self.index, self._protocol = index, protocol
        self.k, self.max_searches, self._cut_at = k, max_searches, max_result_length
        self._tokenizer = (tokenizer or words_and_marks) if length_unit == "tokens" else None
        self._reward, self._metric, self._suggestions = reward, metric, suggestions

    @property
    def protocol(self) -> Protocol:
        """How commands and observations are written."""
        return self._protocol

    def reset(self, question: Question) -> str:
        """Ask a question; returns the opening text."""
        self.question = question
        self.valid, self.error, self.done = True, "", False
        self.searches, self.malformed = 0, 0
        self.result, self.answer = "", ""
        self.found_ids: tuple[str, ...] = ()
        self.found_titles: tuple[str, ...] = ()
        self.titles_seen: frozenset[str] = frozenset()
        self._texts: tuple[str, ...] = ()
        return self._protocol.opening(question.text)

    def step(self, command: str) -> str:
        """Execute a command and return the observation, which is empty where the episode ends without a word."""
        move = self._protocol.parse(command)
        self.valid, self.error, self.result = True, "", ""
        self.found_ids = self.found_titles = ()
        if isinstance(move, Answer):
            self.answer, self.done = move.text, True
            return self._protocol.closing(self.outcome)
        if isinstance(move, Malformed) and not isinstance(move, BadCall):
            self.malformed += 1
            return self._refused(move.error, self._protocol.refusal)
        self.searches += 1
        if self.max_searches is not None and self.searches > self.max_searches:
            self.done, self.valid, self.error = True, False, TOO_MANY
            return ""
        if isinstance(move, Malformed):
            self.malformed += 1
            return self._refused(move.error, self._protocol.result)
        return self._run(move)

    def clone(self) -> "Engine":
        """An independent copy that goes on from the present state."""
        twin = Engine.__new__(Engine)
        for name in self.__slots__:
            if hasattr(self, name):
                setattr(twin, name, getattr(self, name))
        return twin

    __copy__ = clone

    def __deepcopy__(self, memo: dict[int, object]) -> "Engine":
        # The index is read-only, and may be large.
        return self.clone()

    def admissible_commands(self) -> tuple[str, ...]:
        """What is suggested, sorted; nothing without suggestions or after the end."""
        if self.done or not self._suggestions:
            return ()
        more = self.max_searches is None or self.searches < self.max_searches
        return _suggested(self._protocol, self.question.text, self._texts, more)

    @property
    def outcome(self) -> float:
        """What the answer is worth by exact match or F1; 0.0 before."""
        if not self.done or self.error:
            return 0.0
        score = answers.f1 if self._reward == "f1" else answers.exact_match
        return score(self.answer, self.question.answers, self._metric)

    @property
    def won(self) -> bool:
        """Whether the answer given is one of the accepted forms, by exact match."""
        return (
            self.done and not self.error and bool(answers.exact_match(self.answer, self.question.answers, self._metric))
        )

    @property
    def goal_condition_success_rate(self) -> float:
        """1.0 if won; else the share of what was found among what had to be found and the answer.

        What has to be found are the passages that support the answer, by title; where the data set names none, one
        text with an accepted form of the answer in it.
        """
        if self.won:
            return 1.0
        if supports := set(self.question.supports):
            return len(supports & self.titles_seen) / (len(supports) + 1)
        return any(answers.occurs(self.question.answers, text, self._metric) for text in self._texts) / 2

    def _run(self, move: Search | Call) -> str:
        if isinstance(move, Search):
            found = self.index.search([move.query], self.k)[0]
            self.found_ids = tuple(passage.id for passage, _ in found)
            self.found_titles = tuple(passage.title for passage, _ in found)
            self.titles_seen |= {*self.found_titles}
            text = self._protocol.passages(move.query, found)
        else:
            text = move.tool.call(move.args)
        text = self._cut(text)
        observation = self._protocol.result(text)
        if isinstance(move, Search) and not found:
            self.result = text  # the tool ran; that it says "no" is no passage with the answer "no"
            return observation
        # So the source's reward function tells a call that failed.
        if isinstance(move, Call) and (not text.strip() or text.lstrip().startswith("Error:")):
            self.valid, self.error = False, text.strip() or observation
        else:
            self.result = text
            self._texts += (text,)
        return observation

    def _refused(self, error: str, written: Callable[[str], str]) -> str:
        # An error may repeat the command, which may be of any length.
        error = self._cut(error)
        self.valid, self.error = False, error.strip()
        return written(error)

    def _cut(self, text: str) -> str:
        if self._cut_at is None:
            return text
        if self._tokenizer is None:
            return text[: self._cut_at]
        spans = self._tokenizer(text)
        return text if len(spans) <= self._cut_at else text[: spans[self._cut_at - 1][1]]


def _suggested(protocol: Protocol, question: str, texts: tuple[str, ...], searches: bool) -> tuple[str, ...]:
    asked = names_in(question)
    nouns = (noun for text in texts for noun in nouns_in(text))
    read = tuple(dict.fromkeys(name for text in texts for name in names_in(text)))
    moves: list[Search | Answer] = [Answer(name) for name in dict.fromkeys((*asked, *read, *nouns))]
    if asks_yes_or_no(question):
        moves += [Answer("yes"), Answer("no")]
    if searches:
        named = (name for name in asked + read if not name[0].isdigit())
        moves += [Search(text) for text in dict.fromkeys((question, *named))]
    return tuple(sorted(map(protocol.render, moves)))
