"""What every text environment shares: the text space, the environment base class, and batched stepping in one process.

``TextEnv`` is a ``gym.Env`` whose observations and actions are strings. A subclass says how many tasks it has, how one
begins, and what a command does; seeding, task choice, ``info`` and misuse errors live here.

``TextVectorEnv`` steps many of them without processes: for engines that take microseconds, pipes would be the cost. It
departs from Gymnasium's vector environments in one point only: it does not reset by itself. Finished slots are reset by
the caller with ``options={"reset_mask": mask}`` (``AutoresetMode.DISABLED``), so no generated action is ever ignored.

``opening_history`` and ``finished_step`` turn what an environment returns into the values that agents, reward terms and
trajectory files share: rollouts and reward wrappers build theirs with them.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from agentgym_prm.errors import UnknownNameError
from agentgym_prm.types import Action, History, InfoKey, Step

MAX_TEXT_LENGTH: Final = 2**24
_IN_HISTORY: Final = {InfoKey.TASK, InfoKey.TASK_ID, InfoKey.TASK_TYPE, InfoKey.ADMISSIBLE_COMMANDS, InfoKey.STEPS}
"""Keys of ``info`` that a trajectory keeps elsewhere, so ``Step.info`` leaves them out."""


class TextSpace(gym.Space[str]):
    """All Unicode strings of at most ``max_length`` characters.

    Unlike ``gymnasium.spaces.Text`` it has no character set: a simulator or a model may write in any script.
    ``candidates`` are strings that make sense now; ``sample`` draws one of them while there are any.
    """

    def __init__(self, max_length: int = MAX_TEXT_LENGTH, seed: int | np.random.Generator | None = None) -> None:
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}")
        super().__init__(dtype=None, seed=seed)
        self.max_length = max_length
        self.candidates: tuple[str, ...] = ()

    @property
    def is_np_flattenable(self) -> bool:
        """Text has no natural vector form."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """One of ``candidates``, else a short lower-case word. Masks have no meaning here and are refused."""
        if mask is not None or probability is not None:
            raise ValueError("TextSpace.sample takes no mask or probability: set candidates instead")
        if self.candidates:
            return self.candidates[int(self.np_random.integers(len(self.candidates)))]
        letters = self.np_random.integers(ord("a"), ord("z") + 1, size=min(8, self.max_length))
        return "".join(map(chr, letters))

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string that is not too long."""
        return isinstance(x, str) and len(x) <= self.max_length

    def __repr__(self) -> str:
        return f"TextSpace(max_length={self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextSpace) and other.max_length == self.max_length

    def __hash__(self) -> int:
        return hash((TextSpace, self.max_length))


@dataclass(slots=True)
class Outcome:
    """What a command led to, as a subclass of ``TextEnv`` reports it; ``info`` describes the new state in full."""

    observation: str
    reward: float = 0.0
    terminated: bool = False
    info: dict[str, Any] = field(default_factory=dict)


class CloneableEngine(Protocol):
    """A game in progress that can be copied at any point: what planners, tree search and branching targets need."""

    valid: bool
    """Whether the last command was executed."""

    @property
    def won(self) -> bool:
        """Whether the goal holds."""

    @property
    def done(self) -> bool:
        """Whether the task ended, won or not."""

    @property
    def outcome(self) -> float:
        """The environment's own reward so far, in [0, 1]."""

    def step(self, command: str) -> str:
        """Execute ``command`` and return the feedback."""

    def clone(self) -> Self:
        """An independent copy that goes on from the present state."""

    def admissible_commands(self) -> tuple[str, ...]:
        """Every command that would be executed now, sorted."""


class TextEnv(gym.Env[str, str]):
    """Base of all text environments.

    The seed alone picks the task, ``task_index = seed % num_tasks``, so that seeds ``0 … num_tasks - 1`` play every
    task once and the same seed is the same episode everywhere; ``reset(options={"task": …})`` names a task instead, by
    index or id. A ``reset`` without a seed draws the next one from the generator that the last seed started.

    The reward is the benchmark's outcome only. ``terminated`` says that the task ended; the step cap belongs to the
    registered id (Gymnasium's ``TimeLimit``) and shows as ``truncated``.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012  Gymnasium declares it without ClassVar
    action_space: TextSpace

    def __init__(self, *, render_mode: str | None = None) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UnknownNameError.of("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self.observation_space = TextSpace()
        self.action_space = TextSpace()
        self.steps = 0
        self._phase = "before the first reset()"
        self._observation = ""

    @property
    @abstractmethod
    def num_tasks(self) -> int:
        """How many tasks the environment has."""

    @abstractmethod
    def task_index(self, task_id: str) -> int:
        """The index of the task with this id; ``UnknownNameError`` if there is none."""

    @abstractmethod
    def _begin(self, task_index: int) -> Outcome:
        """Start a task. ``self.np_random`` is seeded for this episode."""

    @abstractmethod
    def _advance(self, command: str) -> Outcome:
        """Execute a command of the running task."""

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Which episode, at least 0; ``None`` draws the next from the generator.
            options: ``{"task": index or id}`` plays that task, whatever the seed.

        Returns:
            The opening text and ``info`` (keys in ``agentgym_prm.types.InfoKey``).
        """
        self._phase = "after a reset() that failed"
        super().reset(seed=seed)
        index = self._chosen_task(options)
        if index is None:
            index = int(self.np_random.integers(2**31) if seed is None else seed) % self.num_tasks
        outcome = self._begin(index)
        self.steps = 0
        self._phase = ""
        return self._deliver(outcome)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Execute one command.

        Any string is accepted: what the task cannot execute gets the environment's own reply and
        ``info["valid_action"] = False``.

        Raises:
            gymnasium.error.ResetNeeded: Before the first ``reset``, or after the task ended.
            TypeError: ``action`` is not a string.
        """
        if self._phase:
            raise gym.error.ResetNeeded(f"step() was called {self._phase}: call reset() to start an episode")
        if not isinstance(action, str):
            raise TypeError(f"an action must be a string, e.g. 'look', got {type(action).__name__}: {action!r:.80}")
        outcome = self._advance(action)
        self.steps += 1
        if outcome.terminated:
            self._phase = "after the episode had ended"
        observation, info = self._deliver(outcome)
        return observation, outcome.reward, outcome.terminated, False, info

    def render(self) -> str | None:
        """The last observation, if the environment was made with ``render_mode="ansi"``."""
        return self._observation if self.render_mode == "ansi" else None

    def _deliver(self, outcome: Outcome) -> tuple[str, dict[str, Any]]:
        outcome.info[InfoKey.STEPS] = self.steps
        self.action_space.candidates = outcome.info.get(InfoKey.ADMISSIBLE_COMMANDS, ())
        self._observation = outcome.observation
        return outcome.observation, outcome.info

    def _chosen_task(self, options: Mapping[str, Any] | None) -> int | None:
        if not options:
            return None
        if not isinstance(options, Mapping):
            raise TypeError(
                f"options must be a mapping such as {{'task': 0}}, got {type(options).__name__}: {options!r}"
            )
        for name in options:
            if name != "task":
                raise UnknownNameError.of("reset option", name, ["task"])
        task = options["task"]
        if isinstance(task, str):
            return self.task_index(task)
        if isinstance(task, bool) or not isinstance(task, int | np.integer):
            raise TypeError(f"options['task'] must be a task index or a task id, got {type(task).__name__}: {task!r}")
        if not 0 <= task < self.num_tasks:
            raise IndexError(f"options['task'] must be in [0, {self.num_tasks}), got {task}")
        return int(task)


class TextVectorEnv(gym.vector.VectorEnv[tuple[str, ...], Sequence[str], NDArray[Any]]):
    """``num_envs`` text environments stepped in this process, without Gymnasium's per-environment wrappers.

    Observations are tuples of strings, rewards and flags arrays of shape ``(num_envs,)``, ``infos`` a dict of arrays of
    that length with Gymnasium's ``_key`` masks. Every finished slot has to be reset before the next ``step``.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": ["ansi"]}  # noqa: RUF012

    def __init__(
        self, env_fn: Callable[[], TextEnv], num_envs: int = 1, *, max_episode_steps: int | None = None
    ) -> None:
        """
        Args:
            env_fn: Makes one environment.
            num_envs: How many, at least 1.
            max_episode_steps: Cap in steps, after which a slot is truncated; ``None`` or, as in Gymnasium, -1 for none.
        """
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        if max_episode_steps is not None and max_episode_steps < 1 and max_episode_steps != -1:
            raise ValueError(f"max_episode_steps must be at least 1, or -1 for no cap, got {max_episode_steps}")
        self.num_envs = num_envs
        self.max_episode_steps = None if max_episode_steps == -1 else max_episode_steps
        self.envs = [env_fn() for _ in range(num_envs)]
        self.render_mode = self.envs[0].render_mode
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        # Not batch_space, which would copy: each slot's own space knows what is admissible there.
        self.action_space = gym.spaces.Tuple([env.action_space for env in self.envs])
        self._observations = [""] * num_envs
        self._finished = np.ones(num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Start new episodes in all slots, or in those that ``options["reset_mask"]`` marks.

        Args:
            seed: One seed for each slot, or an ``int`` for ``seed, seed + 1, …``; ``None`` draws them.
            options: Shared by all slots, except ``"reset_mask"``: a bool array of shape ``(num_envs,)``.
        """
        seeds = slot_seeds(seed, self.num_envs)
        options = dict(options or {})
        mask = self._checked_mask(options.pop("reset_mask", None))
        infos: list[dict[str, Any] | None] = [None] * self.num_envs
        for slot in np.flatnonzero(mask):
            self._observations[slot], infos[slot] = self.envs[slot].reset(seed=seeds[slot], options=options)
        self._finished[mask] = False
        return tuple(self._observations), gather_infos(infos)

    def step(
        self, actions: Sequence[str]
    ) -> tuple[tuple[str, ...], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Execute one command in every slot.

        Raises:
            gymnasium.error.ResetNeeded: A slot has finished and was not reset.
        """
        if self._finished.any():
            slots = np.flatnonzero(self._finished).tolist()
            raise gym.error.ResetNeeded(
                f"slots {slots} are not running: reset them first with reset(options={{'reset_mask': mask}})"
            )
        if isinstance(actions, str) or len(actions) != self.num_envs:
            got = repr(actions)[:80] if isinstance(actions, str) else len(actions)
            raise ValueError(f"step() needs one action for each of {self.num_envs} slots, got {got}")
        for slot, action in enumerate(actions):
            if not isinstance(action, str):
                raise TypeError(f"slot {slot}: an action must be a string, got {type(action).__name__}: {action!r:.80}")
        rewards = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, dtype=np.bool_)
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        infos: list[dict[str, Any] | None] = [None] * self.num_envs
        for slot, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            observation, rewards[slot], terminated[slot], _, info = env.step(action)
            self._observations[slot], infos[slot] = observation, info
            if self.max_episode_steps is not None and env.steps >= self.max_episode_steps:
                truncated[slot] = True
        self._finished = terminated | truncated
        return tuple(self._observations), rewards, terminated, truncated, gather_infos(infos)

    def render(self) -> tuple[str | None, ...] | None:  # type: ignore[override]
        """The last observation of each slot, if made with ``render_mode="ansi"``."""
        return tuple(env.render() for env in self.envs) if self.render_mode == "ansi" else None

    def close_extras(self, **kwargs: Any) -> None:
        """Close every slot."""
        for env in self.envs:
            env.close()

    def _checked_mask(self, mask: Any) -> NDArray[np.bool_]:
        if mask is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise TypeError(f"options['reset_mask'] must be a bool array of shape ({self.num_envs},), got {mask!r:.80}")
        if not mask.any():
            raise ValueError("options['reset_mask'] must mark at least one slot")
        return mask


def slot_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """The seed of each slot: ``seed, seed + 1, …`` for a number, the given ones for a sequence, else none."""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int | np.integer):
        return [int(seed) + slot for slot in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(f"seed must hold one seed for each of {num_envs} slots, got {len(seed)}")
    return [None if one is None else int(one) for one in seed]


def gather_infos(infos: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """One ``info`` for the whole batch, in Gymnasium's form: an array for each key and a ``_key`` mask beside it."""
    examples: dict[str, Any] = {}
    alike = True
    for info in infos:
        if info is None or info.keys() != examples.keys():
            alike = alike and info is not None and not examples
            examples = {**(info or {}), **examples}
    gathered: dict[str, Any] = {}
    for key, example in examples.items():
        dtype = type(example) if type(example) in (bool, int, float) else object
        if alike:
            values = [info[key] for info in infos if info is not None]
            present = np.ones(len(infos), dtype=np.bool_)
        else:
            missing = None if dtype is object else 0
            values = [info[key] if info is not None and key in info else missing for info in infos]
            present = np.array([info is not None and key in info for info in infos])
        # fromiter, because assigning a list of equally long tuples would make a two-dimensional array.
        gathered[key] = np.fromiter(values, dtype=dtype, count=len(infos))
        gathered[f"_{key}"] = present
    return gathered


def slot_infos(infos: Mapping[str, Any], slots: Sequence[int]) -> list[dict[str, Any]]:
    """The ``info`` of each of ``slots``, taken out of a vectorised environment's ``infos``, as plain JSON-like values.

    The inverse of ``gather_infos``. A key without a ``_key`` mask beside it, as some wrappers leave it, counts as
    present in every slot.
    """
    taken: list[dict[str, Any]] = [{} for _ in slots]
    for key, values in infos.items():
        if key.startswith("_"):
            continue
        mask = infos.get(f"_{key}")
        if isinstance(values, Mapping):
            column: Sequence[Any] = slot_infos(values, slots)
        elif isinstance(values, np.ndarray) and values.dtype != object:
            plain = values.tolist()  # at once, which is several times faster
            column = [plain[slot] for slot in slots]
        else:
            column = [_plain(values[slot]) for slot in slots]
        for info, slot, value in zip(taken, slots, column, strict=True):
            if mask is None or mask[slot]:
                info[key] = value
    return taken


def opening_history(observation: str, info: Mapping[str, Any], *, seed: int = 0, episode: int = 0) -> History:
    """The history that an episode begins with, given what ``reset`` returned."""
    return History(
        task=info.get(InfoKey.TASK, ""),
        observation=observation,
        admissible_commands=tuple(info.get(InfoKey.ADMISSIBLE_COMMANDS, ())),
        task_id=info.get(InfoKey.TASK_ID, ""),
        task_type=info.get(InfoKey.TASK_TYPE, ""),
        seed=seed,
        episode=episode,
        expert_action=info.get(InfoKey.EXPERT_ACTION),
    )


def finished_step(
    history: History, action: Action, *, reward: float, terminated: bool, truncated: bool, info: Mapping[str, Any]
) -> Step:
    """The turn that ``action`` made after ``history``, given what ``step`` returned.

    ``info`` is kept but for what the next step or the trajectory holds. A truncated episode has no next step, so there
    the admissible commands of the state it was cut off in stay: a value of that state may depend on them.
    """
    elsewhere = _IN_HISTORY - {InfoKey.ADMISSIBLE_COMMANDS} if truncated and not terminated else _IN_HISTORY
    return Step(
        observation=history.observation,
        admissible_commands=history.admissible_commands,
        action=action,
        outcome_reward=float(reward),
        terminated=bool(terminated),
        truncated=bool(truncated),
        info={key: _json_like(value) for key, value in info.items() if key not in elsewhere},
    )


def _json_like(value: Any) -> Any:
    """Tuples as lists, so that a trajectory read back from a file equals the one that was written."""
    return list(value) if isinstance(value, tuple) else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return value.tolist() if isinstance(value, np.ndarray) else value
