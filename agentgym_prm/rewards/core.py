"""The shapes of everything that judges play, and how their judgements become part of a step's reward.

A *scorer* judges an action before it is taken: Best-of-N chooses with it. A *term* judges a finished turn, with what
the environment answered: reward wrappers pay it. Every scorer is also a term.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.draws import mix
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.rewards.identity import action_key
from agentgym_prm.types import Action, History, InfoKey, Step, Trajectory

OUTCOME: Final = "outcome"
"""Key of ``reward_terms``: the environment's own reward."""
_Item = TypeVar("_Item")


class StepScorer(Protocol):
    """Judges actions: process reward model, progress estimator, rubric, oracle or plain function.

    Deterministic, and a pair's score does not depend on the others of the batch; ``testing.check_scorer`` checks it.
    """

    @property
    def name(self) -> str:
        """What the scorer is called in ``Action.scores`` and in tables."""

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        """How good each action is after the history at the same place; shape ``(N,)``, finite, higher is better."""


class FunctionScorer:
    """Scores with a plain function of one history and one action."""

    def __init__(self, function: Callable[[History, Action], float], name: str | None = None) -> None:
        self.name = name or getattr(function, "__name__", "function")
        self._function = function

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        pairs = zip(histories, actions, strict=True)
        return np.array([self._function(history, action) for history, action in pairs], dtype=np.float64)


class RandomScorer:
    """Uniform numbers in ``[0, 1)`` that depend on the seed, the history and the command only: the control."""

    def __init__(self, seed: int = 0) -> None:
        self.name = "random"
        self._seed = seed

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        pairs = zip(histories, actions, strict=True)
        # The upper 53 bits, so that the quotient is exact.
        return np.array([(mix(self._seed, action_key(h, a.command)) >> 11) / 2**53 for h, a in pairs], dtype=np.float64)


Baseline = Literal["mean", "best"]


class AdvantageScorer:
    """A scorer's score of an action minus that of the history's admissible commands: ``Q - V``.

    This is the form of a score that can be paid at every step: a raw Q is positive at each of them, so its sum rewards
    long episodes. With the ``"mean"`` as baseline, V is that of drawing among the commands; a policy that does better
    than that is still paid for every turn. With the ``"best"`` it is that of the best command: the best action costs
    nothing, and any other its regret, so that nothing is gained by going on.

    The admissible commands are judged without a reply. So a reward model that reads replies should be one that judges
    commands alone (``PRMSettings(reads="command")``), or how a reply is worded is paid for too.

    Args:
        scorer: Judges the action and every admissible command, all after the same history object, which a process
            reward model reads once.
        baseline: ``"mean"`` or ``"best"``.

    Raises (when scoring):
        ValueError: A history has no admissible commands.

    Source: process advantages, arXiv:2410.08146 (there V is that of a prover policy).
    """

    def __init__(self, scorer: StepScorer, baseline: Baseline = "mean") -> None:
        if baseline not in get_args(Baseline):
            raise UnknownNameError.of("baseline", baseline, get_args(Baseline))
        self.name = f"{'advantage' if baseline == 'mean' else 'regret'}_{scorer.name}"
        self._scorer, self._baseline = scorer, baseline

    def score(self, histories: Sequence[History], actions: Sequence[Action]) -> NDArray[np.float64]:
        asked: list[tuple[History, Action]] = list(zip(histories, actions, strict=True))
        commands: dict[int, slice] = {}
        for history in distinct(histories):
            if not history.admissible_commands:
                raise ValueError(
                    f"{self.name!r} compares an action with the admissible commands, and task {history.task_id!r} "
                    "offers none: use the scorer itself, or an environment that lists them"
                )
            commands[id(history)] = slice(len(asked), len(asked) + len(history.admissible_commands))
            asked.extend((history, Action(command)) for command in history.admissible_commands)
        scores = self._scorer.score([history for history, _ in asked], [action for _, action in asked])
        reduce = np.mean if self._baseline == "mean" else np.max
        values = {key: reduce(scores[place]) for key, place in commands.items()}
        return scores[: len(actions)] - np.array([values[id(history)] for history in histories], dtype=np.float64)


class Transition(NamedTuple):
    """One finished turn, as reward terms see it.

    The environment's own episode: rewards of other terms are not in it, so the order of wrappers matters to none. Nor
    are the episode number and an expert's advice: a term judges what can be read off a logged trajectory as well.
    """

    history: History
    """Before the action."""
    step: Step
    """The action, the environment's own reward, whether the episode ended, and ``info`` after the action."""
    after: History
    """One turn later, also when the episode ended; after ``terminated`` there are no admissible commands."""

    @property
    def ended(self) -> bool:
        """Whether this was the episode's last turn."""
        return self.step.terminated or self.step.truncated

    @classmethod
    def of(cls, history: History, step: Step, observation: str, admissible_commands: Sequence[str]) -> "Transition":
        """The turn that ``step`` made of ``history``, given the observation and the commands that followed it."""
        after = replace(
            history,
            observation=observation,
            admissible_commands=() if step.terminated else tuple(admissible_commands),
            steps=(*history.steps, step),
        )
        return cls(history, step, after)


class RewardTerm(Protocol):
    """Judges finished turns; ``testing.check_reward_term`` checks the contract of ``StepScorer`` for it."""

    @property
    def name(self) -> str:
        """The term's key in ``info["reward_terms"]``."""

    def rewards(self, transitions: Sequence[Transition]) -> NDArray[np.float64]:
        """What each turn is paid, shape ``(N,)``, finite; it does not depend on the other turns of the batch."""


class ScorerTerm:
    """A scorer as a reward term: each turn is paid its action's score."""

    def __init__(self, scorer: StepScorer) -> None:
        self.name = scorer.name
        self._scorer = scorer

    def rewards(self, transitions: Sequence[Transition]) -> NDArray[np.float64]:
        return self._scorer.score([each.history for each in transitions], [each.step.action for each in transitions])


@dataclass(frozen=True, slots=True)
class Weighted:
    """A reward term times a coefficient, under the name that ``reward_terms`` records the product by."""

    term: RewardTerm | StepScorer
    """A scorer is paid as ``ScorerTerm``."""
    coef: float = 1.0
    """Finite."""
    name: str = ""
    """By default the term's own."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.coef):
            raise ValueError(f"coef must be finite, got {self.coef}")
        if not hasattr(self.term, "rewards") and not hasattr(self.term, "score"):
            raise TypeError(
                "a reward term has rewards(transitions) or score(histories, actions), "
                f"{type(self.term).__name__} has neither"
            )
        if not self.name:
            object.__setattr__(self, "name", self.term.name)
        # Gymnasium marks masks by an underscore.
        if not self.name or self.name == OUTCOME or self.name.startswith("_"):
            raise ValueError(f"a reward term is named, not {OUTCOME!r} and without '_' in front; got {self.name!r}")

    def rewards(self, transitions: Sequence[Transition]) -> NDArray[np.float64]:
        """``coef`` times the term's rewards, shape ``(N,)``.

        Raises:
            ValueError: The term returned another shape, or a number that is not finite.
        """
        term = self.term if hasattr(self.term, "rewards") else ScorerTerm(self.term)
        rewards = np.asarray(term.rewards(transitions), dtype=np.float64)
        if rewards.shape != (len(transitions),):
            raise ValueError(f"reward term {self.name!r} returned shape {rewards.shape} for {len(transitions)} turns")
        if not np.isfinite(rewards).all():
            command = transitions[int(np.flatnonzero(~np.isfinite(rewards))[0])].step.action.command
            raise ValueError(f"reward term {self.name!r} is not finite for the command {command!r:.80}")
        return self.coef * rewards

    def __str__(self) -> str:
        return f"{self.coef:g} * {self.name}"


def with_term(terms: Mapping[str, float], name: str, value: float) -> dict[str, float]:
    """``terms`` and one more.

    Raises:
        ValueError: There is one of that name.
    """
    if name in terms:
        raise ValueError(f"two reward terms are named {name!r}: give one of them another name=")
    return {**terms, name: value}


def process_reward(terms: Mapping[str, float]) -> float:
    """Sum of all terms but the outcome, in their order."""
    # Not sum(), which rounds otherwise from Python 3.12 on.
    total = 0.0
    for name, value in terms.items():
        if name != OUTCOME:
            total += value
    return total


def total_reward(terms: Mapping[str, float]) -> float:
    """What a step with these ``reward_terms`` pays: the sum that ``Step.reward`` makes, to the last bit."""
    return terms[OUTCOME] + process_reward(terms)


def rewarded_step(step: Step, terms: Mapping[str, float]) -> Step:
    """``step`` with these ``reward_terms`` as its rewards, in place of those it had."""
    info: dict[str, Any] = {**step.info, InfoKey.REWARD_TERMS: dict(terms)}
    return replace(step, outcome_reward=terms[OUTCOME], process_reward=process_reward(terms), info=info)


def reward_parts(reward: float, info: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """The ``reward_terms`` of a step that returned ``reward`` and ``info``, and ``info`` without them.

    Outside of reward wrappers the outcome is the only part.

    Raises:
        ValueError: The parts do not add up to the reward.
    """
    info = dict(info)
    terms = info.pop(InfoKey.REWARD_TERMS, None)
    if terms is None:
        return {OUTCOME: float(reward)}, info
    if total_reward(terms) != reward:
        raise ValueError(
            f"the reward {reward} is not the sum of its terms {terms}: a wrapper outside of a step reward changed it; "
            "put that wrapper inside of all step rewards"
        )
    return dict(terms), info


def transitions_of(trajectory: Trajectory) -> list[Transition]:
    """The turns of a finished episode, as a reward wrapper would have shown them to its term."""
    if not trajectory.steps:
        return []
    history = replace(trajectory.history(0), episode=0)
    transitions = []
    for turn, step in enumerate(map(_bare, trajectory.steps)):
        if turn + 1 < len(trajectory.steps):
            following = trajectory.steps[turn + 1]
            observation, commands = following.observation, following.admissible_commands
        else:
            observation, commands = trajectory.final_observation, step.info.get(InfoKey.ADMISSIBLE_COMMANDS, ())
        transitions.append(Transition.of(history, step, observation, commands))
        history = transitions[-1].after
    return transitions


def _bare(step: Step) -> Step:
    """``step`` without what reward terms added."""
    info = {key: value for key, value in step.info.items() if key != InfoKey.REWARD_TERMS}
    return replace(step, process_reward=0.0, info=info)


def distinct(items: Sequence[_Item]) -> Iterator[_Item]:
    """Each object once, in order of first occurrence: equal ones count as several."""
    return iter({id(item): item for item in items}.values())
