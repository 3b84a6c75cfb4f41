"""A chat model as a step scorer: it is shown task, history and proposed action, and asked for a number.

The rubric is a Jinja template with a block ``user`` and, if wanted, ``system``. They see ``task``, ``steps`` (the turns
shown), ``dropped`` (how many earlier ones are not), ``observation``, ``admissible_commands``, ``command``,
``reasoning`` and ``reply`` of the action, and the ends of the scale, ``lowest`` and ``highest``. The one that comes
with the package shows the command alone: an action is judged as the admissible commands are, which have no reasons,
and not by what it says of itself.

The last ``Score: NUMBER`` of a reply counts. A reply without one, or with one outside of the scale, is asked for again;
an action that gets no score in the end has ``neutral``, and is counted in ``unscored``. Nothing is asked for twice:
scores are kept in memory by what was shown, and the model's cache keeps completions on disk.
"""

import hashlib
import logging
import math
import re
import threading
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.errors import UnknownNameError, UsageError, needs_extra
from agentgym_prm.inference import Budget, ChatModel, ChatRequest, CompletionCache, Usage, connect
from agentgym_prm.inference.vendors import VENDORS, is_model_name
from agentgym_prm.types import Action, History

_log = logging.getLogger(__name__)
RUBRIC_FILES: Final = ("judge",)
"""The rubrics that come with the package."""
PREFIX: Final = "judge:"
"""What a judge's name begins with where other scorers are named too."""
_SCORE: Final = re.compile(r"\bscore\b[\s*_\"'`]*[:=][\s*_\"'`]*(?P<number>[-+]?\d+(?:\.\d+)?)(?!\d)", re.IGNORECASE)
_KEPT: Final = 100_000
"""Scores that are remembered, a hundred bytes each."""


class JudgeScorer:
    """A ``StepScorer`` that asks a chat model; safe to use from several threads.

    Args:
        model: Who judges; see ``inference.connect``.
        rubric: Name of one of ``RUBRIC_FILES``, or a template file.
        lowest: Lower end of the scale that the rubric tells; scores are mapped to ``[0, 1]`` from there.
        highest: Upper end.
        neutral: Score, in ``[0, 1]``, of an action for which no reply held one.
        attempts: Replies asked for before that.
        temperature: 0 for what is most likely; left out where the model takes none.
        max_tokens: Longest reply; a reasoning model's thoughts count.
        max_turns: Most earlier turns shown; ``None`` for all.
        seed: Picks the draws, as far as the API lets it.
        name: What the scores are called.

    Raises:
        UnknownNameError: No such rubric.
        ValueError: The scale is empty, ``neutral`` is outside of ``[0, 1]``, or the template has no block ``user``.

    Raises (when scoring):
        ServiceError, BudgetExceededError: As ``ChatModel.complete``.
    """

    def __init__(
        self,
        model: ChatModel,
        rubric: str | Path = RUBRIC_FILES[0],
        *,
        lowest: float = 0.0,
        highest: float = 10.0,
        neutral: float = 0.5,
        attempts: int = 2,
        temperature: float | None = 0.0,
        max_tokens: int = 2048,
        max_turns: int | None = None,
        seed: int = 0,
        name: str = "judge",
    ) -> None:
        if not lowest < highest:
            raise ValueError(f"lowest must be below highest, got {lowest} and {highest}")
        if not 0 <= neutral <= 1:
            raise ValueError(f"neutral must be in [0, 1], got {neutral}")
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts}")
        if max_turns is not None and max_turns < 0:
            raise ValueError(f"max_turns must be at least 0 or None, got {max_turns}")
        self.name, self.model = name, model
        self._source = _rubric(rubric)
        self._lowest, self._highest, self._neutral, self._attempts = lowest, highest, neutral, attempts
        self._temperature, self._max_tokens, self._max_turns, self._seed = temperature, max_tokens, max_turns, seed
        self._known: dict[str, float] = {}
        self._lock = threading.Lock()
        self.judged = self.invalid = self.unscored = 0
        """Actions judged (those remembered not counted), replies without a score, actions left without one."""
        self.usage = Usage()
        """What the replies took, those from the cache not counted."""
        if "user" not in self._template.blocks:
            raise ValueError(f"rubric {str(rubric)!r} has no block 'user': every rubric needs {{% block user %}}")

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        """How good each action is, in ``[0, 1]``, shape ``(N,)``; all are asked for side by side."""
        shown = [self.messages(history, action) for history, action in zip(histories, actions, strict=True)]
        keys = [hashlib.sha256(repr(messages).encode(errors="replace")).hexdigest() for messages in shown]
        with self._lock:
            known = {key: self._known[key] for key in keys if key in self._known}
        known |= self._ask({key: messages for key, messages in zip(keys, shown, strict=True) if key not in known})
        return np.array([known[key] for key in keys], dtype=np.float64)

    def messages(self, history: History, action: Action) -> tuple[tuple[str, str], ...]:
        """What the model is shown, as pairs of role and content."""
        count = len(history.steps)
        dropped = 0 if self._max_turns is None else max(0, count - self._max_turns)
        values = {
            "task": history.task,
            "steps": history.steps[dropped:],
            "dropped": dropped,
            "observation": history.observation,
            "admissible_commands": history.admissible_commands,
            "command": action.command,
            "reasoning": action.reasoning,
            "reply": action.reply,
            "lowest": f"{self._lowest:g}",
            "highest": f"{self._highest:g}",
        }
        blocks = self._template.blocks
        contents = {
            role: "".join(blocks[role](self._template.new_context(values))).strip()
            for role in ("system", "user")
            if role in blocks
        }
        return tuple((role, content) for role, content in contents.items() if content)

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.judged} actions judged, {self.invalid} invalid replies, {self.unscored} left neutral"
        )

    def _ask(self, asked: dict[str, tuple[tuple[str, str], ...]]) -> dict[str, float]:
        scores: dict[str, float] = {}
        for attempt in range(self._attempts):
            open_keys = [key for key in asked if key not in scores]
            requests = [
                ChatRequest(
                    messages=asked[key],
                    temperature=self._temperature,
                    max_tokens=self._max_tokens,
                    draw=(self._seed, attempt),
                )
                for key in open_keys
            ]
            given: dict[str, float] = {}
            usage, invalid = Usage(), 0
            for key, (completion,) in zip(open_keys, self.model.complete(requests) if requests else [], strict=True):
                usage = usage if completion.from_cache else usage + completion.usage
                score = parse_score(completion.text, self._lowest, self._highest)
                if score is None:
                    invalid += 1
                else:
                    given[key] = score
            # Now: the next round may fail, and this one is paid for.
            self._count(given, usage, invalid, 0)
            scores |= given
        left = [key for key in asked if key not in scores]
        if left:
            _log.warning("%s gave no score for %d of %d actions: they count as %g", self.model.name, len(left),
                         len(asked), self._neutral)  # fmt: skip
        neutral = dict.fromkeys(left, self._neutral)
        self._count(neutral, Usage(), 0, len(left))
        return scores | neutral

    def _count(self, scores: dict[str, float], usage: Usage, invalid: int, unscored: int) -> None:
        with self._lock:
            self.judged, self.usage = self.judged + len(scores), self.usage + usage
            self.invalid, self.unscored = self.invalid + invalid, self.unscored + unscored
            self._known |= scores
            while len(self._known) > _KEPT:
                del self._known[next(iter(self._known))]

    @cached_property
    def _template(self) -> Any:
        with needs_extra("api"):
            from jinja2 import Environment, StrictUndefined
        return Environment(undefined=StrictUndefined, autoescape=False).from_string(self._source)


def parse_score(reply: str, lowest: float, highest: float) -> float | None:
    """The last score in a reply, mapped to ``[0, 1]``; ``None`` if there is none, or it is not on the scale.

    >>> parse_score("It looks where it has looked before. Score: 2.5", 0, 10)
    0.25
    >>> parse_score("**Score:** 7/10", 0, 10), parse_score("Score: 11", 0, 10), parse_score("seven", 0, 10)
    (0.7, None, None)
    """
    found = list(_SCORE.finditer(reply))
    if not found:
        return None
    number = float(found[-1]["number"])
    if not math.isfinite(number) or not lowest <= number <= highest:
        return None
    return (number - lowest) / (highest - lowest)


def check_judge(text: str) -> None:
    """Refuse what is no ``VENDOR:MODEL`` or ``VENDOR:MODEL@http://ADDRESS``.

    Raises:
        UnknownNameError: It is not.
    """
    name, _ = _parts(text)
    if not is_model_name(name):
        raise UnknownNameError.of("judge", name, [f"{vendor}:MODEL" for vendor in VENDORS])


def connect_judge(
    text: str, *, budget: Budget | None = None, cache: CompletionCache | None = None, **options: Any
) -> JudgeScorer:
    """The judge ``VENDOR:MODEL`` or ``VENDOR:MODEL@http://ADDRESS``.

    Args:
        text: Its name.
        budget: What it may spend; by default it is counted only.
        cache: Completions on disk; ``None`` asks for everything.
        **options: Further arguments of ``inference.connect``.

    Raises:
        UnknownNameError: No such vendor.
        MissingKeyError: Its key is not set.
    """
    check_judge(text)
    name, base_url = _parts(text)
    if base_url is not None:
        if options.get("base_url"):
            raise UsageError(f"two addresses for one judge: {base_url} and {options['base_url']}")
        options["base_url"] = base_url
    return JudgeScorer(connect(name, budget=budget, cache=cache, **options))


def _parts(text: str) -> tuple[str, str | None]:
    for scheme in ("@http://", "@https://"):
        if scheme in text:
            name, _, rest = text.partition(scheme)
            return name, scheme[1:] + rest
    return text, None


def _rubric(rubric: str | Path) -> str:
    path = Path(rubric)
    if path.suffix and path.is_file():
        return path.read_text(encoding="utf-8")
    if str(rubric) not in RUBRIC_FILES:
        raise UnknownNameError.of("rubric", str(rubric), [*RUBRIC_FILES, "a template file"])
    return files("agentgym_prm.rewards").joinpath("templates", f"{rubric}.j2").read_text(encoding="utf-8")
