"""Rubrics: weighted, named functions of a turn, summed into one reward term.

A function judges one finished turn (``Transition``). What can only be said of a whole episode is said of its last turn,
which holds all of it: ``per_episode`` makes such a function of one of a ``Trajectory``. A reward for an earlier turn
that depends on later ones cannot be paid while the episode runs, and is a matter of credit assignment.

``RUBRICS`` names those that are ready. The question-answering ones are worth what arXiv:2505.11821 pays. They read what
the environment says in ``info`` (the result of this turn's call, the answer given, every accepted form of it), so they
judge episodes in any protocol; those of the form read the messages. Departures from the authors' code
(github.com/SiliangZeng/Multi-Turn-RL-Agent): a turn is judged by its own call (there, an episode by the share of its
calls that ran, and by the result of the first alone: with one search it is the same); an answer occurs in a text if its
words do, after the normalisation that exact match has (there any substring counts, "us" in "because").
``message_format`` and ``tag_counts`` are what the code pays for the form; ``well_formed_messages`` and ``tag_usage``
what the paper's names of them say.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.envs.parsing import first_element
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.rewards.core import Transition
from agentgym_prm.types import Action, InfoKey, Trajectory

_WELL_FORMED: Final = re.compile(
    r"\s*<(reasoning|think)>(?:(?!</?(?:reasoning|think)>).)*</\1>"
    r"\s*<(tool|search|answer)>(?:(?!</?(?:tool|search|answer)>).)*</\2>\s*",
    re.DOTALL,
)
_ACTS: Final = ("tool", "search", "answer")

StepFunction = Callable[[Transition], float]
"""Judges one finished turn; finite."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of a rubric."""

    name: str
    judge: StepFunction
    weight: float = 1.0


class Rubric:
    """The reward term ``sum of weight * judge(turn)``.

    Every criterion that is to show in ``info["reward_terms"]`` by itself gets a rubric, and a wrapper, of its own.

    Args:
        *criteria: At least one, of different names.
        name: By default that of the only criterion, else ``"rubric"``.

    Raises:
        ValueError: No criteria, or two of one name.
    """

    def __init__(self, *criteria: Criterion, name: str = "") -> None:
        names = [criterion.name for criterion in criteria]
        if not criteria or len(set(names)) < len(names):
            raise ValueError(f"a rubric has at least one criterion, and no two of one name; got {names}")
        self.name = name or (names[0] if len(names) == 1 else "rubric")
        self.criteria = criteria

    @classmethod
    def of(cls, weights: Mapping[str, float], name: str = "") -> "Rubric":
        """A rubric of functions in ``RUBRICS``, each times its weight.

        Raises:
            UnknownNameError: No function of that name.
        """
        for each in weights:
            if each not in RUBRICS:
                raise UnknownNameError.of("rubric", each, RUBRICS)
        return cls(*(Criterion(each, RUBRICS[each], weight) for each, weight in weights.items()), name=name)

    def rewards(self, transitions: Sequence[Transition]) -> NDArray[np.float64]:
        total_N = np.zeros(len(transitions))
        for criterion in self.criteria:
            total_N += criterion.weight * np.array([criterion.judge(each) for each in transitions], dtype=np.float64)
        return total_N


def per_episode(function: Callable[[Trajectory], float]) -> StepFunction:
    """``function`` of the finished episode on its last turn, 0.0 on the others."""

    def judge(turn: Transition) -> float:
        return function(_episode(turn)) if turn.ended else 0.0

    return judge


def _episode(last: Transition) -> Trajectory:
    history, steps = last.history, last.after.steps
    return Trajectory(
        task=history.task,
        seed=history.seed,
        steps=steps,
        final_observation=last.after.observation,
        task_id=history.task_id,
        task_type=history.task_type,
    )


# --- any text environment ---


def valid_action(turn: Transition) -> float:
    """Grounding: 1.0 if the environment executed the command, else 0.0 (arXiv:2505.20732 pays half of it)."""
    return float(bool(_info(turn, InfoKey.VALID_ACTION)))


def step_price(turn: Transition) -> float:
    """-1.0 for every step."""
    return -1.0


def repeated_command(turn: Transition) -> float:
    """1.0 if the same command was given at the same observation before; wants a negative weight."""
    seen, command = turn.history.observation, turn.step.action.command
    return float(any(step.observation == seen and step.action.command == command for step in turn.history.steps))


# --- questions with a search tool ---


def tool_execution(turn: Transition) -> float:
    """0.2 if this turn called a tool that ran without error and brought something."""
    return 0.2 if _info(turn, InfoKey.VALID_ACTION) and _info(turn, InfoKey.SEARCH_RESULT) else 0.0


def answer_in_search_results(turn: Transition) -> float:
    """0.5 if any form of the answer occurs in the result that this turn's tool call brought.

    Each turn is judged by itself: where several searches are allowed, all that bring the answer are paid.
    """
    return 0.5 if _occurs(_answers(turn), _info(turn, InfoKey.SEARCH_RESULT)) else 0.0


def answer_first_found(turn: Transition) -> float:
    """As ``answer_in_search_results``, but only for the first turn of the episode that brings the answer."""
    answers = _answers(turn)
    if any(_occurs(answers, step.info[InfoKey.SEARCH_RESULT]) for step in turn.history.steps):
        return 0.0
    return answer_in_search_results(turn)


def answer_present(turn: Transition) -> float:
    """0.5 if the episode ends with an answer in which any accepted form occurs."""
    return 0.5 if turn.ended and _occurs(_answers(turn), _info(turn, InfoKey.ANSWER)) else 0.0


def exact_match(turn: Transition) -> float:
    """1.0 if the episode ends with an answer that equals any accepted form, as TriviaQA's evaluation has it."""
    from agentgym_prm.envs.wiki_search import answers

    given = _info(turn, InfoKey.ANSWER)
    return answers.exact_match(given, _answers(turn)) if turn.ended and given else 0.0


def f1(turn: Transition) -> float:
    """F1 of the words of the answer that the episode ends with, as TriviaQA's evaluation has it."""
    from agentgym_prm.envs.wiki_search import answers

    return answers.f1(_info(turn, InfoKey.ANSWER), _answers(turn)) if turn.ended else 0.0


def _share_well_formed(episode: Trajectory) -> float:
    return 0.2 * _mean(bool(_WELL_FORMED.fullmatch(_message(step.action))) for step in episode.steps)


def _tag_usage(episode: Trajectory) -> float:
    return 0.2 * _mean(_tags_used(_message(step.action)) for step in episode.steps)


def _message_format(episode: Trajectory) -> float:
    return 0.2 * _mean(_format_score(_message(step.action)) for step in episode.steps)


def _tag_counts(episode: Trajectory) -> float:
    return max(0.0, 0.2 * _mean(_tag_score(_message(step.action)) for step in episode.steps))


well_formed_messages: Final = per_episode(_share_well_formed)
"""0.2 times the share of the episode's messages that are reasoning, then a call or an answer in tags, and nothing else.

Reasoning stands in ``<reasoning>`` or ``<think>``, a call in ``<tool>`` or ``<search>``.
"""
tag_usage: Final = per_episode(_tag_usage)
"""0.2 times the mean, over messages, of the share of the two expected blocks (reasoning; call or answer) that occur
exactly once."""
message_format: Final = per_episode(_message_format)
"""0.2 times the mean, over messages in XML, of how the authors' code rates the form.

That is 0.2, and 0.2 for ``<reasoning>`` at the beginning, 0.2 for ``</tool>`` or ``</answer>`` at the end, and, if any
block is whole, 0.2 for each of the two blocks that a tag occurs of.
"""
tag_counts: Final = per_episode(_tag_counts)
"""0.2 times the mean, over messages in XML, of how the authors' code rates the tags; at least 0.

That is 1 for a tag that occurs once, one less for each occurrence more or less, averaged over the opening and closing
tags of the blocks that are used; 0 if none is.
"""


RUBRICS: Final[Mapping[str, StepFunction]] = {
    "valid_action": valid_action,
    "step_price": step_price,
    "repeated_command": repeated_command,
    "tool_execution": tool_execution,
    "answer_in_search_results": answer_in_search_results,
    "answer_first_found": answer_first_found,
    "answer_present": answer_present,
    "exact_match": exact_match,
    "f1": f1,
    "well_formed_messages": well_formed_messages,
    "tag_usage": tag_usage,
    "message_format": message_format,
    "tag_counts": tag_counts,
}
"""What ``Rubric.of`` knows by name."""


def _message(action: Action) -> str:
    """What the agent wrote; an agent without a model writes only its command."""
    return action.reply or action.command


def _answers(turn: Transition) -> Sequence[str]:
    answers: Sequence[str] = _info(turn, InfoKey.ANSWERS)
    return answers


def _info(turn: Transition, key: str) -> Any:
    if key not in turn.step.info:
        raise ValueError(f"this rubric reads info[{key!r}], which task {turn.history.task_id!r} does not give")
    return turn.step.info[key]


def _occurs(answers: Sequence[str], text: str) -> bool:
    # Late, here and above: importing the package loads no environment.
    from agentgym_prm.envs.wiki_search.answers import occurs

    return occurs(answers, text)


def _tags_used(message: str) -> float:
    reasoning = any(_occurs_once(tag, message) for tag in ("reasoning", "think"))
    return (reasoning + any(_occurs_once(tag, message) for tag in _ACTS)) / 2


def _occurs_once(tag: str, message: str) -> bool:
    opening, closing = f"<{tag}>", f"</{tag}>"
    return message.count(opening) == message.count(closing) == 1 and message.index(opening) < message.index(closing)


def _format_score(message: str) -> float:
    blocks = (("reasoning",), ("tool", "answer"))
    touched = [any(f"<{tag}>" in message or f"</{tag}>" in message for tag in block) for block in blocks]
    whole = any(first_element(tag, message) for block in blocks for tag in block)
    text = message.strip()
    begins, ends = text.startswith("<reasoning>"), text.endswith(("</tool>", "</answer>"))
    return 0.2 + 0.2 * begins + 0.2 * ends + 0.2 * whole * sum(touched)


def _tag_score(message: str) -> float:
    counts = [(message.count(f"<{tag}>"), message.count(f"</{tag}>")) for tag in ("reasoning", "tool", "answer")]
    scores = [1 - abs(count - 1) for pair in counts if any(pair) for count in pair]
    return sum(scores) / len(scores) if scores else 0.0


def _mean(values: Iterable[float]) -> float:
    each = list(values)
    return sum(each) / len(each)
