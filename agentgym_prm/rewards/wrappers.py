"""Reward terms around an environment: ``reward = outcome + sum of coef * term``, with the parts in ``info``.

``VectorStepReward`` is the one for training: one call of its term a tick, for all slots. ``StepReward`` is its twin for
one environment; both pay the same to the last bit, a model's scores up to rounding. They stack, one term each, and
``repr(env)`` shows the order. They change ``reward`` and nothing else; ``info["reward_terms"]`` holds the parts,
coefficients included. ``rewarded`` does the same for trajectories that were collected without wrappers.

A wrapper sees command strings. Whoever has the whole ``Action`` (a process reward model may read the reply with its
reasons) announces it before ``step``; ``rollout`` does so for every ``VectorStepReward``. A ``StepReward`` inside a
vector environment gets no announcements and judges the command alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from agentgym_prm.envs.core import finished_step, gather_infos, opening_history, slot_infos, slot_seeds
from agentgym_prm.rewards.core import (
    OUTCOME,
    RewardTerm,
    StepScorer,
    Transition,
    Weighted,
    reward_parts,
    rewarded_step,
    total_reward,
    transitions_of,
    with_term,
)
from agentgym_prm.types import Action, History, InfoKey, Trajectory

_EPISODES_AT_ONCE: Final = 64
"""How many trajectories ``rewarded`` judges in one call of a term: their histories take more memory than they do."""


class StepReward(gym.Wrapper[str, str, str, str]):
    """Adds ``coef`` times a term to the reward of every step.

    Args:
        env: A text environment, its step cap included (``gym.make`` puts it on).
        term: A reward term or a scorer.
        coef: What its rewards are multiplied by, finite.
        name: Its key in ``info["reward_terms"]``; by default the term's own name.

    Raises:
        ValueError: A term of that name is in ``env`` already, or ``coef`` is not finite.
        TypeError: ``term`` is neither term nor scorer.
    """

    def __init__(
        self, env: gym.Env[str, str], term: RewardTerm | StepScorer, coef: float = 1.0, name: str = ""
    ) -> None:
        super().__init__(env)
        self.weighted = Weighted(term, coef, name)
        _check_name(self)
        self._history: History | None = None
        self._announced: Action | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode; arguments are the environment's."""
        self._history, self._announced = None, None
        observation, info = self.env.reset(seed=seed, options=options)
        self._history = _opening(observation, info, seed)
        return observation, info

    def announce(self, action: Action) -> None:
        """Say which action the command of the next ``step`` belongs to, here and in the reward wrappers inside."""
        for wrapper in _reward_wrappers(self):
            wrapper._announced = action

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Execute one command and pay its term.

        Raises:
            ValueError: Another action was announced, or a wrapper in between changed the reward.
            gymnasium.error.ResetNeeded: No episode is running.
        """
        judged, self._announced = self._announced or Action(action), None
        history = _running(self._history, judged, action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        turn, terms = _turn(history, judged, observation, float(reward), terminated, truncated, info)
        self._history = None if turn.ended else turn.after
        terms = with_term(terms, self.weighted.name, self.weighted.rewards([turn]).item())
        return observation, total_reward(terms), terminated, truncated, {**info, InfoKey.REWARD_TERMS: terms}

    def __str__(self) -> str:
        return f"<StepReward({self.weighted}), {self.env}>"


class VectorStepReward(VectorWrapper):
    """Adds ``coef`` times a term to the rewards of every tick.

    Args:
        envs: A vectorised text environment without autoreset.
        term: A reward term or a scorer; called once a tick with the turns of all slots that are not idle.
        coef: What its rewards are multiplied by, finite.
        name: Its key in ``info["reward_terms"]``; by default the term's own name.

    Raises:
        ValueError: ``envs`` resets by itself, a term of that name is in it already, or ``coef`` is not finite.
        TypeError: ``term`` is neither term nor scorer.
    """

    def __init__(
        self, envs: VectorEnv[Any, Any, Any], term: RewardTerm | StepScorer, coef: float = 1.0, name: str = ""
    ) -> None:
        super().__init__(envs)
        if envs.metadata.get("autoreset_mode") != AutoresetMode.DISABLED:
            raise ValueError(
                "step rewards need autoreset off, else an episode's last turn and the next one's first are mixed up: "
                f"pass autoreset_mode=AutoresetMode.DISABLED (got {envs.metadata.get('autoreset_mode')})"
            )
        self.weighted = Weighted(term, coef, name)
        _check_name(self)
        self._histories: list[History | None] = [None] * envs.num_envs
        self._announced: Mapping[int, Action] | None = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes in all slots, or in those that ``options["reset_mask"]`` marks."""
        self._announced = None
        seeds = slot_seeds(seed, self.num_envs)
        # Read beforehand: Gymnasium's environments take the mask out of the dict.
        mask = (options or {}).get("reset_mask")
        slots = list(range(self.num_envs)) if mask is None else np.flatnonzero(mask).tolist()
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        for slot, info in zip(slots, slot_infos(infos, slots), strict=True):
            self._histories[slot] = _opening(observations[slot], info, seeds[slot])
        return observations, infos

    def announce(self, actions: Mapping[int, Action]) -> None:
        """Say which actions, by slot, the commands of the next ``step`` belong to, here and in reward wrappers inside.

        Slots without one are idle: they are stepped along, but not judged until they are reset.
        """
        for wrapper in _reward_wrappers(self):
            wrapper._announced = dict(actions)

    def step(self, actions: Sequence[str]) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Execute one command in every slot and pay the term in those that are not idle.

        Raises:
            ValueError: Other actions were announced, or a wrapper in between changed a reward.
            gymnasium.error.ResetNeeded: A slot runs no episode, or was idle in an earlier step.
        """
        judged, self._announced = self._announced, None
        if judged is None:
            judged = {slot: Action(command) for slot, command in enumerate(actions)}
        running = {
            slot: _running(self._histories[slot], action, actions[slot], f"slot {slot}: ")
            for slot, action in judged.items()
        }
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        rewards = np.array(rewards, dtype=np.float64)
        taken = slot_infos(infos, range(self.num_envs))
        returned = list(zip(observations, rewards.tolist(), terminated, truncated, taken, strict=True))
        turns = [_turn(history, judged[slot], *returned[slot]) for slot, history in running.items()]
        paid = self.weighted.rewards([turn for turn, _ in turns]).tolist()
        parts: list[Mapping[str, float] | None] = [info.get(InfoKey.REWARD_TERMS) for info in taken]
        self._histories = [None] * self.num_envs
        for slot, (turn, before), value in zip(running, turns, paid, strict=True):
            terms = with_term(before, self.weighted.name, value)
            parts[slot], rewards[slot] = terms, total_reward(terms)
            self._histories[slot] = None if turn.ended else turn.after
        mask = np.array([terms is not None for terms in parts])
        infos = {**infos, InfoKey.REWARD_TERMS: gather_infos(parts), f"_{InfoKey.REWARD_TERMS}": mask}
        return observations, rewards, terminated, truncated, infos

    def __repr__(self) -> str:
        return f"<VectorStepReward({self.weighted}), {self.env}>"


def announce(envs: VectorEnv[Any, Any, Any], actions: Mapping[int, Action]) -> None:
    """Tell the vector reward wrappers around ``envs``, if there are any, which actions the next ``step`` takes.

    Slots without one are idle, see ``VectorStepReward.announce``.
    """
    for wrapper in _reward_wrappers(envs):
        wrapper._announced = dict(actions)


def rewarded(trajectories: Iterable[Trajectory], terms: Sequence[Weighted]) -> list[Trajectory]:
    """The same episodes as if they had been played inside reward wrappers, the first of ``terms`` innermost.

    Process rewards that the trajectories have are replaced. A term that reads the admissible commands of the state that
    an episode was cut off in finds them in ``info`` of its last step; trajectories written before they were kept there
    have none.

    Raises:
        ValueError: Two terms have the same name, or one returns a number that is not finite.
    """
    remaining, finished = iter(trajectories), []
    while chunk := list(islice(remaining, _EPISODES_AT_ONCE)):
        turns = [turn for trajectory in chunk for turn in transitions_of(trajectory)]
        parts: list[dict[str, float]] = [{OUTCOME: turn.step.outcome_reward} for turn in turns]
        for weighted in terms:
            paid = weighted.rewards(turns).tolist()
            parts = [with_term(each, weighted.name, value) for each, value in zip(parts, paid, strict=True)]
        steps = (rewarded_step(turn.step, each) for turn, each in zip(turns, parts, strict=True))
        finished += [replace(each, steps=tuple(islice(steps, len(each.steps)))) for each in chunk]
    return finished


def _reward_wrappers(env: Any) -> Iterator[Any]:
    """Those in a stack, outermost first."""
    while isinstance(env, gym.Wrapper | VectorWrapper):
        if isinstance(env, StepReward | VectorStepReward):
            yield env
        env = env.env


def _check_name(outermost: StepReward | VectorStepReward) -> None:
    names = {wrapper.weighted.name: 0.0 for wrapper in _reward_wrappers(outermost.env)}
    with_term(names, outermost.weighted.name, 0.0)


def _opening(observation: str, info: Mapping[str, Any], seed: int | None) -> History:
    return replace(opening_history(observation, info, seed=seed or 0), expert_action=None)


def _running(history: History | None, announced: Action, command: str, where: str = "") -> History:
    """The history of a running episode in which ``command`` may be judged as ``announced``."""
    if announced.command != command:
        raise ValueError(f"{where}announced was {announced.command!r:.80}, but step() got {command!r:.80}")
    if history is None:
        raise gym.error.ResetNeeded(f"{where}no episode is running that the reward wrapper saw the start of: reset it")
    return history


def _turn(
    history: History,
    action: Action,
    observation: str,
    reward: float,
    terminated: bool,
    truncated: bool,
    info: Mapping[str, Any],
) -> tuple[Transition, dict[str, float]]:
    """The turn that ended with what ``step`` returned, and the parts of its reward so far."""
    terms, bare = reward_parts(reward, info)
    step = finished_step(history, action, reward=terms[OUTCOME], terminated=terminated, truncated=truncated, info=bare)
    return Transition.of(history, step, observation, info.get(InfoKey.ADMISSIBLE_COMMANDS, ())), terms
