"""The act/step loop: the only place where agents meet environments.

It keeps every slot of a vectorised environment busy, writes an episode the moment it ends, and continues a file that a
killed run left behind. An agent sees one batch of histories a tick; slots with nothing left to play are stepped along
with an empty command and recorded nowhere.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from tqdm import tqdm

from agentgym_prm.agents.core import Agent
from agentgym_prm.errors import StoreError
from agentgym_prm.store import TrajectoryWriter, read_trajectories
from agentgym_prm.types import History, InfoKey, Step, Trajectory

NO_OP: Final = ""
_IN_HISTORY: Final = {InfoKey.TASK, InfoKey.TASK_ID, InfoKey.TASK_TYPE, InfoKey.ADMISSIBLE_COMMANDS, InfoKey.STEPS}
"""Keys of ``info`` that a trajectory keeps elsewhere, so ``Step.info`` leaves them out."""


def collect(
    agent: Agent,
    envs: VectorEnv[Any, Any, Any],
    seeds: Sequence[int],
    *,
    path: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> list[Trajectory]:
    """Play one episode for each seed and return them all, ordered by episode number.

    Arguments and errors are those of ``stream``; episodes that ``path`` already holds are returned with the others.
    """
    seeds = [int(seed) for seed in seeds]
    done = {t.episode: t for t in _stored(path, seeds)} if resume else {}
    done |= {t.episode: t for t in stream(agent, envs, seeds, path=path, resume=resume, progress=progress)}
    return [done[episode] for episode in sorted(done)]


def stream(
    agent: Agent,
    envs: VectorEnv[Any, Any, Any],
    seeds: Sequence[int],
    *,
    path: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Iterator[Trajectory]:
    """Play one episode for each seed and yield each as it ends: only running episodes are held in memory.

    Args:
        agent: Who plays.
        envs: A vectorised text environment without autoreset: ``gym.make_vec(id, num_envs=N)``, or Gymnasium's Sync and
            Async ones with ``autoreset_mode=AutoresetMode.DISABLED``. Not closed here.
        seeds: Episode ``i`` is played with ``seeds[i]``, an integer from 0 on; a seed may occur several times (a group
            of rollouts of one task), the agent then sees another ``History.episode``.
        path: JSONL file that each finished episode is appended to before it is yielded.
        resume: Continue ``path``: episodes in it are neither played again nor yielded.
        progress: Show a bar with rate and time left on standard error, if that is a terminal.

    Raises (when the first episode is asked for):
        FileExistsError: ``path`` has content and ``resume`` is false.
        StoreError: ``path`` holds episodes of another run, or one twice.
        ValueError: ``envs`` resets by itself.
    """
    if envs.metadata.get("autoreset_mode") != AutoresetMode.DISABLED:
        raise ValueError(
            "collecting needs autoreset off, else an action is lost per episode: pass "
            f"autoreset_mode=AutoresetMode.DISABLED (got {envs.metadata.get('autoreset_mode')})"
        )
    seeds = [int(seed) for seed in seeds]
    done = {trajectory.episode for trajectory in _stored(path, seeds)} if resume else set()
    pending = deque(episode for episode in range(len(seeds)) if episode not in done)
    if not pending:
        return
    with ExitStack() as stack:
        writer = stack.enter_context(TrajectoryWriter(path, resume=resume)) if path is not None else None
        bar = stack.enter_context(
            tqdm(
                total=len(seeds), initial=len(done), unit="episode", desc=agent.name, disable=None if progress else True
            )
        )
        for trajectory in _play(agent, envs, seeds, pending):
            if writer is not None:
                writer.write(trajectory)
            bar.update()
            yield trajectory


def _stored(path: str | Path | None, seeds: Sequence[int]) -> Iterator[Trajectory]:
    """The episodes that an earlier run left in ``path``, checked against ``seeds``."""
    if path is None or not Path(path).exists():
        return
    seen = set()
    for trajectory in read_trajectories(path):
        episode = trajectory.episode
        if episode in seen:
            raise StoreError(f"{path} holds episode {episode} twice: did two processes write to it?")
        seen.add(episode)
        if not 0 <= episode < len(seeds) or seeds[episode] != trajectory.seed:
            here = f"seed {seeds[episode]} here" if 0 <= episode < len(seeds) else f"one of {len(seeds)} here"
            raise StoreError(f"{path} belongs to another run: episode {episode} has seed {trajectory.seed}, but {here}")
        yield trajectory


def _play(
    agent: Agent, envs: VectorEnv[Any, Any, Any], seeds: Sequence[int], pending: deque[int]
) -> Iterator[Trajectory]:
    """Yield each episode as it ends, until none is pending or running."""
    running = _start(envs, np.ones(envs.num_envs, dtype=np.bool_), seeds, pending)
    while running:
        slots = sorted(running)
        actions = dict(zip(slots, agent.act([running[slot] for slot in slots]), strict=True))
        commands = [actions[slot].command if slot in actions else NO_OP for slot in range(envs.num_envs)]
        observations, rewards, terminated, truncated, infos = envs.step(commands)
        finished = terminated | truncated
        for slot, info in zip(slots, slot_infos(infos, slots), strict=True):
            history = running[slot]
            step = Step(
                observation=history.observation,
                admissible_commands=history.admissible_commands,
                action=actions[slot],
                outcome_reward=float(rewards[slot]),
                terminated=bool(terminated[slot]),
                truncated=bool(truncated[slot]),
                info={key: _json_like(value) for key, value in info.items() if key not in _IN_HISTORY},
            )
            if finished[slot]:
                del running[slot]
                yield _trajectory(history, step, observations[slot])
            else:
                running[slot] = history.after(step, observations[slot], info)
        if finished.any():
            running |= _start(envs, finished, seeds, pending)


def _trajectory(history: History, last: Step, final_observation: str) -> Trajectory:
    return Trajectory(
        task=history.task,
        seed=history.seed,
        steps=(*history.steps, last),
        final_observation=final_observation,
        task_id=history.task_id,
        task_type=history.task_type,
        episode=history.episode,
    )


def _start(
    envs: VectorEnv[Any, Any, Any], mask: NDArray[np.bool_], seeds: Sequence[int], pending: deque[int]
) -> dict[int, History]:
    """Reset the marked slots, give each the next pending episode while there are any, and return these by slot."""
    episodes: dict[int, int] = {}
    slot_seeds: Any = [seeds[0]] * envs.num_envs  # Gymnasium types it as one int, its implementations take a list
    for slot in np.flatnonzero(mask).tolist():
        if pending:
            episodes[slot] = pending.popleft()
            slot_seeds[slot] = seeds[episodes[slot]]
    observations, infos = envs.reset(seed=slot_seeds, options={"reset_mask": mask})
    started = {}
    for (slot, episode), info in zip(episodes.items(), slot_infos(infos, list(episodes)), strict=True):
        started[slot] = History(
            task=info.get(InfoKey.TASK, ""),
            observation=observations[slot],
            admissible_commands=tuple(info.get(InfoKey.ADMISSIBLE_COMMANDS, ())),
            task_id=info.get(InfoKey.TASK_ID, ""),
            task_type=info.get(InfoKey.TASK_TYPE, ""),
            seed=slot_seeds[slot],
            episode=episode,
            expert_action=info.get(InfoKey.EXPERT_ACTION),
        )
    return started


def slot_infos(infos: Mapping[str, Any], slots: Sequence[int]) -> list[dict[str, Any]]:
    """The ``info`` of each of ``slots``, taken out of a vectorised environment's ``infos``, as plain JSON-like values.

    A key without a ``_key`` mask beside it, as some wrappers leave it, counts as present in every slot.
    """
    taken: list[dict[str, Any]] = [{} for _ in slots]
    for key, values in infos.items():
        if key.startswith("_"):
            continue
        mask = infos.get(f"_{key}")
        if isinstance(values, Mapping):
            column: Sequence[Any] = slot_infos(values, slots)
        else:
            column = [_plain(values[slot]) for slot in slots]
        for info, slot, value in zip(taken, slots, column, strict=True):
            if mask is None or mask[slot]:
                info[key] = value
    return taken


def _json_like(value: Any) -> Any:
    """Tuples as lists, so that a trajectory read back from a file equals the one that was written."""
    return list(value) if isinstance(value, tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    return value.tolist() if isinstance(value, np.ndarray) else value
