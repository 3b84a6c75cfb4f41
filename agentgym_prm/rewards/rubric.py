"""Rubrics: weighted, named functions of a turn, summed into one reward term.

A function judges one finished turn (``Transition``). What can only be said of a whole episode is said of its last turn,
which holds all of it: ``per_episode`` makes such a function of one of a ``Trajectory``. A reward for an earlier turn
that depends on later ones cannot be paid while the episode runs, and is a matter of credit assignment.

``RUBRICS`` names those that are ready. The question-answering ones are worth what arXiv:2505.11821 pays; messages hold
``<reasoning>…</reasoning>`` and then ``<tool>…</tool>`` or ``<answer>…</answer>``, observations ``<result>…</result>``,
and ``info["answers"]`` every accepted form of the answer. Departures from the authors' code: an answer occurs in a text
if its words do, after the normalisation that exact match has (there any substring counts, "us" in "because"); the two
rewards of the form are defined here, as the paper names them without a formula.
"""

import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.errors import UnknownNameError
from agentgym_prm.rewards.core import Transition
from agentgym_prm.types import Action, InfoKey, Trajectory

_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION: Final = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))
_WELL_FORMED: Final = re.compile(
    r"\s*<reasoning>(?:(?!</?reasoning>).)*</reasoning>\s*<(tool|answer)>(?:(?!</?(?:tool|answer)>).)*</\1>\s*",
    re.DOTALL,
)

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
    """0.2 if this turn called a tool and it ran without error, which ``info["valid_action"]`` says."""
    called = _last_block("tool", _message(turn.step.action)) is not None
    return 0.2 if called and _info(turn, InfoKey.VALID_ACTION) else 0.0


def answer_in_search_results(turn: Transition) -> float:
    """0.5 if any form of the answer occurs in the result that this turn's tool call brought.

    Each turn is judged by itself: where several searches are allowed, all that bring the answer are paid.
    """
    result = _last_block("result", turn.after.observation)
    called = _last_block("tool", _message(turn.step.action)) is not None
    return 0.5 if called and result is not None and _occurs(_answers(turn), result) else 0.0


def answer_present(turn: Transition) -> float:
    """0.5 if the episode ends with an answer in which any accepted form occurs."""
    answer = _final_answer(turn)
    return 0.5 if answer is not None and _occurs(_answers(turn), answer) else 0.0


def exact_match(turn: Transition) -> float:
    """1.0 if the episode ends with an answer that equals any accepted form after ``normalised``."""
    answer = _final_answer(turn)
    return float(answer is not None and normalised(answer) in {normalised(form) for form in _answers(turn)})


def _share_well_formed(episode: Trajectory) -> float:
    return 0.2 * _mean(bool(_WELL_FORMED.fullmatch(_message(step.action))) for step in episode.steps)


def _tag_usage(episode: Trajectory) -> float:
    return 0.2 * _mean(_tags_used(_message(step.action)) for step in episode.steps)


well_formed_messages: Final = per_episode(_share_well_formed)
"""0.2 times the share of the episode's messages that are reasoning, then a tool call or an answer, and nothing else."""
tag_usage: Final = per_episode(_tag_usage)
"""0.2 times the mean, over messages, of the share of the two expected blocks (reasoning; tool or answer) that occur
exactly once."""


def normalised(text: str) -> str:
    """Lower case, punctuation and articles taken out, white space fixed: as the official evaluation of TriviaQA does.

    >>> normalised("The  Beatles: 'Help!'")
    'beatles help'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


RUBRICS: Final[Mapping[str, StepFunction]] = {
    "valid_action": valid_action,
    "step_price": step_price,
    "repeated_command": repeated_command,
    "tool_execution": tool_execution,
    "answer_in_search_results": answer_in_search_results,
    "answer_present": answer_present,
    "exact_match": exact_match,
    "well_formed_messages": well_formed_messages,
    "tag_usage": tag_usage,
}
"""What ``Rubric.of`` knows by name."""


def _message(action: Action) -> str:
    """What the agent wrote; an agent without a model writes only its command."""
    return action.reply or action.command


def _last_block(tag: str, text: str) -> str | None:
    """What stands in the last ``<tag>…</tag>`` of a text."""
    blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return str(blocks[-1]) if blocks else None


def _final_answer(turn: Transition) -> str | None:
    return _last_block("answer", _message(turn.step.action)) if turn.ended else None


def _answers(turn: Transition) -> Sequence[str]:
    answers: Sequence[str] = _info(turn, InfoKey.ANSWERS)
    return answers


def _info(turn: Transition, key: str) -> Any:
    if key not in turn.step.info:
        raise ValueError(f"this rubric reads info[{key!r}], which task {turn.history.task_id!r} does not give")
    return turn.step.info[key]


def _occurs(answers: Sequence[str], text: str) -> bool:
    """Whether the words of any answer stand in a text, in a row."""
    words = f" {normalised(text)} "
    # An answer of articles or punctuation alone has no words, and would occur in an empty text.
    return any(f" {form} " in words for form in map(normalised, answers) if form)


def _tags_used(message: str) -> float:
    act = any(_occurs_once(tag, message) for tag in ("tool", "answer"))
    return (_occurs_once("reasoning", message) + act) / 2


def _occurs_once(tag: str, message: str) -> bool:
    return message.count(f"<{tag}>") == message.count(f"</{tag}>") == 1 and _last_block(tag, message) is not None


def _mean(values: Iterable[float]) -> float:
    each = list(values)
    return sum(each) / len(each)
