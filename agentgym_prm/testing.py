"""Contract checks and scripted stand-ins, for this package's tests and for users' own environments and agents.

``check_text_env``, ``check_agent``, ``check_scorer`` and ``check_reward_term`` assert what every one of them here
promises; ``ScriptedEnv`` is a text environment whose every answer is written down beforehand.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from agentgym_prm.agents.core import Agent
from agentgym_prm.envs.core import Outcome, TextEnv
from agentgym_prm.errors import UnknownNameError
from agentgym_prm.rewards.core import RewardTerm, StepScorer, Transition
from agentgym_prm.types import Action, History, InfoKey

HOSTILE_COMMANDS: Final = (
    "",
    " ",
    "\n\t\r",
    "\x00\x1b[2J",
    "日本語のコマンド",
    "émoji 🙂 \ud800",
    "look\nlook",
    "'; DROP TABLE games; --",
    "{o.name} [x] #intro#",
    "a" * 1_000_000,
)
"""Commands that no environment understands; each has to be answered like any other mistake."""

_REQUIRED_INFO: Final = {
    InfoKey.TASK: str,
    InfoKey.TASK_ID: str,
    InfoKey.TASK_TYPE: str,
    InfoKey.ADMISSIBLE_COMMANDS: tuple,
    InfoKey.WON: bool,
    InfoKey.SCORE: float,
    InfoKey.GOAL_CONDITION_SUCCESS_RATE: float,
    InfoKey.VALID_ACTION: bool,
    InfoKey.STEPS: int,
}
_ABOUT_THE_COMMAND: Final = (InfoKey.VALID_ACTION, InfoKey.ERROR, InfoKey.STEPS, InfoKey.MALFORMED_CALLS)


class ScriptedEnv(TextEnv):
    """A text environment with one right command a step.

    Args:
        tasks: For each task the commands that win it, in order.

    Observation ``k`` reads ``"task T, step k"``; a wrong command changes nothing. All of a task's commands are
    admissible at each step.
    """

    def __init__(
        self, tasks: Sequence[Sequence[str]] = (("left", "right"), ("up",)), *, render_mode: str | None = None
    ):
        super().__init__(render_mode=render_mode)
        self._tasks = [tuple(commands) for commands in tasks]
        self._task, self._position, self._valid = 0, 0, True

    @property
    def num_tasks(self) -> int:
        return len(self._tasks)

    def task_index(self, task_id: str) -> int:
        ids = [f"scripted-{index}" for index in range(self.num_tasks)]
        if task_id not in ids:
            raise UnknownNameError.of("task id", task_id, ids)
        return ids.index(task_id)

    def _begin(self, task_index: int) -> Outcome:
        self._task, self._position, self._valid = task_index, 0, True
        return self._outcome()

    def _advance(self, command: str) -> Outcome:
        self._valid = command == self._tasks[self._task][self._position]
        self._position += self._valid
        return self._outcome()

    def _outcome(self) -> Outcome:
        commands = self._tasks[self._task]
        won = self._position == len(commands)
        info = {
            InfoKey.TASK: f"give {len(commands)} commands",
            InfoKey.TASK_ID: f"scripted-{self._task}",
            InfoKey.TASK_TYPE: "scripted",
            InfoKey.ADMISSIBLE_COMMANDS: tuple(sorted(set(commands))),
            InfoKey.WON: won,
            InfoKey.SCORE: float(won),
            InfoKey.GOAL_CONDITION_SUCCESS_RATE: self._position / len(commands),
            InfoKey.VALID_ACTION: self._valid,
        }
        return Outcome(f"task {self._task}, step {self._position}", float(won), won, info)


class ScriptedAgent(Agent):
    """Gives the commands that a function of the history returns."""

    def __init__(self, choose: Callable[[History], str], name: str = "scripted") -> None:
        self.name = name
        self._choose = choose

    def sample(self, histories: Sequence[History], n: int = 1) -> list[list[Action]]:
        return [[Action(self._choose(history)) for _ in range(n)] for history in histories]


def check_text_env(env: gym.Env[str, str], seeds: Sequence[int] = (0, 1)) -> None:
    """Assert the contract of ``TextEnv``: ``info`` keys, seeding, hostile commands, misuse errors.

    Args:
        env: An environment made by ``gym.make`` or by hand; it is reset and stepped, not closed.
        seeds: Episodes to try.

    Raises:
        AssertionError: The contract is broken; the message says where.
    """
    for seed in seeds:
        first = env.reset(seed=seed)
        _require(first == env.reset(seed=seed), f"reset(seed={seed}) gives two different episodes")
        observation, info = first
        _require(observation in env.observation_space, f"the observation of seed {seed} is outside the space")
        _check_info(info, steps=0)
        for steps, command in enumerate(HOSTILE_COMMANDS, 1):
            before = info
            observation, reward, terminated, _, info = env.step(command)
            _require(isinstance(observation, str), f"{command!r:.40} is answered with {type(observation).__name__}")
            _require(not info[InfoKey.VALID_ACTION], f"{command!r:.40} counts as a valid action")
            _require(not terminated, f"{command!r:.40} ends the episode")
            _require(reward == 0, f"{command!r:.40} earns {reward}")
            _check_info(info, steps=steps)
            changed = [key for key in before if key not in _ABOUT_THE_COMMAND and before[key] != info[key]]
            _require(not changed, f"{command!r:.40} changes {changed}")
        try:
            env.step(b"look")  # type: ignore[arg-type]
        except TypeError:
            pass
        else:
            _require(False, "step(bytes) raises no TypeError")


def _check_info(info: Mapping[str, object], steps: int) -> None:
    for key, kind in _REQUIRED_INFO.items():
        _require(key in info, f"info lacks {key!r}")
        _require(type(info[key]) is kind, f"info[{key!r}] is {type(info[key]).__name__}, not {kind.__name__}")
    _require(info[InfoKey.STEPS] == steps, f"info['steps'] is {info[InfoKey.STEPS]} after {steps} steps")
    share = info[InfoKey.GOAL_CONDITION_SUCCESS_RATE]
    in_range = isinstance(share, float) and 0 <= share <= 1
    _require(in_range, f"the goal-condition success rate is {share}")
    _require((share == 1) == info[InfoKey.WON], "the goal-condition success rate is 1 exactly when won")


def check_agent(agent: Agent, histories: Sequence[History]) -> None:
    """Assert the contract of ``Agent``: shapes of ``sample`` and ``act``, and that batching changes nothing.

    Args:
        agent: What is checked; called several times on the same histories.
        histories: At least two that it can act in.

    Raises:
        AssertionError: The contract is broken; the message says where.
    """
    _require(len(histories) >= 2, "check_agent needs at least two histories")
    sampled = agent.sample(histories, n=3)
    _require([len(candidates) for candidates in sampled] == [3] * len(histories), "sample(n=3) has another shape")
    actions = agent.act(histories)
    _require(all(isinstance(action, Action) for action in actions), "act returns something other than Actions")
    alone = [agent.act(history) for history in histories]
    _require([a.command for a in alone] == [a.command for a in actions], "acting one by one differs from the batch")
    _require(isinstance(agent.name, str), "the agent's name is no string")
    _require(agent.name != "", "the agent has no name")


def check_scorer(
    scorer: StepScorer, histories: Sequence[History], actions: Sequence[Action], *, tolerance: float = 0.0
) -> None:
    """Assert the contract of ``StepScorer``: shape, finite numbers, determinism, independence of the batch.

    Args:
        scorer: What is checked; called several times on the same pairs.
        histories: At least two that it can judge actions at.
        actions: One for each history.
        tolerance: By how much a score may depend on the batch: 0, or rounding for a network on padded batches.

    Raises:
        AssertionError: The contract is broken; the message says where.
    """

    def score(places: Sequence[int]) -> NDArray[np.float64]:
        return scorer.score([histories[place] for place in places], [actions[place] for place in places])

    _check_judge("score", score, len(histories), tolerance, repeated=0.0)
    _require(isinstance(scorer.name, str), "the scorer's name is no string")
    _require(scorer.name != "", "the scorer has no name")


def check_reward_term(term: RewardTerm, transitions: Sequence[Transition], *, tolerance: float = 0.0) -> None:
    """Assert the contract of ``RewardTerm``: shape, finite numbers, determinism, independence of the batch.

    Args:
        term: What is checked; called several times on the same turns.
        transitions: At least two finished turns, e.g. ``transitions_of(trajectory)``; the last turn of a terminated and
            of a truncated episode should be among them.
        tolerance: By how much a reward may depend on the batch and on earlier calls (``Shaping`` remembers potentials):
            0, or rounding for a network on padded batches.

    Raises:
        AssertionError: The contract is broken; the message says where.
    """

    def rewards(places: Sequence[int]) -> NDArray[np.float64]:
        return term.rewards([transitions[place] for place in places])

    _check_judge("rewards", rewards, len(transitions), tolerance, repeated=tolerance)
    _require(isinstance(term.name, str), "the term's name is no string")
    _require(term.name != "", "the term has no name")


def _check_judge(
    what: str, ask: Callable[[Sequence[int]], NDArray[np.float64]], count: int, tolerance: float, *, repeated: float
) -> None:
    """``ask`` judges the items at the given places, again to within ``repeated``."""
    _require(count >= 2, f"checking {what} needs at least two items")
    numbers_N = ask(range(count))
    _require(bool(isinstance(numbers_N, np.ndarray)), f"{what} returns {type(numbers_N).__name__}, not an array")
    _require(bool(numbers_N.shape == (count,)), f"{what} returns shape {numbers_N.shape} for {count} items")
    _require(bool(np.issubdtype(numbers_N.dtype, np.floating)), f"{what} returns {numbers_N.dtype}, not floats")
    _require(bool(np.isfinite(numbers_N).all()), f"{what} returns a number that is not finite")
    again_N = ask(range(count))
    _require(bool(np.abs(again_N - numbers_N).max() <= repeated), f"{what} returns other numbers the second time")
    alone_N = np.array([ask([place])[0] for place in range(count)])
    _require(bool(np.abs(alone_N - numbers_N).max() <= tolerance), f"{what} one by one differs from the batch")
    turned_N = ask(range(count)[::-1])[::-1]
    _require(bool(np.abs(turned_N - numbers_N).max() <= tolerance), f"{what} depends on the order of the batch")
    _require(bool(ask([]).shape == (0,)), f"{what} of nothing gives something")


def _require(holds: bool, otherwise: str) -> None:
    """Not ``assert``, which ``python -O`` leaves out."""
    if not holds:
        raise AssertionError(otherwise)
