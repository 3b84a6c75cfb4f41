"""The act/step loop: the only place where agents meet environments.

It keeps every slot of a vectorised environment busy, writes an episode the moment it ends, and continues a file that a
killed run left behind. An agent sees one batch of histories a tick; slots with nothing left to play are stepped along
with an empty command and recorded nowhere. Several vectorised environments have ticks of their own, so that an agent
that waits for a server does not wait for the slowest of all replies.
"""

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from tqdm import tqdm

from agentgym_prm.agents.core import Agent
from agentgym_prm.envs.core import finished_step, opening_history, slot_infos
from agentgym_prm.errors import StoreError
from agentgym_prm.rewards.core import OUTCOME, reward_parts, rewarded_step
from agentgym_prm.rewards.wrappers import announce
from agentgym_prm.store import TrajectoryWriter, read_trajectories
from agentgym_prm.types import Action, History, Step, Trajectory

NO_OP: Final = ""
_SHARED_BY_NOBODY: Final = nullcontext()
_PATIENCE: Final = 0.1
"""Seconds that a thread is given to end before its agent is told again to give up."""


def collect(
    agent: Agent,
    envs: VectorEnv[Any, Any, Any] | Sequence[VectorEnv[Any, Any, Any]],
    seeds: Sequence[int],
    *,
    numbers: Sequence[int] | None = None,
    path: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> list[Trajectory]:
    """Play one episode for each seed and return them all, ordered by episode number.

    Arguments and errors are those of ``stream``; episodes that ``path`` already holds are returned with the others.
    """
    done = {t.episode: t for t in _stored(path, _numbered(seeds, numbers))} if resume else {}
    playing = stream(agent, envs, seeds, numbers=numbers, path=path, resume=resume, progress=progress)
    done |= {trajectory.episode: trajectory for trajectory in playing}
    return [done[episode] for episode in sorted(done)]


def stream(
    agent: Agent,
    envs: VectorEnv[Any, Any, Any] | Sequence[VectorEnv[Any, Any, Any]],
    seeds: Sequence[int],
    *,
    numbers: Sequence[int] | None = None,
    path: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Iterator[Trajectory]:
    """Play one episode for each seed and yield each as it ends: only running episodes are held in memory.

    Args:
        agent: Who plays.
        envs: A vectorised text environment without autoreset: ``gym.make_vec(id, num_envs=N)``, or Gymnasium's Sync and
            Async ones with ``autoreset_mode=AutoresetMode.DISABLED``. Not closed here. Several are played side by side,
            each by a thread that asks the agent for its slots alone (``evaluate.playing_envs``): for agents that wait.
        seeds: One for each episode, integers from 0 on; a seed may occur several times (a group of rollouts of one
            task), the agent then sees another ``History.episode``.
        numbers: The episode number of each seed, distinct; by default 0, 1, 2, …. An agent's draws depend on seed and
            number, so a trainer counts on from batch to batch, and several processes can share one batch.
        path: JSONL file that each finished episode is appended to before it is yielded.
        resume: Continue ``path``: episodes in it are neither played again nor yielded.
        progress: Show a bar with rate and time left on standard error, if that is a terminal.

    Raises (when the first episode is asked for):
        FileExistsError: ``path`` has content and ``resume`` is false.
        StoreError: ``path`` holds episodes of another run, or one twice.
        ValueError: ``envs`` resets by itself; ``numbers`` repeat, or are not one for each seed; a wrapper outside of a
            step reward changed the reward.
    """
    several = [envs] if isinstance(envs, VectorEnv) else list(envs)
    for each in several:
        if each.metadata.get("autoreset_mode") != AutoresetMode.DISABLED:
            raise ValueError(
                "collecting needs autoreset off, else an action is lost per episode: pass "
                f"autoreset_mode=AutoresetMode.DISABLED (got {each.metadata.get('autoreset_mode')})"
            )
    plan = _numbered(seeds, numbers)
    done = {trajectory.episode for trajectory in _stored(path, plan)} if resume else set()
    pending = deque((episode, seed) for episode, seed in plan.items() if episode not in done)
    if not pending:
        return
    with ExitStack() as stack:
        writer = stack.enter_context(TrajectoryWriter(path, resume=resume)) if path is not None else None
        bar = stack.enter_context(
            tqdm(
                total=len(plan), initial=len(done), unit="episode", desc=agent.name, disable=None if progress else True
            )
        )
        played = _play(agent, several[0], pending) if len(several) == 1 else _play_apart(agent, several, pending)
        for trajectory in played:
            if writer is not None:
                writer.write(trajectory)
            bar.update()
            yield trajectory


def _numbered(seeds: Sequence[int], numbers: Sequence[int] | None) -> dict[int, int]:
    """The seed of each episode, by its number, in the order in which they are to be played."""
    seeds = [int(seed) for seed in seeds]
    numbers = range(len(seeds)) if numbers is None else [int(number) for number in numbers]
    if len(numbers) != len(seeds) or len(set(numbers)) != len(numbers) or min(numbers, default=0) < 0:
        raise ValueError(
            f"numbers must be {len(seeds)} distinct integers from 0 on, one for each seed, "
            f"got {len(numbers)}, {len(set(numbers))} of them distinct: {list(numbers)!r:.80}"
        )
    return dict(zip(numbers, seeds, strict=True))


def _stored(path: str | Path | None, plan: Mapping[int, int]) -> Iterator[Trajectory]:
    """The episodes that an earlier run left in ``path``, checked against the seeds of ``plan``."""
    if path is None or not Path(path).exists():
        return
    seen = set()
    for trajectory in read_trajectories(path):
        episode = trajectory.episode
        if episode in seen:
            raise StoreError(f"{path} holds episode {episode} twice: did two processes write to it?")
        seen.add(episode)
        if plan.get(episode) != trajectory.seed:
            here = f"seed {plan[episode]} here" if episode in plan else f"it is none of the {len(plan)} here"
            raise StoreError(f"{path} belongs to another run: episode {episode} has seed {trajectory.seed}, but {here}")
        yield trajectory


def _play_apart(
    agent: Agent, several: Sequence[VectorEnv[Any, Any, Any]], pending: deque[tuple[int, int]]
) -> Iterator[Trajectory]:
    """As ``_play`` for several, each in a thread of its own.

    Only the agent is asked at the same time: environments are stepped one after the other, as they may share what they
    have read. When one fails, the others stop at their next step, and episodes that ended until then are yielded first.
    """
    ended: SimpleQueue[Trajectory | BaseException | None] = SimpleQueue()
    alone, stopped = threading.Lock(), threading.Event()

    def play(envs: VectorEnv[Any, Any, Any]) -> None:
        try:
            for trajectory in _play(agent, envs, pending, alone, stopped):
                ended.put(trajectory)
        except BaseException as error:  # raised again below, in the thread that collects
            stopped.set()
            ended.put(error)
        finally:
            ended.put(None)

    threads = [threading.Thread(target=play, args=(envs,), name="rollout", daemon=True) for envs in several]
    for thread in threads:
        thread.start()
    running, failure = len(threads), None
    try:
        while running and failure is None:
            each = ended.get()
            if isinstance(each, Trajectory):
                yield each
            elif each is None:
                running -= 1
            else:
                failure = each
    finally:
        # The caller will close the environments: nobody may step them any more.
        stopped.set()
        for thread in threads:
            while thread.is_alive():
                agent.give_up()  # again and again: one may just have begun to wait
                thread.join(_PATIENCE)
    if failure is not None:
        while not ended.empty():
            if isinstance(each := ended.get(), Trajectory):
                yield each
        raise failure


def _play(
    agent: Agent,
    envs: VectorEnv[Any, Any, Any],
    pending: deque[tuple[int, int]],
    alone: AbstractContextManager[Any] = _SHARED_BY_NOBODY,
    stopped: threading.Event | None = None,
) -> Iterator[Trajectory]:
    """Yield each episode as it ends, until none is pending or running, or until ``stopped``."""
    with alone:
        running = _start(envs, np.ones(envs.num_envs, dtype=np.bool_), pending)
    while running and not (stopped and stopped.is_set()):
        slots = sorted(running)
        actions = dict(zip(slots, agent.act([running[slot] for slot in slots]), strict=True))
        with alone:
            ended = _tick(envs, running, actions, pending)
        yield from ended


def _tick(
    envs: VectorEnv[Any, Any, Any],
    running: dict[int, History],
    actions: Mapping[int, Action],
    pending: deque[tuple[int, int]],
) -> list[Trajectory]:
    """Step all slots, keep ``running`` up to date, and return the episodes that ended."""
    commands = [actions[slot].command if slot in actions else NO_OP for slot in range(envs.num_envs)]
    announce(envs, actions)
    observations, rewards, terminated, truncated, infos = envs.step(commands)
    finished = terminated | truncated
    ended = []
    slots = list(actions)
    for slot, info in zip(slots, slot_infos(infos, slots), strict=True):
        history = running[slot]
        step = _step(history, actions[slot], float(rewards[slot]), terminated[slot], truncated[slot], info)
        if finished[slot]:
            del running[slot]
            ended.append(_trajectory(history, step, observations[slot]))
        else:
            running[slot] = history.after(step, observations[slot], info)
    if finished.any():
        running |= _start(envs, finished, pending)
    return ended


def _step(
    history: History, action: Action, reward: float, terminated: bool, truncated: bool, info: Mapping[str, Any]
) -> Step:
    """The finished turn, with the environment's own reward kept apart from what reward wrappers added."""
    terms, info = reward_parts(reward, info)
    step = finished_step(history, action, reward=terms[OUTCOME], terminated=terminated, truncated=truncated, info=info)
    return rewarded_step(step, terms) if len(terms) > 1 else step


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
    envs: VectorEnv[Any, Any, Any], mask: NDArray[np.bool_], pending: deque[tuple[int, int]]
) -> dict[int, History]:
    """Reset the marked slots, give each the next pending episode while there are any, and return these by slot."""
    episodes: dict[int, int] = {}
    slot_seeds: Any = [0] * envs.num_envs  # Gymnasium types it as one int, its implementations take a list
    for slot in np.flatnonzero(mask).tolist():
        if pending:
            episodes[slot], slot_seeds[slot] = pending.popleft()
    observations, infos = envs.reset(seed=slot_seeds, options={"reset_mask": mask})
    return {
        slot: opening_history(observations[slot], info, seed=slot_seeds[slot], episode=episodes[slot])
        for slot, info in zip(episodes, slot_infos(infos, list(episodes)), strict=True)
    }
