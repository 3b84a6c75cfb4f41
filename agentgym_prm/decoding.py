"""Decoding by steps: beam search, Best-of-N and self-consistency over texts that a generator continues.

``beam_search`` goes on with all partial solutions at a time, step by step: each is continued up to the separator, what
comes out is judged by its steps so far, and only the best go on. With ``beam_width`` and ``beam_factor`` 1 that is the
generator's own way of writing; with a wide beam and no judging in between it would be Best-of-N.

Who judges is a function from attempts (``StepLabels`` without labels) to scores; ``step_quality.aggregated`` makes one
of a model that scores steps. Who writes is a ``TextGenerator``: ``generation.LocalGenerator``, or one over a server.
Not in here: reuse of keys and values from step to step, and beams of several problems at a time.

Source: https://github.com/sdiehl/prm (``tree_decode``). There finished texts leave the beam, which is filled up again;
here they keep their place in it, so that a search costs at most ``beam_width * beam_factor`` continuations a step.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.rewards.step_labels import StepLabels

END, STOP, LENGTH = "end", "stop", "length"
SEPARATOR: Final = "\n"
MAX_STEPS: Final = 64


class Continuation(NamedTuple):
    """What a generator wrote behind a text."""

    text: str
    """Its text, with the stop text that ended it, without an end token."""
    logprob: float
    """The sum over its tokens, as sampled."""
    tokens: int
    """How many tokens that took, the end token included."""
    stop_reason: str
    """``"end"`` (it ended the text), ``"stop"`` (a stop text is complete) or ``"length"`` (it was cut off)."""


class TextGenerator(Protocol):
    """Continues texts: a local model, vLLM, a server.

    What it draws for a text depends on the text and the number of the continuation alone, not on the other texts.
    """

    def continuations(self, prompts: Sequence[str], n: int, *, stop: Sequence[str] = ()) -> list[list[Continuation]]:
        """``n`` continuations of each text, in order, each up to and with the first of the stop texts."""


Judge = Callable[[Sequence[StepLabels]], NDArray[np.float64]]
"""Scores attempts, shape ``(N,)``; higher is better."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search cost."""

    calls: int = 0
    """Calls of the generator; the continuations of one run side by side."""
    samples: int = 0
    """Continuations drawn."""
    tokens: int = 0
    """Tokens written: forward passes of the generator over one sequence each, without those that read prompts."""
    judged: int = 0
    """Attempts judged: forward passes of a scorer that reads an attempt in one."""

    @property
    def forward_passes(self) -> int:
        """Those of generator and scorer over one sequence each."""
        return self.tokens + self.judged

    def __add__(self, other: "Budget") -> "Budget":
        return Budget(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that a search ended with."""

    text: str
    """What was written behind the prompt."""
    steps: tuple[str, ...]
    """Its steps, without separators."""
    finished: bool
    """Whether it came to an end by itself or by a stop condition."""
    logprob: float
    """The sum over all tokens sampled for it."""
    score: float = 0.0
    """The final judge's; minus infinity for a text without a step."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a search found. ``candidates`` are ranked, the best first: finished ones before the others."""

    candidates: tuple[Candidate, ...]
    budget: Budget

    @property
    def best(self) -> Candidate:
        """The text that is taken."""
        return self.candidates[0]


def beam_search(
    generator: TextGenerator,
    prompt: str,
    judge: Judge,
    *,
    separator: str = SEPARATOR,
    beam_width: int = 5,
    beam_factor: int = 3,
    stop: Sequence[str] = (),
    max_steps: int = MAX_STEPS,
    final_judge: Judge | None = None,
    problem: str | None = None,
) -> Decoded:
    """Step-synchronous beam search.

    At first ``beam_width * beam_factor`` steps are drawn, later ``beam_factor`` behind each partial solution of the
    beam. Equal texts count once. The best ``beam_width`` by ``judge`` are kept, of equal scores those that were drawn
    first, of parents in the beam's order; where all have room, none is judged. A kept one that is at its end keeps its
    place. The search ends when all are, or after ``max_steps``.

    Args:
        generator: Writes the steps.
        prompt: The text behind which is written.
        judge: Ranks partial solutions.
        separator: Ends a step.
        beam_width: Partial solutions that go on, at least 1.
        beam_factor: Continuations of each, at least 1.
        stop: A text is finished with the step that holds one of these.
        max_steps: Most steps, at least 1.
        final_judge: Ranks whole solutions; by default ``judge``.
        problem: What the judges are shown as the problem; by default the prompt.

    Raises:
        ValueError: A number is out of range, the separator is empty, or a judge gave another number of scores, or one
            that is not finite.
    """
    _check(separator, beam_width=beam_width, beam_factor=beam_factor, max_steps=max_steps)
    shown = prompt if problem is None else problem
    live, ended, budget = [_Partial()], list[_Partial](), Budget()
    for step in range(max_steps):
        n = beam_factor if step else beam_width * beam_factor
        drawn = generator.continuations([prompt + partial.text for partial in live], n, stop=(separator,))
        budget += _spent(drawn)
        grown = [
            partial.grown(continuation, separator, stop)
            for partial, continuations in zip(live, drawn, strict=True)
            for continuation in continuations
        ]
        kept = _distinct(grown)
        room = beam_width - len(ended)
        if len(kept) > room:
            budget += Budget(judged=len(kept))
            kept = _ranked(judge, shown, kept)[:room]
        ended += [partial for partial in kept if partial.is_at_end]
        live = [partial for partial in kept if not partial.is_at_end]
        if not live:
            break
    return _decoded(final_judge or judge, shown, [*ended, *live], budget)


def best_of_n(
    generator: TextGenerator,
    prompt: str,
    judge: Judge,
    n: int,
    *,
    separator: str = SEPARATOR,
    stop: Sequence[str] = (),
    problem: str | None = None,
) -> Decoded:
    """Write ``n`` whole solutions and rank them; arguments and errors as for ``beam_search``.

    What the generator writes after the step with a stop condition is thrown away, but counted.
    """
    _check(separator, n=n)
    drawn = generator.continuations([prompt], n)
    solutions = _distinct(_solution(continuation, separator, stop) for continuation in drawn[0])
    return _decoded(judge, prompt if problem is None else problem, solutions, _spent(drawn))


@dataclass(frozen=True, slots=True)
class Vote:
    """The answer that most solutions give. ``votes`` are all answers with their counts, the winner first."""

    answer: str | None
    votes: tuple[tuple[str, int], ...]
    texts: tuple[str, ...]
    budget: Budget


def self_consistency(
    generator: TextGenerator, prompt: str, extract: Callable[[str], str | None], n: int, *, stop: Sequence[str] = ()
) -> Vote:
    """Write ``n`` solutions and take the majority's answer (arXiv:2203.11171).

    Args:
        generator: Writes the solutions.
        prompt: The text behind which is written.
        extract: The answer in a solution, or ``None`` if there is none; such solutions have no vote.
        n: How many solutions, at least 1.
        stop: Stop texts of the generator.

    Of answers with equally many votes the one that was given first wins.
    """
    _check(SEPARATOR, n=n)
    drawn = generator.continuations([prompt], n, stop=stop)
    texts = tuple(continuation.text for continuation in drawn[0])
    answers = [answer for answer in map(extract, texts) if answer is not None]
    # most_common leaves equal counts in the order in which they were met first.
    votes = tuple(Counter(answers).most_common())
    return Vote(votes[0][0] if votes else None, votes, texts, _spent(drawn))


@dataclass(frozen=True, slots=True)
class _Partial:
    text: str = ""
    steps: tuple[str, ...] = ()
    is_at_end: bool = False
    finished: bool = False
    logprob: float = 0.0

    def grown(self, continuation: Continuation, separator: str, stop: Sequence[str]) -> "_Partial":
        """One step longer."""
        step = continuation.text
        while step.endswith(separator):  # a token may hold it twice
            step = step.removesuffix(separator)
        finished = continuation.stop_reason == END or any(word in step for word in stop)
        return _Partial(
            self.text + continuation.text,
            (*self.steps, step) if step.strip() else self.steps,
            finished or continuation.stop_reason == LENGTH,
            finished,
            self.logprob + continuation.logprob,
        )


def _solution(continuation: Continuation, separator: str, stop: Sequence[str]) -> _Partial:
    """A whole solution, as ``beam_search`` would have written it."""
    partial, remaining = _Partial(), continuation.text
    while not partial.is_at_end:
        step, found, remaining = remaining.partition(separator)
        reason = STOP if found else continuation.stop_reason
        partial = partial.grown(Continuation(step + found, 0.0, 0, reason), separator, stop)
    return _Partial(partial.text, partial.steps, True, partial.finished, continuation.logprob)


def _distinct(partials: Iterable[_Partial]) -> list[_Partial]:
    """The first of each text, in their order."""
    first: dict[str, _Partial] = {}
    for partial in partials:
        first.setdefault(partial.text, partial)
    return list(first.values())


def _ranked(judge: Judge, problem: str, partials: Sequence[_Partial]) -> list[_Partial]:
    scores = _judged(judge, problem, partials)
    return [partials[place] for place in np.argsort(-scores, kind="stable")]


def _judged(judge: Judge, problem: str, partials: Sequence[_Partial]) -> NDArray[np.float64]:
    """The scores; a text that is all separators has no step to judge, and comes last."""
    attempts = [StepLabels(problem, partial.steps) for partial in partials if partial.steps]
    scores_N = np.full(len(partials), -np.inf)
    if attempts:
        found_N = np.asarray(judge(attempts), dtype=np.float64)
        if found_N.shape != (len(attempts),) or not np.isfinite(found_N).all():
            raise ValueError(
                f"a judge gives one finite score for each of {len(attempts)} attempts, got shape {found_N.shape}: "
                f"{found_N!r:.80}"
            )
        scores_N[[bool(partial.steps) for partial in partials]] = found_N
    return scores_N


def _decoded(judge: Judge, problem: str, partials: Sequence[_Partial], budget: Budget) -> Decoded:
    scores = _judged(judge, problem, partials).tolist()
    candidates = [
        Candidate(partial.text, partial.steps, partial.finished, partial.logprob, score)
        for partial, score in zip(partials, scores, strict=True)
    ]
    candidates.sort(key=lambda candidate: (not candidate.finished, -candidate.score))
    return Decoded(tuple(candidates), budget + Budget(judged=len(partials)))


def _spent(drawn: Sequence[Sequence[Continuation]]) -> Budget:
    flat = [continuation for continuations in drawn for continuation in continuations]
    return Budget(calls=1, samples=len(flat), tokens=sum(continuation.tokens for continuation in flat))


def _check(separator: str, **numbers: int) -> None:
    if not separator:
        raise ValueError("separator must not be empty")
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
