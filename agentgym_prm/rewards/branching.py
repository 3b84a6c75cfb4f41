"""Q estimates for *any* action at a state: clone the engine, give the action, let a policy play on, many times.

Logged rollouts only tell the value of what the policy did. With a native engine every admissible command of a state can
be tried, which is what a process reward model needs in order to tell actions apart (and what it is judged against).

All continuations of all states run side by side, so an agent sees large batches. Each has an episode number of its own,
drawn from the seed, the history, the command and the continuation's number: a sampling agent that draws from the
episode plays the same continuations again, whatever else is estimated in the same call and however it is batched.

The return of a continuation is its outcome, in [0, 1], discounted by the step at which the task ended. Not in here:
common random numbers between actions, and any value function at the cut-off; what the cap ends has outcome 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agentgym_prm.agents.core import Agent
from agentgym_prm.draws import mix
from agentgym_prm.envs.core import CloneableEngine
from agentgym_prm.rewards.identity import action_key
from agentgym_prm.rewards.targets import GAMMA, QTarget, check_gamma
from agentgym_prm.types import Action, History, InfoKey, Step

BATCH_SIZE: Final = 1024


@dataclass(frozen=True, slots=True)
class Branch:
    """A state to branch from: what the agent knows, the engine there (never changed), and the commands to try."""

    history: History
    engine: CloneableEngine
    commands: tuple[str, ...]


@dataclass(frozen=True, eq=False, slots=True)
class BranchEstimates:
    """Estimates for the commands of one branch, in their order.

    Attributes:
        commands: What was tried.
        q_N: Mean return of the continuations.
        standard_error_N: Standard error of the mean; ``nan`` with one continuation. Zero says that all continuations
            agreed, which for few of them is no proof of certainty.
        wins_N: Continuations that reached the goal.
        count: Continuations of each command.
    """

    commands: tuple[str, ...]
    q_N: NDArray[np.float64]
    standard_error_N: NDArray[np.float64]
    wins_N: NDArray[np.int64]
    count: int


def branch_q(
    branches: Sequence[Branch],
    agent: Agent,
    *,
    n: int,
    max_episode_steps: int,
    gamma: float = GAMMA,
    signed: bool = False,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
) -> list[BranchEstimates]:
    """Estimate Q of commands under a policy by playing each to the end ``n`` times.

    Args:
        branches: States and the commands to try there. No game may have ended already.
        agent: Plays on after the command. It has to act randomly by episode (or be deterministic).
        n: Continuations of each command, at least 1.
        max_episode_steps: Cap on the whole episode, steps before the branch included.
        gamma: Discount per step, counted from the command tried; in ``[0, 1]``.
        signed: Give the values of outcomes mapped to [-1, 1], on the scale [0, 1] that ``q_targets`` has.
        seed: Another one draws other continuations.
        batch_size: Continuations that run side by side; changes the speed, not the result.

    Raises:
        ValueError: A game has ended or is at the cap already, or an argument is out of range.
    """
    check_gamma(gamma)
    if n < 1 or batch_size < 1:
        raise ValueError(f"n and batch_size must be at least 1, got {n} and {batch_size}")
    for branch in branches:
        if branch.engine.done:
            raise ValueError(f"the game {branch.history.task_id!r} has ended already: there is nothing to estimate")
        if len(branch.history.steps) >= max_episode_steps:
            raise ValueError(f"{len(branch.history.steps)} steps leave none of max_episode_steps={max_episode_steps}")
    lengths = [np.zeros((len(branch.commands), n), dtype=np.int64) for branch in branches]
    outcomes = [np.zeros((len(branch.commands), n)) for branch in branches]
    wins = [np.zeros((len(branch.commands), n), dtype=np.bool_) for branch in branches]
    waiting = _continuations(branches, n, seed)
    running: list[_Continuation] = []
    while True:
        running += islice(waiting, batch_size - len(running))
        if not running:
            break
        choosing = [continuation for continuation in running if continuation.first is None]
        chosen = iter(agent.act([continuation.history for continuation in choosing]) if choosing else ())
        unfinished = []
        for continuation in running:
            continuation.advance(continuation.first or next(chosen))
            steps = len(continuation.history.steps)
            engine = continuation.engine
            if engine.done or steps >= max_episode_steps:
                number, command, repeat = continuation.place
                outcomes[number][command, repeat] = engine.outcome if engine.done else 0.0
                wins[number][command, repeat] = engine.won
                lengths[number][command, repeat] = steps - len(branches[number].history.steps)
            else:
                unfinished.append(continuation)
        running = unfinished
    return [
        _estimates(branch.commands, outcome_N_R, won_N_R, length_N_R, gamma, signed=signed)
        for branch, outcome_N_R, won_N_R, length_N_R in zip(branches, outcomes, wins, lengths, strict=True)
    ]


def branch_targets(branches: Sequence[Branch], agent: Agent, *, signed: bool = True, **settings: Any) -> list[QTarget]:
    """Branching estimates as Q targets with ``visits = n``, branch by branch; by default on the scale of ``q_targets``.

    Arguments and errors are those of ``branch_q``.
    """
    return [
        QTarget(branch.history, Action(command), float(q), estimate.count)
        for branch, estimate in zip(branches, branch_q(branches, agent, signed=signed, **settings), strict=True)
        for command, q in zip(estimate.commands, estimate.q_N, strict=True)
    ]


@dataclass(slots=True)
class _Continuation:
    place: tuple[int, int, int]
    history: History
    engine: CloneableEngine
    first: Action | None

    def advance(self, action: Action) -> None:
        """Give one command and let the history grow by it."""
        before, self.first = self.history, None
        observation = self.engine.step(action.command)
        done = self.engine.done
        outcome = self.engine.outcome if done else 0.0
        info = {InfoKey.WON: self.engine.won, InfoKey.VALID_ACTION: self.engine.valid}
        step = Step(before.observation, before.admissible_commands, action, outcome, terminated=done, info=info)
        self.history = before.after(step, observation, {InfoKey.ADMISSIBLE_COMMANDS: self.engine.admissible_commands()})


def _continuations(branches: Sequence[Branch], n: int, seed: int) -> Iterator[_Continuation]:
    for number, branch in enumerate(branches):
        for index, command in enumerate(branch.commands):
            key = action_key(branch.history, command)
            for repeat in range(n):
                # Without the sign bit, so that it fits wherever an episode number does.
                history = replace(branch.history, episode=mix(seed, key, repeat) >> 1)
                yield _Continuation((number, index, repeat), history, branch.engine.clone(), Action(command))


def _estimates(
    commands: tuple[str, ...],
    outcome_N_R: NDArray[np.float64],
    won_N_R: NDArray[np.bool_],
    length_N_R: NDArray[np.int64],
    gamma: float,
    *,
    signed: bool,
) -> BranchEstimates:
    discount_N_R = gamma ** (length_N_R - 1.0)
    # Signed, an outcome is 2 * outcome - 1, and its discounted value is mapped back to [0, 1].
    return_N_R = (1 + (2 * outcome_N_R - 1) * discount_N_R) / 2 if signed else outcome_N_R * discount_N_R
    count = won_N_R.shape[1]
    spread_N = return_N_R.std(axis=1, ddof=1) if count > 1 else np.full(len(commands), np.nan)
    return BranchEstimates(commands, return_N_R.mean(axis=1), spread_N / count**0.5, won_N_R.sum(axis=1), count)
